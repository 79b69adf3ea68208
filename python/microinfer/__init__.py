"""Crystal orientation and phase maps from the Bragg peaks of 4D-STEM scans."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

import microinfer.forks  # noqa: F401

if TYPE_CHECKING:
    __version__: str
    from microinfer.detection import find_peaks, plot_disks
    from microinfer.frames import open_frames
    from microinfer.mapping import MapReport, map_orientations, map_to_file
    from microinfer.maps.map_file import load_map
    from microinfer.maps.orientation_map import OrientationMap
    from microinfer.models import Model, load_model
    from microinfer.models.graph import export_model
    from microinfer.models.shipped import list_models as models
    from microinfer.ops.rotations import symmetry_min_geodesic
    from microinfer.ops.token_spec import TokenSpec
    from microinfer.ops.tokens import tokenize
    from microinfer.peaks import BraggPeaks, Scan, open_peaks, read_peaks, write_peaks
    from microinfer.training import train

# Looked up when first used: reading a file of peaks need not wait for torch.
_MODULES = {
    "BraggPeaks": "microinfer.peaks",
    "MapReport": "microinfer.mapping",
    "OrientationMap": "microinfer.maps.orientation_map",
    "Scan": "microinfer.peaks",
    "TokenSpec": "microinfer.ops.token_spec",
    "export_model": "microinfer.models.graph",
    "find_peaks": "microinfer.detection",
    "plot_disks": "microinfer.detection",
    "load_map": "microinfer.maps.map_file",
    "Model": "microinfer.models",
    "load_model": "microinfer.models",
    "map_orientations": "microinfer.mapping",
    "map_to_file": "microinfer.mapping",
    "open_frames": "microinfer.frames",
    "open_peaks": "microinfer.peaks",
    "read_peaks": "microinfer.peaks",
    "symmetry_min_geodesic": "microinfer.ops.rotations",
    "tokenize": "microinfer.ops.tokens",
    "train": "microinfer.training",
    "write_peaks": "microinfer.peaks",
}

__all__ = [
    "BraggPeaks",
    "MapReport",
    "Model",
    "OrientationMap",
    "Scan",
    "TokenSpec",
    "__version__",
    "export_model",
    "find_peaks",
    "load_map",
    "load_model",
    "map_orientations",
    "map_to_file",
    "models",
    "open_frames",
    "open_peaks",
    "plot_disks",
    "read_peaks",
    "symmetry_min_geodesic",
    "tokenize",
    "train",
    "write_peaks",
]


def __getattr__(name: str) -> Any:
    if name == "models":  # a package that is a function too
        return _import_module("microinfer.models")
    if name == "__version__":
        value = _import_module("importlib.metadata").version("microinfer")
    elif name in _MODULES:
        value = getattr(_import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'microinfer' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
