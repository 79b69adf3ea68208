"""Disks in blocks of frames, by the core: what probe, noise, mask and settings come to for every frame of a scan."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from microinfer import _core
from microinfer.detection.kernel import Kernel, make_kernel
from microinfer.detection.noise import Noise
from microinfer.detection.probe import Probe, distance_from
from microinfer.detection.settings import SUBPIXEL, DetectionSettings

FILL = 6  # pixels that count, whose mean takes the place of one that does not
HALF = 0.5  # of a disk that must count
CORE_TYPES = tuple(np.dtype(name) for name in ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"))


class Disks(NamedTuple):
    """Disks of N frames, strongest correlation first; positions in detector pixels."""

    offsets: NDArray[np.int64]  # (N + 1,)
    x: NDArray[np.float32]  # (P,), along axis 0
    y: NDArray[np.float32]  # (P,), along axis 1
    correlation: NDArray[np.float32]  # (P,), scaled to counts
    intensity: NDArray[np.float32]  # (P,), counts within the radius, less the background
    background: NDArray[np.float32]  # (P,), counts a pixel around

    def where(self, kept: NDArray[np.bool_]) -> "Disks":
        """Those of the disks that are `kept`, bool of shape (P,)."""
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        return Disks(offsets, *(values[kept] for values in self[1:]))


class Detector:
    """Finds the disks of frames.

    Parameters
    ----------
    probe : Probe
    settings : DetectionSettings
    good : ndarray of bool, shape (Qx, Qy)
        Pixels that count. The others take the mean of good ones near; no disk lies on them, nor where they are more
        than half of it.
    noise : Noise, optional
        What `min_snr` is measured by; it is for nothing without.

    Attributes
    ----------
    probe : Probe
    settings : DetectionSettings
    good : ndarray of bool, shape (Qx, Qy)
    kernel : Kernel
    halo : ndarray of float32, shape (Qx, Qy), or None
        What diffuse rings add to a correlation: a disk must stand out of them.

    Raises
    ------
    ValueError
        Where no pixel counts.
    """

    def __init__(
        self,
        probe: Probe,
        settings: DetectionSettings,
        good: NDArray[np.bool_],
        noise: Noise | None = None,
    ) -> None:
        self.probe, self.settings, self.good = probe, settings, good
        self._noise = noise
        self.halo: NDArray[np.float32] | None = None
        self.kernel: Kernel = make_kernel(probe, settings)
        self._fill = _fill(good)
        spacing = probe.radius if settings.minPeakSpacing is None else settings.minPeakSpacing
        spec = _core.DiskSpec(
            radius=probe.extent,
            background_inner=probe.ring[0] + 0.5,  # clear of the edge
            background_outer=probe.ring[1],
            min_snr=0.0 if noise is None else settings.min_snr,
            gain=0.0 if noise is None else noise.gain,
            kernel_square=self.kernel.square,
            noise_floor=0.0 if noise is None else noise.floor,
            min_relative=settings.minRelativeIntensity,
            relative_to=int(settings.relativeToPeak),
            min_spacing=spacing,
            max_disks=int(settings.maxNumPeaks),
            correlation_power=settings.corrPower,
            subpixel=SUBPIXEL[settings.subpixel],
        )
        self._core = _core.DiskDetector(
            floor=self._floor(noise),
            good=np.ascontiguousarray(good),
            fill=self._fill,
            before=self.kernel.before,
            after=self.kernel.after,
            spec=spec,
        )

    def _floor(self, noise: Noise | None) -> NDArray[np.float32]:
        """What a maximum must exceed at each pixel; infinite where there is to be none."""
        least = self.settings.minAbsoluteIntensity
        if noise is not None:  # what passes without any background
            gain, square = noise.gain, self.settings.min_snr**2
            constant = square * (gain**2 + max(noise.floor, 0.0))
            least = max(least, 0.5 * square * gain + np.sqrt((0.5 * square * gain) ** 2 + constant))
        floor = np.full(self.good.shape, least * (1.0 - 1e-5), np.float32)
        given = self.settings.edgeBoundary
        edge = int(np.ceil(self.probe.radius if given is None else given))
        inside = np.zeros(floor.shape, np.bool_)
        inside[edge : floor.shape[0] - edge, edge : floor.shape[1] - edge] = True
        if not self.good.all():
            size = int(np.ceil(self.probe.radius))
            disk = distance_from((size, size), (2 * size + 1, 2 * size + 1)) <= self.probe.radius
            share = ndimage.convolve(self.good.astype(np.float64), disk / disk.sum(), mode="nearest")
            inside &= self.good & (share >= HALF)
        floor[~inside] = np.inf
        return floor

    def find(self, frames: NDArray[np.generic]) -> Disks:
        """Find the disks of the frames of scan rows, (R, Ry, Qx, Qy); N = R Ry.

        Raises
        ------
        _core.NotFiniteError
            Where a pixel that counts is NaN or infinite; its argument is the frame's number.
        """
        offsets, table = self._core.find(core_array(frames))
        disks = Disks(offsets, *table)
        if self.halo is None or self._noise is None:
            return disks
        below = self.halo[np.rint(disks.x).astype(np.int64), np.rint(disks.y).astype(np.int64)]
        deviation = self._noise.deviation(disks.correlation, disks.background, self.kernel)
        return disks.where(disks.correlation - below >= self.settings.min_snr * deviation)

    def correlate(self, frames: NDArray[np.generic]) -> NDArray[np.float32]:
        """Correlate the frames of scan rows, (R, Ry, Qx, Qy), with the kernel; errors as `find`."""
        return self._core.correlate(core_array(frames))

    def filled(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames (N, Qx, Qy) with the pixels that do not count filled in."""
        if self.good.all():
            return frames
        result = frames.copy()
        result[:, ~self.good] = frames.reshape(len(frames), -1)[:, self._fill].mean(-1)
        return result


def core_array(frames: NDArray[np.generic]) -> NDArray[np.generic]:
    """The frames as the core takes them: as they are where they can be, else as float32."""
    native = frames.dtype.newbyteorder("=")
    return np.ascontiguousarray(frames, native if native in CORE_TYPES else np.float32)


def _fill(good: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flat indices (M, n) of the good pixels nearest to each of the M that are not."""
    if good.all():
        return np.zeros((0, 1), np.int64)
    if not good.any():
        raise ValueError("the mask leaves no pixel of the frames")
    pixels, others = np.argwhere(good), np.argwhere(~good)
    count = min(FILL, len(pixels))
    _, nearest = cKDTree(pixels).query(others, count)
    flat: NDArray[np.int64] = np.ravel_multi_index(tuple(pixels.T), good.shape)[nearest.reshape(-1, count)]
    return np.ascontiguousarray(flat, np.int64)
