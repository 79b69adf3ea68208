"""Writing the peaks of frames to a file, while they are mapped or for themselves."""

from os import PathLike
from types import TracebackType
from typing import Any, Self

from microinfer.detection.detected_scan import DetectedScan
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.native import PeakWriter
from microinfer.peaks.pixels import PixelCalibration, Source
from microinfer.peaks.scan import PeakSource


def detected_calibration(pixel_size: float | None, *, given: bool) -> PixelCalibration:
    """What is known of the way from the disks that are found, in pixels from the direct beam, to 1/Angstrom.

    Parameters
    ----------
    pixel_size : float or None
        1/Angstrom per pixel.
    given : bool
        Whether it is the user's, not the file's.
    """
    sources: dict[str, Source] = {"origin": "measured"}
    if pixel_size is not None:
        sources["pixel_size"] = "given" if given else "file"
    return PixelCalibration(pixel_size, sources=sources)


class KeptPeaks(PeakSource):
    """The peaks of a scan's frames, which are written to a native file as they are read; a context manager.

    The file holds all rows, in pixels with their calibration: those that nobody read in their turn are found when the
    context ends well.

    Parameters
    ----------
    scan : DetectedScan
    path : path-like
        The file; an existing one is replaced once the new one is complete.
    calibration : PixelCalibration
        As from `detected_calibration`.
    """

    def __init__(self, scan: DetectedScan, path: str | PathLike[str], calibration: PixelCalibration) -> None:
        self.scan, self.path, self.source = scan.scan, scan.path, scan.source
        self.phases, self.camera, self.pixel_size = scan.phases, scan.camera, scan.pixel_size
        self.description, self.seconds = scan.description, scan.seconds
        self._scan = scan
        self._writer = PeakWriter(path, scan.scan, calibration=calibration)
        self._written = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return self._scan.__reduce__()  # elsewhere, nothing is kept

    def read_rows(self, start: int, stop: int) -> BraggPeaks:
        """As `DetectedScan.read_rows`."""
        peaks = self._scan.read_rows(start, stop)
        if start <= self._written < stop:
            self._write(peaks.read_rows(self._written - start, stop - start))
        return peaks

    def _write(self, peaks: BraggPeaks) -> None:
        size = self._scan.pixel_size
        self._writer.write_rows(
            BraggPeaks(peaks.offsets, peaks.qx / size, peaks.qy / size, peaks.intensity, peaks.scan)
        )
        self._written += peaks.scan_shape[0]

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for block in self._scan.blocks(self._written):
                    self._write(block)
        except BaseException as raised:
            self._writer.__exit__(type(raised), raised, raised.__traceback__)
            raise
        self._writer.__exit__(kind, error, trace)
