"""A synthetic 4D-STEM scan: its frames, rendered as they are read, its true peaks and its truth."""

from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.structure import load_structure
from microinfer.frames.source import FrameSource
from microinfer.peaks.bragg_peaks import BraggPeaks, require_rows
from microinfer.peaks.scan import Scan
from microinfer.simulation.scan.diffraction import Diffraction
from microinfer.simulation.scan.grains import CENTRES, NOISE, Crystals, Microstructure, generator
from microinfer.simulation.scan.render import FrameRenderer
from microinfer.simulation.scan.settings import (
    BackgroundConfig,
    CalibrationConfig,
    CameraConfig,
    ProbeConfig,
    ScanSettings,
)
from microinfer.simulation.scan.truth import ScanTruth
from microinfer.simulation.simulate import require_simulation


class SyntheticScan(FrameSource):
    """The frames of a synthetic scan, of any size: nothing of a frame is kept; see `simulate_scan`.

    Attributes
    ----------
    settings : ScanSettings
        What the scan is made by.
    phases : tuple of CrystalPhase
        Its phases.
    disk_radius : float
        Radius of its disks in detector pixels.
    """

    def __init__(
        self, settings: ScanSettings, *, processes: int | None = None, progress: bool = False
    ) -> None:
        require_simulation()
        structures = [load_structure(phase.structure, phase.display_name) for phase in settings.phases]
        self.phases = tuple(
            structure.phase(settings.diffraction.k_max, phase.symmetry)
            for structure, phase in zip(structures, settings.phases, strict=True)
        )
        self._grains = Microstructure(settings)
        self._diffraction = Diffraction(settings, structures, self._grains, processes, progress)
        self._observe(settings)

    def _observe(self, settings: ScanSettings) -> None:
        """Take up what does not change the crystals."""
        camera = settings.camera
        self.settings = settings
        self.scan = Scan(settings.scan.shape, settings.scan.step, "nm", True, settings.diffraction.voltage)
        self.frame_shape = camera.shape
        self.dtype = np.dtype(np.uint16 if camera.kind == "counting" else np.float32)
        self.pixel_size = camera.pixel_size * (1.0 + settings.calibration.pixel_size_error)
        self._renderer = FrameRenderer(settings)

    def seen_with(
        self,
        *,
        probe: ProbeConfig | None = None,
        background: BackgroundConfig | None = None,
        camera: CameraConfig | None = None,
        calibration: CalibrationConfig | None = None,
    ) -> "SyntheticScan":
        """Return a scan of the same crystals, without simulating them anew.

        Parameters
        ----------
        probe, background, camera, calibration : optional
            What is other than in this scan.
        """
        other = copy(self)
        for cached in ("truth", "true_peaks"):
            vars(other).pop(cached, None)
        known = self.settings
        other._observe(
            replace(
                known,
                probe=probe or known.probe,
                background=background or known.background,
                camera=camera or known.camera,
                calibration=calibration or known.calibration,
            )
        )
        return other

    def __repr__(self) -> str:
        names = ", ".join(phase.name for phase in self.phases)
        return f"SyntheticScan({self.scan}, {self.frame_shape[0]} x {self.frame_shape[1]} pixels, {names})"

    @property
    def disk_radius(self) -> float:
        """Radius of the disks in detector pixels."""
        return self._renderer.disk_radius

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """Hot and dead pixels, shape (Qx, Qy)."""
        return self._renderer.bad_pixels

    @cached_property
    def truth(self) -> ScanTruth:
        """The truth of the whole scan."""
        return self.truth_rows(0, self.scan_shape[0])

    @cached_property
    def true_peaks(self) -> BraggPeaks:
        """The true peaks of the whole scan; see `true_peak_rows`."""
        return self.true_peak_rows(0, self.scan_shape[0])

    def truth_rows(self, start: int, stop: int) -> ScanTruth:
        """The truth of the scan rows ``start`` to ``stop - 1``."""
        crystals = self._crystals(start, stop)
        there = crystals.grain >= 0
        orientation = np.full((*there.shape, 3, 3), np.nan, np.float32)
        orientation[there] = self._grains.orientations(crystals.grain[there], crystals.bend[there])
        return ScanTruth(
            grain=crystals.grain,
            phase=np.where(there, self._grains.phase[crystals.grain], -1).astype(np.int16),
            orientation=orientation,
            thickness=crystals.thickness.astype(np.float32),
            bend=crystals.bend.astype(np.float32),
            origin=self._origin(start, stop),
            phases=self.phases,
            settings=self.settings,
        )

    def true_peak_rows(self, start: int, stop: int) -> BraggPeaks:
        """The true peaks on the detector of the scan rows ``start`` to ``stop - 1``, the direct beam first.

        Positions are undistorted; intensities are the mean electrons in the disks. They are all that is rendered,
        however weak: at low doses no camera sees most of them.
        """
        disks = self._disks(start, stop)
        x, y = self._renderer.to_detector(disks, self._origin(start, stop).reshape(-1, 2))
        seen = self._renderer.on_detector(x, y)
        counts = np.add.reduceat(seen, disks.offsets[:-1])  # every position has a direct beam
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return BraggPeaks(offsets, disks.qx[seen], disks.qy[seen], disks.intensity[seen], disks.scan)

    def mean_rows(self, start: int, stop: int) -> NDArray[np.float64]:
        """The mean electrons of the frames of some rows, shape (stop - start, Ry, Qx, Qy): without a camera's noise."""
        frames = self._renderer.mean(self._disks(start, stop), self._origin(start, stop).reshape(-1, 2))
        return frames.reshape(stop - start, self.scan_shape[1], *self.frame_shape)

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Render the frames of the scan rows ``start`` to ``stop - 1``, shape (stop - start, Ry, Qx, Qy)."""
        require_rows(start, stop, self.scan_shape[0])
        frames = np.empty((stop - start, self.scan_shape[1], *self.frame_shape), self.dtype)
        for row in range(start, stop):  # each with a generator of its own, so that blocks do not matter
            rng = generator(self.settings.seed, NOISE, row)
            frames[row - start] = self._renderer.detect(self.mean_rows(row, row + 1)[0], rng)
        return frames

    def _crystals(self, start: int, stop: int) -> Crystals:
        require_rows(start, stop, self.scan_shape[0])
        return self._grains.rows(start, stop)

    def _disks(self, start: int, stop: int) -> BraggPeaks:
        """All disks, with their mean electrons."""
        disks = self._diffraction.disks(self._crystals(start, stop))
        electrons = self.settings.probe.dose * (1.0 - self.settings.background.share)
        scan = self.scan.rows(stop - start)
        return BraggPeaks(disks.offsets, disks.qx, disks.qy, electrons * disks.intensity, scan)

    def _origin(self, start: int, stop: int) -> NDArray[np.float64]:
        rows, columns = self.scan_shape
        config = self.settings.calibration
        along = [np.arange(size) / max(1, size - 1) - 0.5 for size in (rows, columns)]
        place = 0.5 * (along[0][start:stop, None] + along[1])[..., None]
        origin = self._renderer.centre + place * np.array(config.drift)
        if config.jitter:
            for row in range(start, stop):
                rng = generator(self.settings.seed, CENTRES, row)
                origin[row - start] += config.jitter * rng.standard_normal((columns, 2))
        return np.asarray(origin)


def simulate_scan(
    settings: ScanSettings, *, processes: int | None = None, progress: bool = False
) -> SyntheticScan:
    """Simulate a 4D-STEM scan.

    The Bloch waves of the grains are solved at once, frames are rendered as they are read. The same settings give the
    same scan, whatever the number of processes and the blocks in which it is read.

    Parameters
    ----------
    settings : ScanSettings
        See `microinfer.simulation.load_scan_settings`.
    processes : int, optional
        Worker processes; by default one for each core, 1 stays in this process.
    progress : bool
        Show a progress bar.

    Returns
    -------
    SyntheticScan

    Raises
    ------
    ImportError
        Where a package of the simulation is missing.
    ValueError, OSError
        For a crystal structure that cannot be read.
    """
    return SyntheticScan(settings, processes=processes, progress=progress)
