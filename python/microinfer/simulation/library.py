"""The pattern library: disks, orientations and thicknesses of many zone axes, and its file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.files import atomic_hdf5
from microinfer.hdf5 import (
    InputFile,
    attribute,
    dataset,
    is_hdf5,
    open_hdf5,
    require_stored,
    stated_format,
    text,
)
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.settings import SimulationConfig

_FORMAT = "microinfer pattern library"

Arrays = dict[str, NDArray[Any]]
"""Some patterns of a library: the arrays of `LABELS` and `DISKS`."""
LABELS: dict[str, tuple[tuple[int, ...], type]] = {
    "orientation": ((3, 3), np.float32),
    "phase": ((), np.int64),
    "zone": ((), np.int64),
    "thickness": ((), np.float32),
    "in_plane_bound": ((), np.float32),
    "count": ((), np.int64),
}
"""Shape and type of what is said of each pattern; the count is that of its disks."""
DISKS: dict[str, tuple[tuple[int, ...], type]] = dict.fromkeys(("qx", "qy", "intensity"), ((), np.float32))
"""Of each disk."""
_VERSION = 3  # 2 had texts of variable length, no checksums and, as 1, nothing against lost values
_CHUNK = 65536  # values
_LABELS = ("orientation", "phase", "zone", "thickness")


@dataclass(frozen=True, eq=False)
class PatternLibrary:
    """Simulated patterns with their labels.

    Attributes
    ----------
    peaks : BraggPeaks
        The patterns, scan shape (N, 1).
    orientation : ndarray of float32, shape (N, 3, 3)
        Orientation labels.
    phase : ndarray of int64, shape (N,)
        Index into phases.
    zone : ndarray of int64, shape (N,)
        Number of the zone axis; a validation split goes by it.
    thickness : ndarray of float32, shape (N,)
        In Angstrom.
    phases : tuple of CrystalPhase
        The phases.
    simulation : SimulationConfig
        How the patterns were made.
    in_plane_bound : ndarray of float32, shape (N,), optional
        Each pattern may be turned in the detector plane by angles from 0 to this, in radians; by a full turn where
        there is none. Less than that keeps a pattern that repeats itself to one label.
    """

    peaks: BraggPeaks
    orientation: NDArray[np.float32]
    phase: NDArray[np.int64]
    zone: NDArray[np.int64]
    thickness: NDArray[np.float32]
    phases: tuple[CrystalPhase, ...]
    simulation: SimulationConfig
    in_plane_bound: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.phase)

    def save(self, path: str | Path) -> None:
        """Write the library to an HDF5 file."""
        with atomic_hdf5(path) as file:
            file.attrs["format"] = text(_FORMAT)
            file.attrs["version"] = _VERSION
            phases = json.dumps([phase.to_dict() for phase in self.phases])
            simulation = json.dumps(vars(self.simulation))
            arrays = {name: getattr(self.peaks, name) for name in ("offsets", *DISKS)}
            arrays |= {name: getattr(self, name) for name in _LABELS}
            arrays |= {
                name: np.frombuffer(values.encode(), np.uint8)
                for name, values in (("phases", phases), ("simulation", simulation))
            }
            if self.in_plane_bound is not None:
                arrays["in_plane_bound"] = self.in_plane_bound
            for name, values in arrays.items():
                chunks = (min(max(1, len(values)), _CHUNK), *values.shape[1:])
                file.create_dataset(name, data=values, chunks=chunks, fletcher32=True)


def load_library(path: str | Path) -> PatternLibrary:
    """Read a library that `PatternLibrary.save` wrote.

    Raises
    ------
    ValueError
        If the file is not such a library.
    OSError
        If it is missing or damaged.
    """
    with Path(path).open("rb"):
        pass  # Python's own errors for a missing file, a folder and a lacking permission are the clearest
    if not is_hdf5(path):
        raise ValueError(f"{path}: not a readable pattern library: it is not an HDF5 file")
    with open_hdf5(path) as file, file:
        if stated_format(file) != _FORMAT:
            raise ValueError("not a pattern library that this version of microinfer reads")
        version = attribute(file, "version", "a whole number")
        if version not in (1, 2, _VERSION):
            raise ValueError(
                f"not a pattern library that this version of microinfer reads, but of version {version}"
            )
        return _read(file, version)


def _read(file: InputFile, version: int) -> PatternLibrary:
    def described(name: str) -> Any:
        return json.loads(attribute(file, name, "a text") if version < 3 else _values(file, name).tobytes())

    simulation = described("simulation")
    if not isinstance(simulation, dict):
        raise ValueError(f"simulation must be a table of settings, got {simulation!r}")
    simulation = {
        name: tuple(value) if isinstance(value, list) else value for name, value in simulation.items()
    }
    phases = tuple(CrystalPhase.from_dict(phase) for phase in described("phases"))
    disks = {name: _values(file, name) for name in ("offsets", *DISKS)}
    peaks = BraggPeaks(**disks, scan=(max(1, len(disks["offsets"]) - 1), 1))
    names = (*_LABELS, "in_plane_bound") if "in_plane_bound" in file else _LABELS
    labels = {name: _label(file, name, len(peaks)) for name in names}
    if np.any((labels["phase"] < 0) | (labels["phase"] >= len(phases))):
        raise ValueError(f"phase must be an index into the {len(phases)} phases")
    return PatternLibrary(peaks, **labels, phases=phases, simulation=SimulationConfig(**simulation))


def _label(file: InputFile, name: str, count: int) -> NDArray[Any]:
    values, (cell, dtype) = _values(file, name), LABELS[name]
    shape, kind = (count, *cell), np.dtype(dtype).kind
    if values.dtype.kind != kind or values.shape != shape or not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name} must be finite {np.dtype(dtype)} of {shape}, got {values.dtype} of {values.shape}"
        )
    return values


def _values(file: InputFile, name: str) -> NDArray[Any]:
    values = dataset(file, name)
    require_stored(values)
    return np.asarray(values[()])
