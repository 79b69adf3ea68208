"""Synthetic 4D-STEM scans: frames, true peaks and truth."""

from microinfer.simulation.scan.output import ScanFiles, WrittenScan, write_scan
from microinfer.simulation.scan.settings import ScanSettings, load_scan_settings
from microinfer.simulation.scan.source import SyntheticScan, simulate_scan
from microinfer.simulation.scan.truth import ScanTruth, load_truth

__all__ = [
    "ScanFiles",
    "ScanSettings",
    "ScanTruth",
    "SyntheticScan",
    "WrittenScan",
    "load_scan_settings",
    "load_truth",
    "simulate_scan",
    "write_scan",
]
