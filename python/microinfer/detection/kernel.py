"""The kernel that frames are correlated with: template, removal of the background and smoothing in one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from microinfer import _core
from microinfer.detection.probe import Probe, distance_from
from microinfer.detection.settings import DetectionSettings


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel in Fourier space, for frames padded to (Px, Py).

    Attributes
    ----------
    before : ndarray of complex64, shape (Px, Py)
        Multiplies a frame's transform.
    after : ndarray of float32, shape (Px, Py), or None
        Multiplies it once more, after its absolute values were raised to corrPower; None where that is 1.
    """

    before: NDArray[np.complex64]
    after: NDArray[np.float32] | None

    @property
    def square(self) -> float:
        """Sum of the squares of the kernel's pixels: variance of the correlation for pixels of variance 1."""
        return float(np.sum(np.abs(self.before) ** 2, dtype=np.float64) / self.before.size)

    @property
    def highest(self) -> float:
        """The kernel's highest pixel: what one count gives at most."""
        return float(np.fft.ifft2(self.before).real.max())

    def spread(self, variance: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Variance of the correlation (N, Qx, Qy), for independent pixels of a variance (N, Qx, Qy)."""
        rows, columns = variance.shape[1:]
        square = np.fft.ifft2(self.before).real ** 2
        transform = np.conj(fft.rfft2(square.astype(np.float32)))
        padding = [
            (0, 0),
            *((0, full - size) for full, size in zip(square.shape, (rows, columns), strict=True)),
        ]
        padded = np.pad(variance.astype(np.float32, copy=False), padding, mode="edge")
        spread: NDArray[np.float32] = fft.irfft2(fft.rfft2(padded) * transform, square.shape)[
            :, :rows, :columns
        ]
        return spread


def make_kernel(probe: Probe, settings: DetectionSettings) -> Kernel:
    """Return the kernel of a template.

    It is the template less a ring around it, so that its sum is zero and a background that changes slowly gives
    nothing, scaled so that a disk like the template gives its counts. Against a difference of Gaussians, which does the
    same, the ring ends early: a strong disk hides fewer weak ones near it.

    Parameters
    ----------
    probe : Probe
    settings : DetectionSettings
    """
    shape = tuple(_core.transform_length(size) for size in probe.frame_shape)
    middle = tuple(size // 2 for size in probe.frame_shape)

    def transform(image: NDArray[np.floating[Any]]) -> NDArray[np.complex128]:
        padded = np.zeros(shape)
        padded[: image.shape[0], : image.shape[1]] = image
        result: NDArray[np.complex128] = np.conj(
            np.fft.fft2(np.roll(padded, (-middle[0], -middle[1]), (0, 1)))
        )
        return result

    inner, outer = probe.ring
    distance = distance_from(middle, probe.frame_shape)
    ring = np.clip(distance - inner + 0.5, 0.0, 1.0) * np.clip(outer - distance + 0.5, 0.0, 1.0)
    template = transform(probe.image)
    before = template - transform(ring / ring.sum())
    square = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1])[None] ** 2
    before = before * np.exp(-2.0 * np.pi**2 * settings.sigma_dp**2 * square)
    after = np.exp(-2.0 * np.pi**2 * settings.sigma_cc**2 * square)
    if settings.corrPower != 1.0:
        return Kernel(np.ascontiguousarray(before, np.complex64), np.ascontiguousarray(after, np.float32))
    before = before * after
    counts = np.sum(before * np.conj(template)).real / before.size
    return Kernel(np.ascontiguousarray(before / counts, np.complex64), None)
