"""From Bragg peaks to an orientation map."""

from microinfer.mapping.check import ScanCheck, check_scan
from microinfer.mapping.mapper import map_orientations, map_to_file
from microinfer.mapping.report import MapReport

__all__ = ["MapReport", "ScanCheck", "check_scan", "map_orientations", "map_to_file"]
