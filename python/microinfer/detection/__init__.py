"""Bragg disks in the frames of a scan: from the camera's counts to calibrated peaks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microinfer.detection.detected_scan import DetectedScan
    from microinfer.detection.find import find_peaks
    from microinfer.detection.picture import plot_disks
    from microinfer.detection.probe import Probe
    from microinfer.detection.settings import DetectionSettings

# Looked up when first used: a scan of peaks is mapped without scipy.
_MODULES = {
    "DetectedScan": "detected_scan",
    "DetectionSettings": "settings",
    "Probe": "probe",
    "find_peaks": "find",
    "plot_disks": "picture",
}

__all__ = ["DetectedScan", "DetectionSettings", "Probe", "find_peaks", "plot_disks"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'microinfer.detection' has no attribute {name!r}")
    return getattr(import_module(f"microinfer.detection.{_MODULES[name]}"), name)
