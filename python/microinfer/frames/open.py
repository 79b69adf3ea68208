"""Opening a file of frames, whichever its format. A new format is a function of two and a row of `FORMATS`."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from microinfer.file_kinds import FileKind, file_kind, require_kind
from microinfer.frames.empad import is_empad, open_empad
from microinfer.frames.hdf5 import (
    has_bragg_vectors,
    has_datacube,
    is_hyperspy,
    open_emd,
    open_hyperspy,
)
from microinfer.frames.merlin import is_mib, open_mib
from microinfer.frames.mrc import is_mrc, open_mrc
from microinfer.frames.nanomegas import is_blo, open_blo
from microinfer.frames.nexus import is_nexus, open_nexus
from microinfer.frames.numpy_file import is_npy, open_npy
from microinfer.frames.reader import FrameReader
from microinfer.frames.rosetta import is_known, open_by_rosettasciio
from microinfer.frames.stated import FrameOptions
from microinfer.frames.tvips import is_tvips, open_tvips
from microinfer.hdf5 import is_hdf5, named


class Format(NamedTuple):
    """A kind of file that holds frames."""

    name: str
    hdf5: bool
    recognises: Callable[[Path], bool]
    open: Callable[[Path, FrameOptions], FrameReader]


_ROSETTA = Format(
    "Gatan (.dm3, .dm4), TIFF, TIA (.ser, .emi), HyperSpy in zarr (.zspy)",
    False,
    is_known,
    open_by_rosettasciio,
)
FORMATS = (
    Format("HyperSpy (.hspy)", True, is_hyperspy, open_hyperspy),
    Format("DECTRIS or NeXus (HDF5)", True, is_nexus, open_nexus),
    Format("py4DSTEM or EMD (HDF5)", True, has_datacube, open_emd),
    Format("Velox (.emd)", True, is_known, open_by_rosettasciio),
    Format("NumPy (.npy)", False, is_npy, open_npy),
    Format("Merlin (.mib)", False, is_mib, open_mib),
    Format("NanoMEGAS (.blo)", False, is_blo, open_blo),
    Format("TVIPS (.tvips)", False, is_tvips, open_tvips),
    Format("EMPAD (.xml, .raw)", False, is_empad, open_empad),
    _ROSETTA,
    Format("MRC (.mrc)", False, is_mrc, open_mrc),
)
"""The first that recognises a file opens it."""


def open_frames(
    path: str | PathLike[str],
    *,
    scan_shape: tuple[int, int] | None = None,
    pixel_size: float | None = None,
    step: float | str | None = None,
    voltage: float | str | None = None,
    name: str | None = None,
) -> FrameReader:
    """Open a camera's file of frames, to be read in blocks of scan rows.

    What the file states of the scan is taken. What is given here wins, with a warning where the two disagree.

    Parameters
    ----------
    path : path-like
        The file; the page "From your camera's file" lists the formats.
    scan_shape : tuple of int, optional
        (rows, columns) of the scan, for files that do not state it.
    pixel_size : float, optional
        Size of a detector pixel in 1/Angstrom.
    step : float or str, optional
        Distance of neighbouring scan positions in nanometres, or with its unit: ``"25 A"``.
    voltage : float or str, optional
        Accelerating voltage in kilovolts or volts.
    name : str, optional
        Which frames, where the file has several sets.

    Returns
    -------
    FrameReader
        A `FrameSource`, to be closed, or used in a ``with`` statement.

    Raises
    ------
    ValueError
        Where the file is of no known format, has no frames or several sets and no `name`, where frames are missing or
        the scan's shape is not known or does not fit. The message says what to give.
    OSError
        Where the file is missing or damaged.
    ImportError
        Where a format takes a package that is not installed; the message names it.
    """
    path = Path(path)
    options = FrameOptions(scan_shape, pixel_size, step, voltage, name)
    known = _format(path)
    if known is None:
        require_kind(path, FileKind.FRAMES, FileKind.PY4DSTEM, FileKind.HDF5)
        if is_hdf5(path) and has_bragg_vectors(path):
            raise ValueError(f"{path} has Bragg peaks, not frames: microinfer map takes it as it is")
        raise ValueError(
            f"{path} has no frames in a format that is known: {', '.join(f.name for f in FORMATS)}"
        )
    with named(path):
        return known.open(path, options)


def is_frames(path: str | PathLike[str]) -> bool:
    """Whether a file looks like frames rather than like Bragg peaks; one with both counts as peaks.

    Raises
    ------
    OSError
        Where there is no such file, or it cannot be read.
    """
    path = Path(path)
    known = _format(path)
    return known is not None and not (known.hdf5 and has_bragg_vectors(path))


def _format(path: Path) -> Format | None:
    if path.is_dir():
        return _ROSETTA if path.suffix.lower() == ".zspy" else None
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    with path.open("rb"):
        pass  # Python's own errors for a missing file and a lacking permission are the clearest
    if file_kind(path) in (FileKind.EMPTY, FileKind.PEAKS, FileKind.MAP, FileKind.LIBRARY):
        return None
    hdf5 = is_hdf5(path)
    return next((known for known in FORMATS if known.hdf5 is hdf5 and known.recognises(path)), None)
