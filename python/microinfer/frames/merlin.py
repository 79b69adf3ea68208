"""Merlin's ``.mib``: each frame behind a header of text, and the acquisition in a ``.hdr`` beside it."""

from pathlib import Path
from typing import Any

import numpy as np

from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import FrameOptions, ScanShape, Stated
from microinfer.frames.stored import Records, plain_record, whole_records

_COUNTS: dict[str, np.dtype[Any]] = {"U08": np.dtype("u1"), "U16": np.dtype(">u2"), "U32": np.dtype(">u4")}


def is_mib(path: Path) -> bool:
    """Whether a file begins as Merlin's do."""
    with path.open("rb") as file:
        return file.read(4) == b"MQ1,"


def open_mib(path: Path, options: FrameOptions) -> FrameReader:
    """Open a Merlin file; errors as in `microinfer.open_frames`.

    The rows of a frame stand in the file from the lowest to the highest, as HyperSpy has it.
    """
    with path.open("rb") as file:
        fields = file.read(384).decode("latin-1").split(",")
    try:
        header, columns, rows, depth = int(fields[2]), int(fields[4]), int(fields[5]), fields[6].strip()
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: its first header is damaged: {error}") from error
    if depth not in _COUNTS:
        raise ValueError(
            f"{path}: its frames are raw counters ({depth}), expected {', '.join(_COUNTS)}: "
            "have Merlin save processed frames"
        )
    record = plain_record((rows, columns), _COUNTS[depth], header)
    about = _read_hdr(path)
    part = whole_records(path, 0, record)
    announced = _number(about, "Frames in Acquisition (Number)") or part.records
    frames = Records([part], record, upside_down=True, missing=max(0, announced - part.records))
    return FrameReader(path, "Merlin MIB", frames, Stated(_scan_shape(about)), options)


def _read_hdr(path: Path) -> dict[str, str]:
    beside = path.with_suffix(".hdr")
    if not beside.is_file():
        return {}
    lines = (line.partition("\t") for line in beside.read_text("latin-1").splitlines())
    return {name.rstrip(":"): value.strip() for name, _, value in lines}


def _scan_shape(about: dict[str, str]) -> ScanShape | None:
    columns, rows = _number(about, "ScanX"), _number(about, "ScanY")
    if columns and rows:
        return rows, columns
    frames = _number(about, "Frames in Acquisition (Number)")
    row = _number(about, "Frames per Trigger (Number)")  # of a trigger for every row
    return (frames // row, row) if frames and row and row > 1 and frames % row == 0 else None


def _number(about: dict[str, str], name: str) -> int | None:
    value = about.get(name, "")
    return int(value) if value.isdigit() else None
