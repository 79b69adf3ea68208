"""The Bragg peaks of a scan, and the files that hold them."""

from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.native import PeakWriter, write_peaks
from microinfer.peaks.open import convert_peaks, open_peaks, read_peaks
from microinfer.peaks.reader import PeakReader
from microinfer.peaks.scan import PeakSource, Scan

__all__ = [
    "BraggPeaks",
    "PeakReader",
    "PeakSource",
    "PeakWriter",
    "Scan",
    "convert_peaks",
    "open_peaks",
    "read_peaks",
    "write_peaks",
]
