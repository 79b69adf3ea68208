"""Readers of HDF5 files: opened once, closed with the reader."""

from microinfer.hdf5 import InputFile
from microinfer.peaks.reader import PeakReader


class Hdf5Reader(PeakReader):
    """A reader that keeps an HDF5 file open.

    Parameters
    ----------
    file : InputFile
        Closed with the reader.
    """

    def __init__(self, file: InputFile) -> None:
        super().__init__(file.path)
        self._file = file

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()
