"""The Bragg peaks of a scan: one ragged, flat container in calibrated units."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer.peaks.scan import PeakSource, Scan

if TYPE_CHECKING:
    from py4DSTEM import BraggVectors


@dataclass(frozen=True, eq=False, init=False)
class BraggPeaks(PeakSource):
    """Calibrated Bragg peaks of a scan, ragged and flat.

    The peaks of scan position ``n = rx * Ry + ry`` are ``offsets[n]`` to ``offsets[n + 1]`` of the flat
    arrays. Positions are measured from the direct beam, in 1/Angstrom without 2 pi: `qx` along detector
    axis 0 (down the image), `qy` along axis 1 (right).

    Attributes
    ----------
    offsets : ndarray of int64, shape (N + 1,)
        Where the peaks of each of the N = Rx Ry scan positions start, row by row; begins with 0, ends with P.
    qx, qy : ndarray of float32, shape (P,)
        Positions in 1/Angstrom.
    intensity : ndarray of float32, shape (P,)
        Intensities, in the units of the detection.
    scan : Scan
        The scan they come from; given as (Rx, Ry) where nothing but its shape is known.

    Raises
    ------
    ValueError
        Where shapes do not fit, offsets decrease, or a value is NaN or infinite; the message names the
        argument and the first scan position concerned.
    TypeError
        Where an array does not hold real numbers, or `offsets` no integers.
    """

    offsets: NDArray[np.int64]
    qx: NDArray[np.float32]
    qy: NDArray[np.float32]
    intensity: NDArray[np.float32]
    scan: Scan

    def __init__(
        self,
        offsets: ArrayLike,
        qx: ArrayLike,
        qy: ArrayLike,
        intensity: ArrayLike,
        scan: Scan | tuple[int, int],
    ) -> None:
        scan = Scan.of(scan)
        ends = _offsets(offsets, scan.shape[0] * scan.shape[1])
        object.__setattr__(self, "scan", scan)
        object.__setattr__(self, "offsets", ends)
        for name, given in (("qx", qx), ("qy", qy), ("intensity", intensity)):
            values = _real(name, given)
            if values.shape != (ends[-1],):
                raise ValueError(
                    f"{name} must have the shape ({ends[-1]},), as offsets end there, got {values.shape}"
                )
            require_finite(name, values, ends, scan.shape[1])
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        """Return the number of scan positions, N."""
        return self.scan_shape[0] * self.scan_shape[1]

    def __repr__(self) -> str:
        peaks = f"{self.n_peaks:,} peaks, {self.n_peaks / len(self):.1f} a position"
        reach = np.hypot(self.qx, self.qy).max(initial=0.0)
        return f"BraggPeaks({self.scan}, {peaks}, to {reach:.2f} 1/Å)"

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of peaks at each scan position, shape (N,)."""
        return np.diff(self.offsets)

    @property
    def n_peaks(self) -> int:
        """Number of peaks of the whole scan, P."""
        return len(self.qx)

    def pattern(self, rx: int, ry: int) -> NDArray[np.float32]:
        """Return the peaks at one scan position.

        Parameters
        ----------
        rx, ry : int
            Scan position.

        Returns
        -------
        ndarray of float32, shape (n, 3)
            Columns qx and qy in 1/Angstrom, intensity.
        """
        if not (0 <= rx < self.scan_shape[0] and 0 <= ry < self.scan_shape[1]):
            raise ValueError(f"scan position ({rx}, {ry}) lies outside the scan of shape {self.scan_shape}")
        first, last = self.offsets[rx * self.scan_shape[1] + ry :][:2]
        return np.stack([self.qx[first:last], self.qy[first:last], self.intensity[first:last]], axis=1)

    def read_rows(self, start: int, stop: int) -> "BraggPeaks":
        """Return the scan rows ``start`` to ``stop - 1``: views, no copies of the peaks.

        Parameters
        ----------
        start, stop : int
            ``0 <= start < stop <= Rx``.

        Returns
        -------
        BraggPeaks
            Of the scan shape (stop - start, Ry).
        """
        require_rows(start, stop, self.scan_shape[0])
        columns = self.scan_shape[1]
        offsets = self.offsets[start * columns : stop * columns + 1]
        inside = slice(offsets[0], offsets[-1])
        scan = self.scan.rows(stop - start)
        return BraggPeaks(
            offsets - offsets[0], self.qx[inside], self.qy[inside], self.intensity[inside], scan
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the peaks to a native HDF5 file, which `microinfer.read_peaks` opens.

        Parameters
        ----------
        path : path-like
            File to write; an existing one is replaced once the new one is complete.
        """
        from microinfer.peaks.native import write_peaks

        write_peaks(path, self)

    @classmethod
    def from_py4dstem(
        cls,
        vectors: "BraggVectors",
        *,
        pixel_size: float | None = None,
        voltage: float | str | None = None,
    ) -> "BraggPeaks":
        """Calibrate BraggVectors of py4DSTEM 0.14: the peaks that `microinfer.read_peaks` reads from their file.

        All that their calibration holds is applied, as in a file: what ``setcal`` switched off is not saved, and
        counts as little here.

        Parameters
        ----------
        vectors : py4DSTEM.BraggVectors
            Left as they are.
        pixel_size : float, optional
            Size of a detector pixel in 1/Angstrom, in place of Q_pixel_size and Q_pixel_units.
        voltage : float or str, optional
            Accelerating voltage in kilovolts or volts, in place of what py4DSTEM's metadata say of it.

        Returns
        -------
        BraggPeaks
            Copies; later changes in py4DSTEM do not reach them.

        Raises
        ------
        ValueError
            Where the calibration to 1/Angstrom is missing or malformed, and for peaks that are NaN or infinite.
            The message says what to give.
        TypeError
            For anything but BraggVectors.
        """
        from microinfer.peaks.py4dstem import peaks_in_memory

        return peaks_in_memory(vectors, pixel_size, voltage)

    @classmethod
    def from_patterns(cls, patterns: Sequence[ArrayLike], scan: Scan | tuple[int, int]) -> "BraggPeaks":
        """Join one array of peaks per scan position.

        Parameters
        ----------
        patterns : sequence of array-like, each of shape (n, 3)
            Columns qx and qy in 1/Angstrom, intensity; one array per scan position, row by row. An empty
            sequence stands for a position without peaks.
        scan : Scan or tuple of int
            As in `BraggPeaks`.

        Returns
        -------
        BraggPeaks
        """
        arrays = [np.asarray(pattern) for pattern in patterns]
        arrays = [array.reshape(0, 3) if array.size == 0 else array for array in arrays]
        for n, array in enumerate(arrays):
            if array.ndim != 2 or array.shape[1] != 3:
                raise ValueError(f"patterns[{n}] must have the shape (n, 3), got {array.shape}")
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        table = _real("patterns", np.concatenate(arrays) if arrays else np.zeros((0, 3)))
        return cls(offsets, table[:, 0], table[:, 1], table[:, 2], scan)


def require_rows(start: int, stop: int, rows: int) -> None:
    """Raise ValueError unless ``0 <= start < stop <= rows``."""
    if not 0 <= start < stop <= rows:
        raise ValueError(f"rows must satisfy 0 <= start < stop <= {rows}, got start={start}, stop={stop}")


def require_finite(
    name: str, values: NDArray[np.floating[Any]], offsets: NDArray[np.int64], columns: int, first_row: int = 0
) -> None:
    """Raise ValueError, naming the first scan position concerned, unless all values are finite.

    Parameters
    ----------
    name : str
        What the values are, for the message.
    values : ndarray, shape (P,)
    offsets : ndarray of int64, shape (N + 1,)
        Offsets of the scan positions into `values`.
    columns : int
        Ry, the scan positions per row.
    first_row : int
        Scan row at which the block begins.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    bad = int(np.argmin(finite))
    rx, ry = divmod(int(np.searchsorted(offsets, bad, side="right")) - 1, columns)
    raise ValueError(f"{name} must be finite, got {values[bad]} at scan position ({rx + first_row}, {ry})")


def _offsets(values: ArrayLike, positions: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"offsets must be integers, got {array.dtype}")
    if array.shape != (positions + 1,):
        raise ValueError(
            f"offsets must have the shape ({positions + 1},), one more than scan positions, got {array.shape}"
        )
    offsets = np.ascontiguousarray(array, np.int64)
    if offsets[0] != 0:
        raise ValueError(f"offsets must begin with 0, got {offsets[0]}")
    steps = np.diff(offsets)
    if steps.min() < 0:
        bad = int(np.argmax(steps < 0))
        raise ValueError(
            f"offsets must not decrease, got {offsets[bad]} before {offsets[bad + 1]} at index {bad}"
        )
    return offsets


def _real(name: str, values: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite and is refused as such
        return np.ascontiguousarray(array, np.float32)
