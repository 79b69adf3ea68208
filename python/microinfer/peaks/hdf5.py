"""Readers of HDF5 files: opened once, closed with the reader, damage told apart from other errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from microinfer.peaks.reader import PeakReader


class Hdf5Reader(PeakReader):
    """A reader that keeps an HDF5 file open.

    Parameters
    ----------
    file : h5py.File
        Open for reading; closed with the reader.
    """

    def __init__(self, file: h5py.File) -> None:
        super().__init__(file.filename)
        self._file = file

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()


def is_hdf5(path: Path) -> bool:
    """Whether a file is in HDF5, complete or not."""
    return bool(h5py.is_hdf5(path))


@contextmanager
def hdf5_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for a reader to keep; it is closed where the block fails.

    Raises
    ------
    OSError
        Where the file cannot be opened, and where h5py meets damage in the block.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        cut = "truncated" in str(error)
        reason = "truncated" if cut else "damaged, or still open in a program that writes it"
        raise OSError(f"{path} is {reason}: {error}") from error
    try:
        yield file
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises any of them for a damaged file
        file.close()
        raise OSError(f"{path} is damaged: {error}") from error
    except BaseException:
        file.close()
        raise
