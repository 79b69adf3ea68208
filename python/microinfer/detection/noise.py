"""How much a correlation fluctuates where there is no disk, measured on the frames themselves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from microinfer.detection.kernel import Kernel

BINS = 24  # of the expected variance
ROUNDS = 8
CLIPPED = 3.0  # standard deviations: what differs by more differs by its disks


@dataclass(frozen=True, eq=False)
class Noise:
    """Variance of a correlation: ``gain * (mean frame correlated with the kernel's square) + floor``.

    Attributes
    ----------
    gain : float
        Counts for one electron, as far as the noise tells.
    floor : float
        Variance of the correlation without any electron.
    deviation : ndarray of float32, shape (Qx, Qy)
        Standard deviation of the correlation at each pixel.
    """

    gain: float
    floor: float
    deviation: NDArray[np.float32]


def measure_noise(
    frames: NDArray[np.float32],
    correlations: NDArray[np.float32],
    kernel: Kernel,
    good: NDArray[np.bool_],
    paired: bool,
) -> Noise:
    """Measure the noise on some frames.

    The variance is that of the difference of neighbouring frames, which share most of their disks; what differs by far
    more is clipped. Its two parts are told apart by the counts: pixels are put into bins of the variance to expect of
    their own frames for one count an electron, and a line is fitted to what the bins show.

    Parameters
    ----------
    frames : ndarray of float32, shape (N, Qx, Qy)
        Pixels that do not count filled in.
    correlations : ndarray of float32, shape (N, Qx, Qy)
    kernel : Kernel
    good : ndarray of bool, shape (Qx, Qy)
        Pixels that count.
    paired : bool
        As in `Sample`.

    Returns
    -------
    Noise
    """
    own = _expected(frames, kernel)
    if paired:
        values, own_variance = (
            (correlations[1::2] - correlations[::2]) / np.sqrt(2.0),
            (own[1::2] + own[::2]) / 2.0,
        )
    else:
        values, own_variance = correlations, own
    squares, own_variance = values[:, good].ravel() ** 2, own_variance[:, good].ravel()
    edges = np.quantile(own_variance, np.linspace(0.0, 1.0, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, own_variance)
    counts = np.maximum(np.bincount(bins, minlength=BINS), 1)
    x = np.bincount(bins, own_variance, BINS) / counts
    limit = np.full(len(squares), np.inf)
    gain, floor = 0.0, 0.0
    for _ in range(ROUNDS):
        typical = np.bincount(bins, np.minimum(squares, limit), BINS) / counts
        gain, floor = _line(x, typical)
        limit = CLIPPED**2 * (gain * own_variance + floor)
    expected = _expected(frames.mean(0, dtype=np.float64)[None], kernel)[0]
    return Noise(gain, floor, np.sqrt(gain * expected + floor).astype(np.float32))


def _expected(frames: NDArray[np.floating[Any]], kernel: Kernel) -> NDArray[np.float32]:
    """Variance of the correlation, for pixels whose variance is what they hold."""
    rows, columns = frames.shape[1:]
    transform = np.conj(kernel.squared)
    result = np.empty(frames.shape, np.float32)
    for frame, out in zip(frames, result, strict=True):
        padded = np.full(kernel.before.shape, max(float(frame.mean()), 0.0))
        padded[:rows, :columns] = frame
        out[:] = np.maximum(np.fft.ifft2(np.fft.fft2(padded) * transform).real[:rows, :columns], 0.0)
    return result


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and height, neither negative, of the line with the smallest relative errors."""
    kept = y > 0
    if not kept.any():
        return 0.0, 0.0
    (slope, height), _ = nnls(
        np.stack([x[kept], np.ones(kept.sum())], axis=1) / y[kept, None], np.ones(kept.sum())
    )
    return float(slope), float(height)
