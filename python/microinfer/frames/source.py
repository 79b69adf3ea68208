"""What every source of a scan's diffraction patterns has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from microinfer.peaks.scan import OfScan, Scan

BLOCK_BYTES = 32 << 20  # of frames that are read at a time


class FrameSource(OfScan, ABC):
    """The frames of a scan, read a block of scan rows at a time; a context manager.

    Attributes
    ----------
    scan : Scan
        Shape and step of the scan, and the voltage where it is known.
    frame_shape : tuple of int
        (Qx, Qy), the detector's pixels down and across the image.
    dtype : numpy.dtype
        Of the counts, as they are stored.
    pixel_size : float or None
        1/Angstrom per detector pixel, None where it is not known.
    mask : ndarray of bool, shape (Qx, Qy), or None
        Pixels that the file itself marks as without a right signal.
    """

    scan: Scan
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixel_size: float | None = None
    mask: NDArray[np.bool_] | None = None

    @abstractmethod
    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return the frames of the scan rows ``start`` to ``stop - 1``, shape (stop - start, Ry, Qx, Qy)."""

    @property
    def block_rows(self) -> int:
        """Scan rows that make up about `BLOCK_BYTES`."""
        row = self.scan_shape[1] * int(np.prod(self.frame_shape)) * self.dtype.itemsize
        return max(1, BLOCK_BYTES // row)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Read the whole scan, a block of rows at a time."""
        rows = self.scan_shape[0]
        for start in range(0, rows, self.block_rows):
            yield self.read_rows(start, min(start + self.block_rows, rows))

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Frames(FrameSource):
    """Frames in memory, or in anything that is indexed like an array.

    Parameters
    ----------
    array : array_like, shape (Rx, Ry, Qx, Qy)
        A NumPy array, a memory map or an HDF5 dataset of real numbers.
    scan : Scan, optional
        What is known of the scan; its shape must be the array's.
    pixel_size : float, optional
        1/Angstrom per detector pixel.

    Raises
    ------
    ValueError
        Where the array has not four dimensions, or another scan shape.
    """

    def __init__(self, array: Any, scan: Scan | None = None, pixel_size: float | None = None) -> None:
        if len(array.shape) != 4:
            raise ValueError(f"frames must have the shape (Rx, Ry, Qx, Qy), got {tuple(array.shape)}")
        self.scan = Scan((array.shape[0], array.shape[1])) if scan is None else scan
        if self.scan.shape != tuple(array.shape[:2]):
            raise ValueError(
                f"frames of {tuple(array.shape[:2])} positions do not fit a scan of {self.scan.shape}"
            )
        self.frame_shape = (int(array.shape[2]), int(array.shape[3]))
        self.dtype = np.dtype(array.dtype)
        self.pixel_size = pixel_size
        self._array = array

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return the frames of the scan rows ``start`` to ``stop - 1``, shape (stop - start, Ry, Qx, Qy)."""
        return np.asarray(self._array[start:stop])
