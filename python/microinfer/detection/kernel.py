"""The kernel that frames are correlated with: template, smoothing and removal of the background in one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microinfer import _core
from microinfer.detection.probe import Probe
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
    def squared(self) -> NDArray[np.complex128]:
        """Transform of the kernel's square: takes the variance of independent pixels to that of the correlation."""
        image = np.fft.ifft2(self.before).real
        squared: NDArray[np.complex128] = np.fft.fft2(image**2)
        return squared


def make_kernel(probe: Probe, settings: DetectionSettings) -> Kernel:
    """Return the kernel of a template.

    With corrPower 1 it is ``conj(T) (G(sigma) - G(sigma_background))``, T the template's transform and G Gaussians: a
    matched filter whose sum is zero, scaled so that a disk like the template gives its counts.

    Parameters
    ----------
    probe : Probe
    settings : DetectionSettings
    """
    rows, columns = (_core.transform_length(size) for size in probe.frame_shape)
    image = np.zeros((rows, columns))
    image[: probe.frame_shape[0], : probe.frame_shape[1]] = probe.image
    image = np.roll(image, (-(probe.frame_shape[0] // 2), -(probe.frame_shape[1] // 2)), (0, 1))
    template = np.conj(np.fft.fft2(image))
    square = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.fftfreq(columns)[None] ** 2

    def gaussian(sigma: float) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.exp(-2.0 * np.pi**2 * sigma**2 * square)
        return result

    broad = 2.0 * probe.radius if settings.sigma_background is None else settings.sigma_background
    background = gaussian(broad) if np.isfinite(broad) else np.where(square == 0, 1.0, 0.0)
    before: NDArray[np.complex128] = template * (gaussian(settings.sigma_dp) - background)
    after = gaussian(settings.sigma_cc)
    if settings.corrPower != 1.0:
        return Kernel(before.astype(np.complex64), after.astype(np.float32))
    before = before * after
    counts = np.sum(before * np.conj(template)).real / before.size
    return Kernel((before / counts).astype(np.complex64), None)
