"""NumPy's ``.npy``."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from microinfer.frames.reader import FrameReader, StoredFrames
from microinfer.frames.stated import FrameOptions, Stated
from microinfer.frames.stored import ArrayFrames, Records, plain_record, whole_records

_FORMAT: Any = np.lib.format  # whose functions have no types


def is_npy(path: Path) -> bool:
    """Whether a file begins as NumPy's do."""
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def open_npy(path: Path, options: FrameOptions) -> FrameReader:
    """Open an array of a scan, of frames or of one frame; errors as in `microinfer.open_frames`."""
    with path.open("rb") as file:
        try:
            first = _FORMAT.read_magic(file) == (1, 0)
            read = _FORMAT.read_array_header_1_0 if first else _FORMAT.read_array_header_2_0
            shape, spread, dtype = read(file)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        offset = file.tell()
    if not 2 <= len(shape) <= 4 or dtype.hasobject or dtype.names:
        raise ValueError(
            f"{path}: frames are wanted, numbers of the shape (rows, columns, Qx, Qy), (frames, Qx, Qy) or (Qx, Qy), "
            f"got {dtype} of the shape {shape}"
        )
    frames: StoredFrames
    if spread:  # in Fortran's order a frame is spread over the file, which is mapped
        frames = ArrayFrames(np.load(path, mmap_mode="r"))
    else:
        record, count = plain_record(shape[-2:], dtype), math.prod(shape[:-2])
        part = whole_records(path, offset, record, count)
        frames = Records([part], record, missing=count - part.records)
    return FrameReader(path, "NumPy array", frames, Stated(shape[:2] if len(shape) == 4 else None), options)
