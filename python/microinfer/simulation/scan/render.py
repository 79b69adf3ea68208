"""Frames of Bragg disks: soft-edged disks over a background, seen by a camera."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ive

from microinfer.crystals.diffraction import electron_wavelength
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.scan.grains import PIXELS, generator
from microinfer.simulation.scan.settings import ScanSettings

_ENTRIES = 16384  # of a profile by the square of the radius
_EDGE = 4.5  # standard deviations of the soft edge beyond which a disk has ended
_STEP = 0.5  # square pixels, of the background by the square of the radius
SATURATION = 65535


class DiskProfile:
    """A uniform disk with a soft edge (its convolution with a Gaussian), by the square of the radius.

    Parameters
    ----------
    radius, edge : float
        Of the disk and standard deviation of its edge, in pixels.
    """

    def __init__(self, radius: float, edge: float) -> None:
        self.reach = radius + _EDGE * edge
        r = np.sqrt((np.arange(_ENTRIES) + 0.5) * self.reach**2 / _ENTRIES)
        if radius < 1e-3:
            values = np.exp(-0.5 * (r / edge) ** 2)
        else:
            s = (np.arange(256) + 0.5) * radius / 256
            nodes = np.linspace(0.0, self.reach, 1024)
            gauss = np.exp(-0.5 * ((nodes[:, None] - s) / edge) ** 2)
            values = np.interp(r, nodes, (s * gauss * ive(0, nodes[:, None] * s / edge**2)).sum(axis=1))
        self._values = np.append(values, 0.0).astype(np.float32)
        self._scale = np.float32(_ENTRIES / self.reach**2)

    def __call__(self, squared_radius: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values at squared radii in pixels, of any scale."""
        entry = (np.minimum(squared_radius * self._scale, _ENTRIES)).astype(np.int32)
        return self._values[entry]


