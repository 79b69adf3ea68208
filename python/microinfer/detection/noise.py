"""How much a correlation fluctuates where there is no disk, measured on the frames themselves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.detection.kernel import Kernel

BINS = 24  # of the expected variance
ROUNDS = 8
FEWEST = 12  # pixels of a circle whose median is taken
FEW, ALIKE = (
    0.2,
    1.3,
)  # share of the pairs that differ least; how much more others may differ: the rest differ by disks
ROUNDING = 1e-10  # of the largest variance: less is that of float32's digits
CLIPPED = 3.0  # standard deviations: what differs by more differs by its disks


@dataclass(frozen=True)
class Noise:
    """Variance of a correlation: ``gain * (the frame's counts, each with the kernel's square) + floor``.

    Attributes
    ----------
    gain : float
        Counts for one electron, as far as the noise tells.
    floor : float
        Variance of the correlation without any electron; negative where pixels without any hold an offset.
    """

    gain: float
    floor: float

    def deviation(
        self, correlation: NDArray[np.floating[Any]], background: NDArray[np.floating[Any]], kernel: Kernel
    ) -> NDArray[np.float64]:
        """Standard deviation of the correlations of disks, by their own counts and those of the background a pixel."""
        below = np.maximum(self.gain * background * kernel.square + self.floor, 0.0)
        return np.asarray(np.sqrt(self.gain * (self.gain + np.maximum(correlation, 0.0)) + below))


def halo_correlation(
    correlations: NDArray[np.float32],
    centre: NDArray[np.float64],
    good: NDArray[np.bool_],
    radius: float,
) -> NDArray[np.float32]:
    """What the diffuse rings around the direct beam correlate with a disk, in the mean of some frames.

    A ring of amorphous or thermal scattering is bent: the kernel takes away only what changes linearly over it.

    Parameters
    ----------
    correlations : ndarray of float32, shape (N, Qx, Qy)
    centre : ndarray, shape (2,)
        Of the direct beam, in pixels.
    good : ndarray of bool, shape (Qx, Qy)
        Pixels that count.
    radius : float
        Of a disk, in pixels.

    Returns
    -------
    ndarray of float32, shape (Qx, Qy)
        The median along each circle, which its disks do not change, and never below 0; 0 near the direct beam.
    """
    rows, columns = np.indices(good.shape)
    distance = np.rint(np.hypot(rows - centre[0], columns - centre[1])).astype(np.int64)
    profile = np.zeros(int(distance.max()) + 1)
    for circle in range(int(np.ceil(2.5 * radius)), len(profile)):
        pixels = (distance == circle) & good
        if pixels.sum() >= FEWEST:
            profile[circle] = np.median(correlations[:, pixels], axis=1).mean()
    halo: NDArray[np.float32] = np.maximum(profile, 0.0)[distance].astype(np.float32)
    return halo


def measure_noise(
    frames: NDArray[np.float32],
    correlations: NDArray[np.float32],
    kernel: Kernel,
    good: NDArray[np.bool_],
    paired: bool,
) -> Noise:
    """Measure the noise on some frames.

    The variance is that of the difference of neighbouring frames, which share their disks: of the pairs that differ
    least, and with what differs by far more clipped. Its two parts are told apart by the counts: pixels are put into
    bins of the variance to expect of their own frames for one count an electron, and a line is fitted to what the bins
    show.

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
    own = kernel.spread(frames)
    single = _fitted(correlations[:, good] ** 2, own[:, good], kernel)
    if not paired:
        return single
    values = (correlations[1::2] - correlations[::2]) / np.sqrt(2.0)
    own = (own[1::2] + own[::2]) / 2.0
    pairs = _fitted(values[:, good] ** 2, own[:, good], kernel)
    level = float(own[:, good].mean())
    return min(pairs, single, key=lambda noise: noise.gain * level + noise.floor)


def _fitted(squares: NDArray[np.float32], own: NDArray[np.float32], kernel: Kernel) -> Noise:
    """The noise that fits the squares of what should be 0, with what is expected of them for one count an electron."""
    ratio = squares.mean(1) / np.maximum(own.mean(1), 1e-30)
    alike = ratio <= ALIKE * np.quantile(ratio, FEW)
    squares, own = squares[alike].ravel(), own[alike].ravel()
    edges = np.quantile(own, np.linspace(0.0, 1.0, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, own)
    counts = np.maximum(np.bincount(bins, minlength=BINS), 1)
    x = np.bincount(bins, own, BINS) / counts
    # one electron more or less, which may be all that there is: never clipped
    electron = float(np.sum(squares)) / max(float(np.sum(own)), 1e-30) * kernel.highest
    limit = np.full(len(squares), np.inf)
    expected = x
    for _ in range(ROUNDS):
        gain, floor = _line(x, np.bincount(bins, np.minimum(squares, limit), BINS) / counts, expected)
        expected = np.maximum(gain * x + floor, 1e-3 * gain * x)
        limit = np.maximum(CLIPPED**2 * (gain * own + floor), electron**2 / 2.0)
    return Noise(gain, floor)


def _line(
    x: NDArray[np.float64], y: NDArray[np.float64], expected: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope, not negative, and height of the line with the smallest errors relative to what is expected."""
    kept = (expected > 0) & (y > ROUNDING * y.max())  # of sparse frames: without any electron
    if not kept.any():
        return 0.0, float(np.mean(y))
    x, y = x[kept], y[kept]
    weight = 1.0 / np.maximum(expected[kept], y)  # what is above may be disks that differ
    columns = np.stack([x * weight, weight], axis=1)
    scale = np.linalg.norm(columns, axis=0)
    (slope, height), *_ = np.linalg.lstsq(columns / scale, y * weight, 1e-9)
    slope, height = slope / scale[0], height / scale[1]
    if slope < 0:
        return 0.0, float(np.mean(y))
    return float(slope), float(height)
