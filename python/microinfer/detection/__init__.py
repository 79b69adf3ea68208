"""Bragg disks in the frames of a scan: from the camera's counts to calibrated peaks."""

from microinfer.detection.detected_scan import DetectedScan
from microinfer.detection.find import find_peaks
from microinfer.detection.probe import Probe
from microinfer.detection.settings import DetectionSettings

__all__ = ["DetectedScan", "DetectionSettings", "Probe", "find_peaks"]