class FrameRenderer:
    """Makes the frames of a scan of its disks.

    Parameters
    ----------
    settings : ScanSettings
        Probe, background, camera and calibration count.

    Attributes
    ----------
    distortion : ndarray of float64, shape (2, 2)
        Takes a position in 1/Angstrom to detector pixels from the centre.
    disk_radius : float
        In pixels.
    """

    def __init__(self, settings: ScanSettings) -> None:
        probe, camera, calibration = settings.probe, settings.camera, settings.calibration
        self._settings, self._shape = settings, camera.shape
        stretch = calibration.ellipse
        angle = np.radians(calibration.ellipse_angle)
        along = np.array([np.cos(angle), np.sin(angle)])
        ellipse = np.eye(2) + (stretch - 1.0) * np.outer(along, along)  # undone by py4DSTEM's a, b, theta
        self.distortion = ellipse / camera.pixel_size
        undone = np.linalg.inv(ellipse)
        self._metric = (undone.T @ undone).astype(np.float32)
        wavelength = electron_wavelength(settings.diffraction.voltage)
        self.disk_radius = 1e-3 * probe.convergence_angle / wavelength / camera.pixel_size
        # a counting camera's point spread decides where an electron is counted; 1/12: the width of a pixel
        spread = camera.point_spread if camera.kind == "counting" else 0.0
        self._disk = DiskProfile(self.disk_radius, float(np.sqrt(probe.edge**2 + spread**2 + 1 / 12)))
        self._half = int(np.ceil(stretch * self._disk.reach)) + 1
        self._background = self._background_profile()
        self._transmission = self._beam_stop()
        rng = generator(settings.seed, PIXELS)
        self._sensitivity = 1.0 + camera.gain_variation * rng.standard_normal(camera.shape)
        chosen = rng.choice(self._sensitivity.size, camera.hot_pixels + camera.dead_pixels, replace=False)
        self._hot, self._dead = chosen[: camera.hot_pixels], chosen[camera.hot_pixels :]

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """Hot and dead pixels, shape (Qx, Qy)."""
        bad = np.zeros(self._shape, bool)
        bad.ravel()[self._hot] = bad.ravel()[self._dead] = True
        return bad

    def to_detector(
        self, disks: BraggPeaks, origin: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions of disks on the detector, in pixels.

        Parameters
        ----------
        disks : BraggPeaks
            Of N scan positions.
        origin : ndarray, shape (N, 2)
            The centre at each of them.
        """
        centre = np.repeat(origin, disks.counts, axis=0)
        q = np.stack([disks.qx, disks.qy], axis=-1).astype(np.float64)
        x, y = (centre + q @ self.distortion.T).T
        return x, y

    def on_detector(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions in pixels lie within the frame."""
        return (x >= -0.5) & (x < self._shape[0] - 0.5) & (y >= -0.5) & (y < self._shape[1] - 0.5)

    def mean(self, disks: BraggPeaks, origin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean electrons in the pixels of N frames, shape (N, Qx, Qy): without noise and bad pixels.

        Parameters
        ----------
        disks : BraggPeaks
            Of N scan positions; intensities in electrons.
        origin : ndarray, shape (N, 2)
            The centre at each of them, in pixels.
        """
        frames = self._disks(disks, origin)
        if self._settings.background.share:
            self._add_background(frames, origin)
        if self._transmission is not None:
            frames *= self._transmission
        return frames

    def _disks(self, disks: BraggPeaks, origin: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = self.to_detector(disks, origin)
        frame = np.repeat(np.arange(len(disks)), disks.counts)
        rows, columns = self._shape
        near = (np.abs(2 * x - rows + 1) < rows + 2 * self._half) & (
            np.abs(2 * y - columns + 1) < columns + 2 * self._half
        )
        x, y, frame, electrons = x[near], y[near], frame[near], disks.intensity[near]
        steps = np.arange(-self._half, self._half + 1)
        px, py = (np.rint(at).astype(np.int64)[:, None] + steps for at in (x, y))
        dx, dy = ((at - centre[:, None]).astype(np.float32) for at, centre in ((px, x), (py, y)))
        (xx, xy), (_, yy) = self._metric
        squared = (xx * dx * dx)[:, :, None] + (yy * dy * dy)[:, None, :]
        if xy:
            squared += (2.0 * xy * dx)[:, :, None] * dy[:, None, :]
        stamps = self._disk(squared)
        stamps *= (electrons / stamps.sum(axis=(1, 2)))[:, None, None]
        inside = [(at >= 0) & (at < size) for at, size in ((px, rows), (py, columns))]
        cut = ~(inside[0].all(axis=1) & inside[1].all(axis=1))
        stamps[cut] *= inside[0][cut][:, :, None] & inside[1][cut][:, None, :]
        px, py = np.clip(px, 0, rows - 1), np.clip(py, 0, columns - 1)
        pixel = ((frame[:, None] * rows + px) * columns)[:, :, None] + py[:, None, :]
        size = len(disks) * rows * columns
        frames = np.bincount(pixel.ravel(), stamps.ravel(), size)
        return np.asarray(frames.reshape(len(disks), rows, columns), np.float64)

    def _squared_radius(self, origin: NDArray[np.float64]) -> NDArray[np.float32]:
        """Squares of the undistorted distance of each pixel from a centre in pixels, shape (Qx, Qy)."""
        dx, dy = (
            (np.arange(size) - centre).astype(np.float32)
            for size, centre in zip(self._shape, origin, strict=True)
        )
        (xx, xy), (_, yy) = self._metric
        squared = (xx * dx * dx)[:, None] + (yy * dy * dy)[None, :]
        if xy:
            squared += (2.0 * xy * dx)[:, None] * dy[None, :]
        return np.asarray(squared)

    def _background_profile(self) -> NDArray[np.float32]:
        """Mean electrons of a pixel by the square of its distance from the centre, in steps of `_STEP`."""
        config, camera = self._settings.background, self._settings.camera
        longest = 2.0 * np.hypot(*camera.shape)
        q = np.sqrt(np.arange(int(longest**2 / _STEP)) * _STEP) * camera.pixel_size
        # the rings are those of the probe's disk: along a line its variance is a quarter of the square of its radius
        width = np.hypot(config.halo_width, 0.5 * self.disk_radius * camera.pixel_size)
        rings = sum(
            (
                0.5**number * np.exp(-0.5 * ((q - radius) / width) ** 2) / radius
                for number, radius in enumerate(config.halo_radii)
            ),
            start=np.zeros(len(q)),
        )
        tail = (1.0 + (q / config.diffuse_width) ** 2) ** -1.5
        place = np.rint(self._squared_radius(self.centre) / _STEP).astype(np.int64)
        total = np.zeros(len(q))
        for share, profile in ((config.amorphous, rings), (config.diffuse, tail)):
            if share:
                total += share * profile / profile[place].sum()
        return np.asarray(self._settings.probe.dose * total, np.float32)

    def _add_background(self, frames: NDArray[np.float64], origin: NDArray[np.float64]) -> None:
        same = np.all(origin == origin[0])
        for number, (frame, centre) in enumerate(zip(frames, origin, strict=True)):
            if number == 0 or not same:
                squared = self._squared_radius(centre)
                squared *= np.float32(1 / _STEP)
                background = np.take(self._background, squared.astype(np.int32), mode="clip")
            frame += background

    @property
    def centre(self) -> NDArray[np.float64]:
        """Mean centre of the scan's frames, in pixels."""
        given = self._settings.calibration.centre
        return np.array(given or [0.5 * size for size in self._shape])

    def _beam_stop(self) -> NDArray[np.float64] | None:
        radius = self._settings.camera.beam_stop
        if not radius:
            return None
        x, y = (np.arange(size) - 0.5 * size for size in self._shape)
        disk = np.hypot(x[:, None], y[None, :]) <= radius
        bar = (np.abs(x) <= 0.3 * radius)[:, None] & (y <= 0)[None, :]
        return np.where(disk | bar, 0.0, 1.0)

    def detect(
        self, mean: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.uint16] | NDArray[np.float32]:
        """What the camera reads of frames of mean electrons, shape (N, Qx, Qy)."""
        camera = self._settings.camera
        if camera.gain_variation:
            mean = mean * np.maximum(self._sensitivity, 0.0)
        if len(self._hot):
            mean.reshape(len(mean), -1)[:, self._hot] += 0.01 * self._settings.probe.dose
        electrons = rng.poisson(mean)
        electrons.reshape(len(mean), -1)[:, self._dead] = 0
        if camera.kind == "counting":
            return np.minimum(electrons, SATURATION).astype(np.uint16)
        signal = electrons.astype(np.float32) * np.float32(camera.gain)
        if camera.point_spread:
            signal = gaussian_filter(signal, (0, camera.point_spread, camera.point_spread), mode="constant")
        if camera.read_noise:
            signal += np.float32(camera.read_noise) * rng.standard_normal(signal.shape, np.float32)
        return signal
