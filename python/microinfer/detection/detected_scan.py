"""The Bragg peaks of a scan's frames, found block by block."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer import _core
from microinfer.detection.detector import Detector, Disks
from microinfer.detection.noise import Noise, halo_correlation, measure_noise
from microinfer.detection.origin import Origin, find_origin
from microinfer.detection.probe import Probe, any_probe
from microinfer.detection.sample import Sample, sample_frames
from microinfer.detection.settings import DetectionSettings
from microinfer.frames.defects import find_defects
from microinfer.frames.source import FrameSource
from microinfer.peaks.bragg_peaks import BraggPeaks, require_rows
from microinfer.peaks.scan import PeakSource, Scan
from microinfer.stream import relay

SMALLEST = 8  # pixels of a frame along either axis


class FoundRows(NamedTuple):
    """The disks of some scan rows."""

    start: int  # the first row
    disks: Disks
    centres: NDArray[np.float64]  # (N, 2), the direct beam of each frame in detector pixels

    def peaks(self, scan: Scan, pixel_size: float) -> BraggPeaks:
        """As peaks of the whole `scan`, in 1/Angstrom; in pixels for a pixel size of 1."""
        disks = self.disks
        x0, y0 = np.repeat(self.centres, np.diff(disks.offsets), axis=0).T
        return BraggPeaks(
            disks.offsets,
            ((disks.x - x0) * pixel_size).astype(np.float32),
            ((disks.y - y0) * pixel_size).astype(np.float32),
            disks.intensity,
            scan.rows(len(self.centres) // scan.shape[1]),
        )


class DetectedScan(PeakSource):
    """The Bragg peaks of a scan's frames, found as its rows are read; a context manager.

    Defects, probe, noise and origin are measured on a few frames, when it is made; from then on memory does not grow
    with the scan. The peaks do not depend on how the rows are read. A pickled one opens its frames again where it is
    unpickled, and finds the same peaks.

    Parameters
    ----------
    frames : FrameSource
        Closed with it.
    probe, pixel_size, centre, mask, settings
        As in `microinfer.find_peaks`.

    Attributes
    ----------
    frames : FrameSource
    mask : ndarray of bool, shape (Qx, Qy)
        Pixels without a right signal: those given, and those found.
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
        Busy time so far: ``read``, ``detect``. They run beside each other.

    Raises
    ------
    ValueError
        As `microinfer.find_peaks`.
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
        rows, columns = frames.frame_shape
        if min(rows, columns) < SMALLEST:
            raise ValueError(
                f"frames must have at least {SMALLEST} x {SMALLEST} pixels, got {rows} x {columns}"
            )
        if centre is not None:
            centre = _centre(centre, frames.frame_shape)
        self.frames = frames
        self.scan: Scan = frames.scan
        self.path = getattr(frames, "path", None)
        self.source = "/"
        self.settings = DetectionSettings() if settings is None else settings
        self.pixel_size = _pixel_size(frames, pixel_size)
        self.seconds = {"read": 0.0, "detect": 0.0}
        self._centre = centre
        self.mask: NDArray[np.bool_] = find_defects(frames, _given(mask, frames.frame_shape))
        sample = self._sample()
        good = ~self.mask
        self.probe = any_probe(probe, frames.frame_shape, sample.frames, good, centre)
        whole = Detector(self.probe, replace(self.settings, edgeBoundary=0.0), good)
        self.noise: Noise | None = None
        if self.settings.min_snr > 0:
            correlations = whole.correlate(sample.frames[:, None])[:, 0]
            filled = whole.filled(sample.frames)
            self.noise = measure_noise(filled, correlations, whole.kernel, good, sample.paired)
        self._detector = Detector(self.probe, self.settings, good, self.noise)
        self.origin: Origin = find_origin(
            self._detector.find(sample.frames[:, None]),
            sample.positions,
            frames.frame_shape,
            self.probe.radius,
            centre,
        )
        middle = self.origin.expected(np.array([self.scan_shape]) // 2)[0]
        if self.noise is not None:
            self._detector.halo = halo_correlation(correlations, middle, good, self.probe.radius)
        edges = [*middle, *(np.array(frames.frame_shape) - 1 - middle)]
        self.camera = self.pixel_size * float(np.mean(edges))
        self.description: dict[str, Any] = {
            "format": "frames",
            "found": self.facts(),
            "applied": [
                "find the disks",
                "subtract the direct beam",
                f"multiply by {self.pixel_size:g} 1/Angstrom per pixel",
            ],
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.frames, self.probe, self.pixel_size, self._centre, self.mask, self.settings)

    @property
    def _name(self) -> str:
        return "frames" if self.path is None else str(self.path)

    def _sample(self) -> Sample:
        sample = sample_frames(self.frames)
        finite = np.isfinite(sample.frames) | self.mask
        if not finite.all():
            raise self._not_finite(*sample.positions[int(np.argmin(finite.all((1, 2))))])
        return sample

    def _not_finite(self, rx: int, ry: int) -> ValueError:
        return ValueError(f"{self._name}: the frame at scan position ({rx}, {ry}) holds NaN or infinity")

    def facts(self) -> dict[str, str]:
        """What was found on the frames, for people."""
        rows, columns = self.frames.frame_shape
        x, y = self.origin.expected(np.array([self.scan_shape]) // 2)[0]
        result = {
            "frames": f"{rows} x {columns} pixels of {self.frames.dtype}, {self.mask.sum():,} of them without a right "
            "signal",
            "disks": f"radius {self.probe.radius:.2f} pixels",
            "direct beam": f"at ({x:.1f}, {y:.1f}) in the middle of the scan",
        }
        if self.noise is not None:
            result["noise"] = f"{self.noise.gain:.3g} counts for one electron"
        return result

    def found_rows(self, start: int, stop: int) -> Iterator[FoundRows]:
        """Find the disks of the scan rows ``start`` to ``stop - 1``, in detector pixels, block by block.

        Reading is ahead of finding.

        Raises
        ------
        ValueError
            For rows outside the scan, and for frames that hold NaN or infinity.
        OSError
            Where the file is damaged.
        """
        require_rows(start, stop, self.scan_shape[0])
        step = self.frames.block_rows

        def read(first: int) -> tuple[int, NDArray[Any]]:
            began = time.perf_counter()
            block = self.frames.read_rows(first, min(first + step, stop))
            self.seconds["read"] += time.perf_counter() - began
            return first, block

        with closing(relay(read, range(start, stop, step), "frames")) as blocks:
            for first, block in blocks:
                began = time.perf_counter()
                found = self._find(first, block)
                self.seconds["detect"] += time.perf_counter() - began
                yield found

    def _find(self, first: int, frames: NDArray[Any]) -> FoundRows:
        try:
            disks = self._detector.find(frames)
        except _core.NotFiniteError as error:
            rx, ry = divmod(error.args[0], self.scan_shape[1])
            raise self._not_finite(first + rx, ry) from None
        rows, columns = np.indices(frames.shape[:2]).reshape(2, -1)
        centres = self.origin.find(disks, np.stack([rows + first, columns], axis=1))
        return FoundRows(first, disks, centres)

    def blocks(self, start: int = 0) -> Iterator[BraggPeaks]:
        """Find the peaks of the whole scan, or from a row on, a block of rows at a time."""
        if start == self.scan_shape[0]:
            return iter(())
        return self._peaks(start, self.scan_shape[0])

    def _peaks(self, start: int, stop: int) -> Iterator[BraggPeaks]:
        for found in self.found_rows(start, stop):
            yield found.peaks(self.scan, self.pixel_size)

    def read_rows(self, start: int, stop: int) -> BraggPeaks:
        """Find the peaks of the scan rows ``start`` to ``stop - 1``; errors as `found_rows`."""
        return joined(list(self._peaks(start, stop)), self.scan.rows(stop - start))

    def close(self) -> None:
        """Close the frames."""
        self.frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _again(
    frames: FrameSource,
    probe: Probe,
    pixel_size: float,
    centre: tuple[float, float] | None,
    mask: NDArray[np.bool_],
    settings: DetectionSettings,
) -> DetectedScan:
    return DetectedScan(
        frames, probe=probe, pixel_size=pixel_size, centre=centre, mask=mask, settings=settings
    )


def joined(blocks: list[BraggPeaks], scan: Scan) -> BraggPeaks:
    """Join blocks of scan rows that follow each other."""
    if len(blocks) == 1:
        return blocks[0]
    counts = np.concatenate([block.counts for block in blocks])
    qx, qy, intensity = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("qx", "qy", "intensity")
    )
    return BraggPeaks(np.concatenate([[0], np.cumsum(counts)]), qx, qy, intensity, scan)


def _pixel_size(frames: FrameSource, given: float | None) -> float:
    size = frames.pixel_size if given is None else given
    if size is None:
        raise ValueError(
            "the frames do not state their pixel size: give it in 1/Angstrom per pixel (--pixel-size, or "
            "microinfer.open_frames(path, pixel_size=...)), or find the peaks (microinfer peaks) and their pixel size "
            "by the rings of a known crystal (microinfer calibrate)"
        )
    if not (np.isfinite(size) and size > 0):
        raise ValueError(f"pixel_size must be positive and finite, got {size}")
    return float(size)


def _centre(centre: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float]:
    place = np.asarray(centre, np.float64)
    if place.shape != (2,) or not ((place >= 0) & (place <= np.array(shape) - 1)).all():  # NaN is not
        raise ValueError(
            f"centre (--centre) must be two numbers within the frames of {shape} pixels, got {centre}"
        )
    return float(place[0]), float(place[1])


def _given(mask: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    given = np.asarray(mask)
    if given.dtype != np.bool_:
        raise TypeError(f"mask must be boolean, got {given.dtype}")
    if given.shape != shape:
        raise ValueError(f"mask must have the frames' shape {shape}, got {given.shape}")
    return given
