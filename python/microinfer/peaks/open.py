"""Opening a file of Bragg peaks, whichever its format."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np

from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.native import NativeReader, PeakWriter, is_native
from microinfer.peaks.py4dstem import open_py4dstem
from microinfer.peaks.reader import PeakReader, open_hdf5

_BLOCK_POSITIONS = 65536  # scan positions held as records at a time


def open_peaks(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    calibrated: bool = False,
    pixel_size: float | None = None,
) -> PeakReader:
    """Open a file of Bragg peaks, to be read in blocks of scan rows.

    Three kinds of files are known: BraggVectors of py4DSTEM 0.14 and 0.13, whose calibration is applied as
    0.14's own ``bv.cal`` does; point lists of py4DSTEM 0.13, which carry no calibration; the form that `write_peaks`
    writes.

    Parameters
    ----------
    path : path-like
        HDF5 file.
    name : str, optional
        Which peaks, where the file has several: a group's name, or its path within the file.
    calibrated : bool
        True states that point lists without calibration hold peaks in 1/Angstrom, measured from the direct
        beam.
    pixel_size : float, optional
        Size of a detector pixel in 1/Angstrom, in place of the file's Q_pixel_size and Q_pixel_units.

    Returns
    -------
    PeakReader
        To be closed, or used in a ``with`` statement.

    Raises
    ------
    ValueError
        Where the file is not HDF5, has no Bragg peaks or several and no `name`, lacks the calibration to
        1/Angstrom, or where an argument does not fit the kind of file. The message says what to give.
    OSError
        Where the file is missing or damaged.
    """
    if calibrated and pixel_size is not None:
        raise ValueError(
            "calibrated=True says that the peaks are in 1/Angstrom already: pixel_size must not be given"
        )
    file = open_hdf5(path)
    try:
        if not is_native(file):
            reader = open_py4dstem(file, name, calibrated, pixel_size)
            reader.options = {"name": name, "calibrated": calibrated, "pixel_size": pixel_size}
            return reader
        if name is not None or pixel_size is not None:
            given = "name" if name is not None else "pixel_size"
            raise ValueError(f"{path}: {given} must not be given for peaks that microinfer wrote")
        return NativeReader(file)
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises any of them for a damaged file
        file.close()
        raise OSError(f"{path} is damaged: {error}") from error
    except BaseException:
        file.close()
        raise


def read_peaks(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    calibrated: bool = False,
    pixel_size: float | None = None,
) -> BraggPeaks:
    """Read all Bragg peaks of a file.

    Parameters
    ----------
    path, name, calibrated, pixel_size
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
    with open_peaks(path, name=name, calibrated=calibrated, pixel_size=pixel_size) as reader:
        rows, columns = reader.scan_shape
        step = max(1, _BLOCK_POSITIONS // columns)
        blocks = [reader.read_rows(start, min(start + step, rows)) for start in range(0, rows, step)]
        if len(blocks) == 1:
            return blocks[0]
        counts = np.concatenate([block.counts for block in blocks])
        return BraggPeaks(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([block.qx for block in blocks]),
            np.concatenate([block.qy for block in blocks]),
            np.concatenate([block.intensity for block in blocks]),
            reader.scan_shape,
            reader.scan_step,
            reader.scan_units,
            reader.qr_calibrated,
        )


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
    if Path(path).exists() and Path(path).samefile(reader.path):
        raise ValueError(f"{path}: the copy would replace the scan")
    rows, columns = reader.scan_shape
    step = max(1, _BLOCK_POSITIONS // columns)
    with PeakWriter(
        path, reader.scan_shape, reader.scan_step, reader.scan_units, reader.qr_calibrated
    ) as writer:
        for start in range(0, rows, step):
            block = reader.read_rows(start, min(start + step, rows))
            writer.write_rows(block)
            advance(len(block))
