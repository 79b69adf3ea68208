"""Crystal orientation and phase maps from the Bragg peaks of 4D-STEM scans."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microinfer.export import export_model
    from microinfer.io import open_peaks, read_peaks, write_peaks
    from microinfer.losses import symmetry_min_geodesic
    from microinfer.mapping import OrientationMap, load_map, map_orientations
    from microinfer.models import load_model
    from microinfer.peaks import BraggPeaks
    from microinfer.tokens import TokenSpec, tokenize

__version__ = _version("microinfer")

# Looked up when first used: reading a file of peaks need not wait for torch.
_MODULES = {
    "BraggPeaks": "microinfer.peaks",
    "OrientationMap": "microinfer.mapping",
    "TokenSpec": "microinfer.tokens",
    "export_model": "microinfer.export",
    "load_map": "microinfer.mapping",
    "load_model": "microinfer.models",
    "map_orientations": "microinfer.mapping",
    "open_peaks": "microinfer.io",
    "read_peaks": "microinfer.io",
    "symmetry_min_geodesic": "microinfer.losses",
    "tokenize": "microinfer.tokens",
    "write_peaks": "microinfer.io",
}

__all__ = [
    "BraggPeaks",
    "OrientationMap",
    "TokenSpec",
    "__version__",
    "export_model",
    "load_map",
    "load_model",
    "map_orientations",
    "open_peaks",
    "read_peaks",
    "symmetry_min_geodesic",
    "tokenize",
    "write_peaks",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'microinfer' has no attribute {name!r}")
    value = getattr(_import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
