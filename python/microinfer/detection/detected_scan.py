"""The Bragg peaks of a scan's frames, found block by block."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer import _core
from microinfer.detection.detector import Detector, Disks
from microinfer.detection.noise import Noise, measure_noise
from microinfer.detection.origin import Origin, fit_origin, fixed_origin, strongest_within
from microinfer.detection.probe import Probe, measure_beam
from microinfer.detection.sample import sample_frames
from microinfer.detection.settings import DetectionSettings
from microinfer.frames.source import FrameSource
from microinfer.peaks.bragg_peaks import BraggPeaks, require_rows
from microinfer.peaks.scan import PeakSource, Scan

WITHIN = 0.25  # of the frame's smaller side: farther from the median no direct beam is looked for


class DetectedScan(PeakSource):
    """The Bragg peaks of a scan's frames, found as its rows are read; a context manager.

    Probe, noise and origin are measured on a few frames, when it is made; from then on memory does not grow with the
    scan. The peaks do not depend on how the rows are read.

    Parameters
    ----------
    frames : FrameSource
        Closed with it.
    probe, pixel_size, centre, mask, settings
        As in `find_peaks`.

    Attributes
    ----------
    frames : FrameSource
    probe : Probe
    settings : DetectionSettings
    noise : Noise or None
        None where `min_snr` is 0.
    origin : Origin
        The direct beam as a plane over the scan.
    pixel_size : float
        1/Angstrom per detector pixel.
    camera : float
        How far the camera reaches from the direct beam to its edges, on average, in 1/Angstrom.
    description : dict
        As of `microinfer.peaks.PeakReader`.
    seconds : dict of str to float
        Busy time so far: ``read``, ``detect``.

    Raises
    ------
    ValueError
        As `find_peaks`.
    """

    phases: tuple[str, ...] = ()

    def __init__(
        self,
        frames: FrameSource,
        *,
        probe: "Probe | float | ArrayLike | None" = None,
        pixel_size: float | None = None,
        centre: tuple[float, float] | None = None,
        mask: ArrayLike | None = None,
        settings: DetectionSettings | None = None,
    ) -> None:
        self.frames = frames
        self.scan: Scan = frames.scan
        self.path = getattr(frames, "path", None)
        self.source = "/"
        self.settings = DetectionSettings() if settings is None else settings
        self.pixel_size = _pixel_size(frames, pixel_size)
        self.seconds = {"read": 0.0, "detect": 0.0}
        good = _good(frames, mask)
        sample = sample_frames(frames)
        finite = np.isfinite(sample.frames) | ~good
        if not finite.all():
            rx, ry = sample.positions[int(np.argmin(finite.all((1, 2))))]
            raise ValueError(f"{self._name}: the frame at scan position ({rx}, {ry}) holds NaN or infinity")
        self.probe = _probe(probe, frames.frame_shape, sample.frames, good, centre)
        trial = Detector(self.probe, replace(self.settings, edgeBoundary=0.0, maxNumPeaks=200), good)
        self.noise: Noise | None = None
        if self.settings.min_snr > 0:
            filled = trial.filled(sample.frames)
            correlations = trial.correlate(sample.frames[:, None])[:, 0]
            self.noise = measure_noise(filled, correlations, trial.kernel, good, sample.paired)
        self._detector = Detector(self.probe, self.settings, good, self.noise)
        self.origin = self._measure_origin(sample.frames, sample.positions, centre)
        self.camera = self.pixel_size * float(
            np.mean(
                [
                    *self.origin.expected(_middle(self.scan_shape))[0],
                    *(np.array(frames.frame_shape) - 1 - self.origin.expected(_middle(self.scan_shape))[0]),
                ]
            )
        )
        self.description: dict[str, Any] = {
            "format": "frames",
            "found": {
                "frames": f"{frames.frame_shape[0]} x {frames.frame_shape[1]} pixels of {frames.dtype}",
                "probe": f"radius {self.probe.radius:.2f} pixels",
            },
            "applied": [
                "find the disks",
                "subtract the direct beam",
                f"multiply by {self.pixel_size:g} 1/Angstrom per pixel",
            ],
        }

    @property
    def _name(self) -> str:
        return "frames" if self.path is None else str(self.path)

    def _measure_origin(
        self, frames: NDArray[np.float32], positions: NDArray[np.int64], centre: tuple[float, float] | None
    ) -> Origin:
        disks = self._detector.find(frames[:, None])
        most = WITHIN * min(self.frames.frame_shape)
        reach = max(self.probe.radius, 1.5)
        if centre is not None:
            around = np.broadcast_to(np.asarray(centre, np.float64), (len(frames), 2))
            most = 2.0 * reach
        else:
            everywhere = np.broadcast_to(np.array(self.frames.frame_shape) / 2.0, (len(frames), 2))
            found = strongest_within(disks.x, disks.y, disks.correlation, disks.offsets, everywhere, np.inf)
            if np.isnan(found).all():
                return fixed_origin(tuple((np.array(self.frames.frame_shape) - 1) / 2.0), reach)
            around = np.broadcast_to(np.nanmedian(found, axis=0), (len(frames), 2))
        found = strongest_within(disks.x, disks.y, disks.correlation, disks.offsets, around, most)
        origin = fit_origin(found, positions, reach, max(reach, 0.5 * most))
        if origin is not None:
            return origin
        return fixed_origin(centre if centre is not None else tuple(around[0]), reach)

    def read_disks(self, start: int, stop: int) -> tuple[Disks, NDArray[np.float64]]:
        """Find the disks of the scan rows ``start`` to ``stop - 1``, in detector pixels.

        Returns
        -------
        Disks
            Of N = (stop - start) Ry frames.
        ndarray of float64, shape (N, 2)
            The direct beam of each.
        """
        require_rows(start, stop, self.scan_shape[0])
        step = self.frames.block_rows
        parts: list[Disks] = []
        for first in range(start, stop, step):
            began = time.perf_counter()
            block = self.frames.read_rows(first, min(first + step, stop))
            read = time.perf_counter()
            parts.append(self._find(block, first))
            self.seconds["read"] += read - began
            self.seconds["detect"] += time.perf_counter() - read
        disks = parts[0] if len(parts) == 1 else _joined(parts)
        rows, columns = np.meshgrid(np.arange(start, stop), np.arange(self.scan_shape[1]), indexing="ij")
        positions = np.stack([rows.ravel(), columns.ravel()], axis=1)
        centres = self.origin.find(disks.x, disks.y, disks.correlation, disks.offsets, positions)
        return disks, centres

    def _find(self, frames: NDArray[Any], first_row: int) -> Disks:
        try:
            return self._detector.find(frames)
        except _core.NotFiniteError as error:
            rx, ry = divmod(error.args[0], self.scan_shape[1])
            raise ValueError(
                f"{self._name}: the frame at scan position ({first_row + rx}, {ry}) holds NaN or infinity"
            ) from None

    def blocks(self) -> Iterator[BraggPeaks]:
        """Find the peaks of the whole scan, a block of rows at a time."""
        rows, step = self.scan_shape[0], self.frames.block_rows
        for start in range(0, rows, step):
            yield self.read_rows(start, min(start + step, rows))

    def read_rows(self, start: int, stop: int) -> BraggPeaks:
        """Find the peaks of the scan rows ``start`` to ``stop - 1``; ``0 <= start < stop <= Rx``.

        Raises
        ------
        ValueError
            For rows outside the scan, and for frames that hold NaN or infinity.
        OSError
            Where the file is damaged.
        """
        disks, centres = self.read_disks(start, stop)
        per_peak = np.repeat(centres, np.diff(disks.offsets), axis=0)
        return BraggPeaks(
            disks.offsets,
            ((disks.x - per_peak[:, 0]) * self.pixel_size).astype(np.float32),
            ((disks.y - per_peak[:, 1]) * self.pixel_size).astype(np.float32),
            disks.intensity,
            self.scan.rows(stop - start),
        )

    def close(self) -> None:
        """Close the frames."""
        self.frames.close()

    def __enter__(self) -> "DetectedScan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pixel_size(frames: FrameSource, given: float | None) -> float:
    size = frames.pixel_size if given is None else given
    if size is None:
        raise ValueError(
            "the frames do not state their pixel size: give pixel_size=... in 1/Angstrom per pixel (--pixel-size), or "
            "find it from the rings of a known crystal (microinfer calibrate)"
        )
    if not (np.isfinite(size) and size > 0):
        raise ValueError(f"pixel_size must be positive and finite, got {size}")
    return float(size)


def _good(frames: FrameSource, mask: ArrayLike | None) -> NDArray[np.bool_]:
    good = np.ones(frames.frame_shape, np.bool_)
    if mask is not None:
        given = np.asarray(mask)
        if given.dtype != np.bool_:
            raise TypeError(f"mask must be boolean, got {given.dtype}")
        if given.shape != frames.frame_shape:
            raise ValueError(f"mask must have the frames' shape {frames.frame_shape}, got {given.shape}")
        good &= given
    if not good.any():
        raise ValueError("mask leaves no pixel of the frames")
    return good


def _probe(
    given: "Probe | float | ArrayLike | None",
    shape: tuple[int, int],
    frames: NDArray[np.float32],
    good: NDArray[np.bool_],
    centre: tuple[float, float] | None,
) -> Probe:
    if given is None:
        beam = measure_beam(frames, good, centre)
        return Probe.disk(beam.radius, shape, beam.edge)
    if isinstance(given, Probe):
        probe = given
    elif np.ndim(given) == 0:
        return Probe.disk(float(given), shape)  # type: ignore[arg-type]
    else:
        vacuum = np.asarray(given)
        if vacuum.shape[-2:] != shape:
            raise ValueError(
                f"the probe's frames must have the shape {shape} of the scan's, got {vacuum.shape}"
            )
        return Probe.from_frames(vacuum.reshape(-1, *shape), good)
    if probe.frame_shape != shape:
        raise ValueError(f"the probe is for frames of {probe.frame_shape} pixels, the scan's are {shape}")
    return probe


def _joined(parts: list[Disks]) -> Disks:
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    columns = (np.concatenate([part[index] for part in parts]) for index in range(1, len(Disks._fields)))
    return Disks(np.concatenate([[0], np.cumsum(counts)]), *columns)


def _middle(shape: tuple[int, int]) -> NDArray[np.int64]:
    return np.array([[shape[0] // 2, shape[1] // 2]])
