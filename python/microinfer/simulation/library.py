"""The pattern library: disks, orientations and thicknesses of many zone axes, and its file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.files import atomic_output
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
        with atomic_output(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = _FORMAT
            file.attrs["version"] = 2
            file.attrs["phases"] = json.dumps([phase.to_dict() for phase in self.phases])
            file.attrs["simulation"] = json.dumps(vars(self.simulation))
            for name in ("offsets", "qx", "qy", "intensity"):
                file[name] = getattr(self.peaks, name)
            for name in _LABELS:
                file[name] = getattr(self, name)
            if self.in_plane_bound is not None:
                file["in_plane_bound"] = self.in_plane_bound


def load_library(path: str | Path) -> PatternLibrary:
    """Read a library that `PatternLibrary.save` wrote.

    Raises
    ------
    ValueError
        If the file is not such a library.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT or file.attrs.get("version") not in (1, 2):
                raise ValueError(f"{path}: not a pattern library that this version of microinfer reads")
            simulation = json.loads(file.attrs["simulation"])
            simulation = {
                name: tuple(value) if isinstance(value, list) else value for name, value in simulation.items()
            }
            labels = {name: file[name][()] for name in _LABELS}
            bound = file["in_plane_bound"][()] if "in_plane_bound" in file else None
            disks = {name: file[name][()] for name in ("offsets", "qx", "qy", "intensity")}
            phases = tuple(CrystalPhase.from_dict(phase) for phase in json.loads(file.attrs["phases"]))
    except (OSError, KeyError) as error:
        raise ValueError(f"{path}: not a readable pattern library: {error}") from error
    peaks = BraggPeaks(**disks, scan=(len(labels["phase"]), 1))
    return PatternLibrary(
        peaks, **labels, phases=phases, simulation=SimulationConfig(**simulation), in_plane_bound=bound
    )
