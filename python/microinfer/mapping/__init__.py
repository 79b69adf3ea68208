"""From Bragg peaks to an orientation map."""

from microinfer.mapping.mapfile import load_map
from microinfer.mapping.mapper import map_orientations, map_to_file
from microinfer.mapping.report import MapReport
from microinfer.mapping.result import OrientationMap

__all__ = ["MapReport", "OrientationMap", "load_map", "map_orientations", "map_to_file"]
