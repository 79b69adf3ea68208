"""Opening a file of Bragg peaks, whichever its format. A new format is a module and a row of `FORMATS`."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from microinfer.file_kinds import FileKind, require_kind
from microinfer.files import require_distinct
from microinfer.hdf5 import is_hdf5
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.native import PeakWriter, is_native, open_native
from microinfer.peaks.py4dstem import open_py4dstem
from microinfer.peaks.reader import OpenOptions, PeakReader


class Format(NamedTuple):
    """A kind of file that holds Bragg peaks."""

    name: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path, OpenOptions], PeakReader]


FORMATS = (
    Format("an HDF5 file of microinfer's peaks", is_native, open_native),
    Format("an HDF5 file of py4DSTEM 0.13 or 0.14", is_hdf5, open_py4dstem),
)
"""The first that recognises a file opens it; the last row takes any HDF5 file and says what it lacks."""


def open_peaks(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    calibrated: bool = False,
    pixel_size: float | None = None,
    voltage: float | str | None = None,
    in_pixels: bool = False,
) -> PeakReader:
    """Open a file of Bragg peaks, to be read in blocks of scan rows.

    These are known: BraggVectors of py4DSTEM 0.14 and 0.13, whose calibration is applied as
    0.14's own ``bv.cal`` does; point lists of py4DSTEM 0.13, which carry no calibration; the form that `write_peaks`
    writes.

    Parameters
    ----------
    path : path-like
        The file.
    name : str, optional
        Which peaks, where the file has several: a group's name, or its path within the file.
    calibrated : bool
        True states that point lists without calibration hold peaks in 1/Angstrom, measured from the direct
        beam.
    pixel_size : float, optional
        Size of a detector pixel in 1/Angstrom, in place of the file's Q_pixel_size and Q_pixel_units.
    voltage : float or str, optional
        Accelerating voltage in kilovolts or volts, in place of what the file's metadata say of it.
    in_pixels : bool
        True leaves the peaks as they are stored, uncalibrated: for `microinfer.peaks.calibrate.calibrate`.

    Returns
    -------
    PeakReader
        To be closed, or used in a ``with`` statement.

    Raises
    ------
    ValueError
        Where the file is of no known format, has no Bragg peaks or several and no `name`, lacks the calibration to
        1/Angstrom, or where an argument does not fit the kind of file. The message says what to give.
    OSError
        Where the file is missing or damaged.
    """
    if calibrated and pixel_size is not None:
        raise ValueError(
            "calibrated=True says that the peaks are in 1/Angstrom already: pixel_size must not be given"
        )
    path, options = Path(path), OpenOptions(name, calibrated, pixel_size, voltage, in_pixels)
    with path.open("rb"):
        pass  # Python's own errors for a missing file, a folder and a lacking permission are the clearest
    require_kind(path, FileKind.PEAKS, FileKind.PY4DSTEM, FileKind.HDF5)
    for known in FORMATS:
        if known.recognises(path):
            reader = known.open(path, options)
            reader.options = options
            return reader
    raise ValueError(f"{path} is not {', nor '.join(known.name for known in FORMATS)}")


def read_peaks(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    calibrated: bool = False,
    pixel_size: float | None = None,
    voltage: float | str | None = None,
) -> BraggPeaks:
    """Read all Bragg peaks of a file.

    Parameters
    ----------
    path, name, calibrated, pixel_size, voltage
        As in `open_peaks`.

    Returns
    -------
    BraggPeaks
        Calibrated, in 1/Angstrom.

    Raises
    ------
    ValueError, OSError
        As in `open_peaks` and `PeakReader.read_rows`.
    """
    with open_peaks(path, name=name, calibrated=calibrated, pixel_size=pixel_size, voltage=voltage) as reader:
        blocks = list(reader.blocks())
        if len(blocks) == 1:
            return blocks[0]
        counts = np.concatenate([block.counts for block in blocks])
        qx, qy, intensity = (
            np.concatenate([getattr(block, name) for block in blocks]) for name in ("qx", "qy", "intensity")
        )
        return BraggPeaks(np.concatenate([[0], np.cumsum(counts)]), qx, qy, intensity, reader.scan)


def convert_peaks(
    reader: PeakReader, path: str | PathLike[str], advance: Callable[[int], None] = lambda positions: None
) -> None:
    """Copy a file of Bragg peaks to a native one, calibrated, in constant memory.

    A map of the copy is the map of the original.

    Parameters
    ----------
    reader : PeakReader
        From `open_peaks`.
    path : path-like
        File to write; an existing one is replaced once the new one is complete.
    advance : callable, optional
        Told how many scan positions are done.

    Raises
    ------
    ValueError
        Where `path` is the file that is read, and as in `PeakReader.read_rows`.
    OSError
        Where a file cannot be read or written; nothing half-written stays.
    """
    require_distinct({"the copy": path}, {"the scan": reader.path})
    with PeakWriter(path, reader.scan) as writer:
        for block in reader.blocks():
            writer.write_rows(block)
            advance(len(block))
