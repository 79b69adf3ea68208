"""MRC: a header of a kilobyte, and frames one after another."""

from pathlib import Path

import numpy as np

from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import FrameOptions, Stated
from microinfer.frames.stored import Records, plain_record, whole_records

_MODES = {0: "u1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_HEADER = 1024
_STAMP_AT = 212  # says the byte order
_EXTENDED_AT = 92  # the length of what follows the header


def is_mrc(path: Path) -> bool:
    """Whether a file is one of MRC by its name, or by the word ``MAP`` in its header."""
    if path.suffix.lower() in (".mrc", ".mrcs"):
        return True
    with path.open("rb") as file:
        return file.read(_HEADER)[208:212] == b"MAP "


def open_mrc(path: Path, options: FrameOptions) -> FrameReader:
    """Open an MRC file; errors as in `microinfer.open_frames`. Its lengths are of images, and not read."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < _HEADER:
        raise OSError(f"{path} ends within its header: it was cut short")
    order = ">" if header[_STAMP_AT] == 0x11 else "<"
    columns, rows, count, mode = (int(n) for n in np.frombuffer(header, f"{order}u4", 4))
    if mode not in _MODES:
        raise ValueError(
            f"{path}: its numbers are of mode {mode}, expected real ones, of the modes {', '.join(map(str, _MODES))}"
        )
    record = plain_record((rows, columns), np.dtype(order + _MODES[mode]))
    extended = int(np.frombuffer(header, f"{order}u4", 1, _EXTENDED_AT)[0])
    part = whole_records(path, _HEADER + extended, record, count)
    frames = Records([part], record, missing=count - part.records)
    return FrameReader(path, "MRC", frames, Stated(), options)
