"""TVIPS' ``.tvips``: a stream of frames with headers, in files numbered from ``_000`` on."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import FrameOptions, Stated
from microinfer.frames.stored import Part, Records, plain_record, whole_records
from microinfer.peaks.metadata import find_voltage

_HEADER = np.dtype(
    {
        "names": ["length", "version", "columns", "rows", "bits", "voltage", "frame_header"],
        "formats": ["<u4"] * 7,
        "offsets": [0, 4, 8, 12, 16, 40, 48],
        "itemsize": 52,
    }
)
_FRAME_HEADERS = {1: 12}  # bytes, of versions that do not say
_POSITION_AT = 48  # of the number of the scan position in a frame's header
_NUMBERED = re.compile(r"(.*_)(\d{3})")


def is_tvips(path: Path) -> bool:
    """Whether a file is TVIPS' by its name."""
    return path.suffix.lower() == ".tvips"


def open_tvips(path: Path, options: FrameOptions) -> FrameReader:
    """Open a stream of TVIPS; errors as in `microinfer.open_frames`."""
    numbered = _NUMBERED.fullmatch(path.stem)
    if numbered and int(numbered[2]):
        first = path.with_name(f"{numbered[1]}000{path.suffix}")
        raise ValueError(f"{path} is a later part of a stream, which begins in {first.name}: give that")
    header = np.fromfile(path, _HEADER, 1)
    if not len(header):
        raise OSError(f"{path} ends within its header: it was cut short")
    header = header[0]
    if header["version"] not in (1, 2) or header["bits"] not in (8, 16):
        raise ValueError(
            f"{path} is no stream of TVIPS that is known: version 1 or 2 and 8 or 16 bits are, got version "
            f"{header['version']} and {header['bits']} bits"
        )
    frame_header = _FRAME_HEADERS.get(int(header["version"]), int(header["frame_header"]))
    shape = int(header["rows"]), int(header["columns"])
    record = plain_record(shape, np.dtype(f"<u{header['bits'] // 8}"), frame_header)
    parts = [whole_records(path, int(header["length"]), record)]
    while numbered and (more := path.with_name(f"{numbered[1]}{len(parts):03d}{path.suffix}")).exists():
        parts.append(whole_records(more, 0, record))
    skip, count = 0, sum(part.records for part in parts)
    wanted = options.scan_shape and options.scan_shape[0] * options.scan_shape[1]
    if wanted and wanted < count and frame_header >= _POSITION_AT + 4:
        skip, count = _scanned(parts, record.itemsize)
    stated = Stated(voltage=find_voltage([("voltage", int(header["voltage"]))]))
    return FrameReader(path, "TVIPS stream", Records(parts, record, skip=skip, count=count), stated, options)


def _scanned(parts: list[Part], length: int) -> tuple[int, int]:
    """The first frame of the scan and how many there are: those while the number of the position rises."""
    numbers = np.concatenate([_positions(part, length) for part in parts]).astype(np.int64)
    (rises,) = np.nonzero(np.diff(numbers) > 0)
    if not len(rises):
        return 0, len(numbers)
    first = int(rises[0]) + int(numbers[rises[0]] == 0)
    return first, int(rises[-1]) + 2 - first


def _positions(part: Part, length: int) -> NDArray[np.uint32]:
    record = np.dtype({"names": ["n"], "formats": ["<u4"], "offsets": [_POSITION_AT], "itemsize": length})
    frames = np.memmap(part.path, record, "r", part.offset, part.records)
    return np.array(frames["n"])
