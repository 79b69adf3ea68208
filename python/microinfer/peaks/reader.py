"""What every reader of Bragg peaks does: rows in blocks, errors that name file and dataset."""

from abc import abstractmethod
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from microinfer.hdf5 import named
from microinfer.peaks.bragg_peaks import BraggPeaks, require_finite, require_rows
from microinfer.peaks.pixels import PixelCalibration
from microinfer.peaks.scan import PeakSource, Scan

Block = tuple[
    NDArray[np.int64],  # offsets (N + 1,), from 0 to P
    NDArray[np.floating[Any]],  # qx (P,), 1/Angstrom
    NDArray[np.floating[Any]],  # qy (P,), 1/Angstrom
    NDArray[np.floating[Any]],  # intensity (P,)
]


class OpenOptions(NamedTuple):
    """What a user may say of a file; as in `microinfer.open_peaks`."""

    name: str | None = None
    calibrated: bool = False
    pixel_size: float | None = None
    voltage: float | str | None = None
    in_pixels: bool = False


class PeakReader(PeakSource):
    """A file of Bragg peaks, read a block of scan rows at a time; a context manager.

    A pickled reader opens its file again, under the same path, where it is unpickled.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    source : str
        Path of the peaks within the file.
    scan : Scan
    description : dict
        What there is to tell about the file: ``format``; ``found``, a dict of the calibration values in the
        file as text; ``applied``, a list of the steps that lead from stored to returned peaks, in order.
    pixel_size : float or None
        1/Angstrom per detector pixel, where the stored peaks are in pixels.
    known : PixelCalibration
        What the file says of the way from the peaks as they are stored to 1/Angstrom, and what was given in its place.
    camera : float or None
        How far the camera reaches from the direct beam to its edges, on average, in 1/Angstrom.
    phases : tuple of str
        Names of the crystal phases, where the file states them.
    options : OpenOptions
        With which it was opened.
    """

    source: str
    scan: Scan
    description: dict[str, Any]
    pixel_size: float | None = None
    known: PixelCalibration
    camera: float | None = None
    phases: tuple[str, ...] = ()

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.options = OpenOptions()
        self.closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.scan})"

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
        if self.closed:
            raise ValueError(f"{self.path}: the reader is closed")
        with named(self.path, self.source):
            offsets, *values = self._read_block(start, stop)
            with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite and is refused as such
                qx, qy, intensity = (value.astype(np.float32, copy=False) for value in values)
            for name, value in (("qx", qx), ("qy", qy), ("intensity", intensity)):
                require_finite(name, value, offsets, self.scan_shape[1], first_row=start)
        return BraggPeaks(offsets, qx, qy, intensity, self.scan.rows(stop - start))

    def close(self) -> None:
        """Close the file."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reopen(path: str, options: OpenOptions) -> PeakReader:
    from microinfer.peaks import open_peaks

    return open_peaks(path, **options._asdict())
