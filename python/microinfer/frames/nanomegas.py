"""NanoMEGAS' ``.blo``: a header, an image of the scan, and frames of bytes."""

from pathlib import Path

import numpy as np

from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import Axis, FrameOptions, Stated
from microinfer.frames.stored import Records, plain_record, whole_records
from microinfer.peaks.metadata import find_voltage

_HEADER = np.dtype(
    {
        "names": [
            "id",
            "frames_at",
            "size",
            "columns",
            "rows",
            "step_x",
            "step_y",
            "voltage",
            "per_cm",
            "length",
        ],
        "formats": ["S6", "<u4", "<u2", "<u2", "<u2", "<f8", "<f8", "<u4", "<u2", "<u4"],
        "offsets": [0, 12, 20, 24, 26, 30, 38, 46, 50, 52],
        "itemsize": 56,
    }
)
_FRAME_HEADER = 6  # a mark and a number


def is_blo(path: Path) -> bool:
    """Whether a file begins as NanoMEGAS' do."""
    with path.open("rb") as file:
        return file.read(6) == b"IMGBLO"


def open_blo(path: Path, options: FrameOptions) -> FrameReader:
    """Open a NanoMEGAS file; errors as in `microinfer.open_frames`."""
    header = np.fromfile(path, _HEADER, 1)
    if not len(header):
        raise OSError(f"{path} ends within its header: it was cut short")
    header = header[0]
    shape = int(header["rows"]), int(header["columns"])
    record = plain_record((int(header["size"]),) * 2, np.dtype("u1"), _FRAME_HEADER)
    part = whole_records(path, int(header["frames_at"]), record, shape[0] * shape[1])
    voltage = find_voltage([("voltage", int(header["voltage"]))])
    # pixels in a centimetre of the screen, in hundredths; the camera length in tenths of a millimetre
    per_metre = float(header["per_cm"])
    angle = 1e4 / (per_metre * float(header["length"])) if per_metre and header["length"] else 0.0
    stated = Stated(
        shape,
        (Axis(float(header["step_y"]), "nm"), Axis(float(header["step_x"]), "nm")),
        (Axis(angle, "rad"),),
        voltage,
    )
    return FrameReader(path, "NanoMEGAS blockfile", Records([part], record), stated, options)
