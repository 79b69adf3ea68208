"""What every reader of Bragg peaks does: rows in blocks, errors that name file and dataset."""

from abc import ABC, abstractmethod
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.peaks.bragg_peaks import BraggPeaks, require_finite, require_rows

Block = tuple[
    NDArray[np.int64],  # offsets (N + 1,), from 0 to P
    NDArray[np.floating[Any]],  # qx (P,), 1/Angstrom
    NDArray[np.floating[Any]],  # qy (P,), 1/Angstrom
    NDArray[np.floating[Any]],  # intensity (P,)
]


class PeakReader(ABC):
    """A file of Bragg peaks, read a block of scan rows at a time; a context manager.

    A pickled reader opens its file again, under the same path, where it is unpickled.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    source : str
        Path of the peaks within the file.
    scan_shape, scan_step, scan_units, qr_calibrated
        As in `BraggPeaks`.
    description : dict
        What there is to tell about the file: ``format``; ``found``, a dict of the calibration values in the
        file as text; ``applied``, a list of the steps that lead from stored to returned peaks, in order.
    """

    path: Path
    source: str
    scan_shape: tuple[int, int]
    scan_step: float
    scan_units: str
    qr_calibrated: bool
    description: dict[str, Any]
    options: dict[str, Any]
    """The arguments of `microinfer.open_peaks` that it was opened with, beside the path."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self.path = Path(file.filename)
        self.options = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path.resolve()), self.options)

    @abstractmethod
    def _read_block(self, start: int, stop: int) -> Block:
        """Read and calibrate the scan rows ``start`` to ``stop - 1``."""

    def read_rows(self, start: int, stop: int) -> BraggPeaks:
        """Read the scan rows ``start`` to ``stop - 1``. Needs memory for these rows alone.

        Parameters
        ----------
        start, stop : int
            ``0 <= start < stop <= Rx``.

        Returns
        -------
        BraggPeaks
            Of the scan shape (stop - start, Ry).

        Raises
        ------
        ValueError
            For rows outside the scan, and for peaks that are NaN or infinite.
        OSError
            Where the file is damaged.
        """
        require_rows(start, stop, self.scan_shape[0])
        if not self._file:
            raise ValueError(f"{self.path}: the reader is closed")
        columns = self.scan_shape[1]
        try:
            offsets, *values = self._read_block(start, stop)
            with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite and is refused as such
                qx, qy, intensity = (value.astype(np.float32, copy=False) for value in values)
            for name, value in (("qx", qx), ("qy", qy), ("intensity", intensity)):
                require_finite(name, value, offsets, columns, first_row=start)
        except ValueError as error:
            raise ValueError(f"{self.path}: {self.source}: {error}") from error
        except (OSError, RuntimeError) as error:  # h5py raises either for a damaged file
            raise OSError(f"{self.path}: cannot read {self.source}: {error}") from error
        return BraggPeaks(
            offsets,
            qx,
            qy,
            intensity,
            (stop - start, columns),
            self.scan_step,
            self.scan_units,
            self.qr_calibrated,
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_hdf5(path: str | PathLike[str]) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    OSError
        Where the file is missing, a folder, unreadable, or a damaged HDF5 file.
    ValueError
        Where it is no HDF5 file.
    """
    with Path(path).open("rb"):
        pass  # Python's own errors for a missing file, a folder and a lacking permission are the clearest
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not h5py.is_hdf5(path):
            raise ValueError(f"{path} is not an HDF5 file") from error
        reason = (
            "truncated" if "truncated" in str(error) else "damaged, or still open in a program that writes it"
        )
        raise OSError(f"{path} is {reason}: {error}") from error


def _reopen(path: str, options: dict[str, Any]) -> PeakReader:
    from microinfer.peaks import open_peaks

    return open_peaks(path, **options)
