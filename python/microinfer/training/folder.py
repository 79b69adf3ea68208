"""The folder of a training: its library, the state to resume from, its log and its checkpoint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from microinfer.simulation.library import PatternLibrary, load_library
from microinfer.simulation.settings import SimulationConfig
from microinfer.simulation.simulate import load_structures
from microinfer.training.config import Config
from microinfer.unfinished import partial_path

LIBRARY, STATE = "library.h5", "state.pt"
"""Files in the folder of a training."""


def may_resume(folder: Path) -> bool:
    """Whether there is anything of a training to go on with."""
    library = folder / LIBRARY
    return (folder / STATE).is_file() or library.is_file() or partial_path(library).is_file()


def require_no_training(folder: Path) -> None:
    """Refuse a folder in which a training stands that a new one would overwrite."""
    if (folder / STATE).exists() or partial_path(folder / LIBRARY).exists():
        raise FileExistsError(
            f"{folder}: holds a training; --resume goes on with it; move it away or use another folder"
        )


def read_library(config: Config, folder: Path) -> PatternLibrary | None:
    """Read the library of a training's folder; None where there is none, ValueError for that of other settings."""
    path = folder / LIBRARY
    if not path.is_file():
        return None
    library = load_library(path)
    if not _same_patterns(library, config.simulation):
        raise ValueError(f"{path}: was simulated with other settings; move it away or use another folder")
    _check_crystals(library, config, path)
    return library


def _same_patterns(library: PatternLibrary, simulation: SimulationConfig) -> bool:
    """Whether a simulation gives this library's patterns, however its thicknesses are written."""

    def apart_from_thickness(settings: SimulationConfig) -> SimulationConfig:
        return replace(settings, thickness_nm=(1.0, 1.0), thickness_range=())

    return apart_from_thickness(library.simulation) == apart_from_thickness(simulation) and all(
        np.allclose(
            library.simulation.thickness_limits(phase.lattice[0]),
            simulation.thickness_limits(phase.lattice[0]),
        )
        for phase in library.phases
    )


def _check_crystals(library: PatternLibrary, config: Config, path: Path) -> None:
    """Refuse a library of other crystals; but for their names only where the simulation's packages are here."""
    held, wanted = [phase.name for phase in library.phases], [phase.display_name for phase in config.phases]
    if held != wanted:
        raise ValueError(
            f"{path}: holds patterns of {', '.join(held)}, not of {', '.join(wanted)} as configured; "
            "move it away or use another folder"
        )
    try:
        crystals = [
            structure.phase(config.simulation.k_max, phase.symmetry)
            for structure, phase in zip(load_structures(config), config.phases, strict=True)
        ]
    except ImportError:
        return
    for phase, crystal in zip(library.phases, crystals, strict=True):
        for what in ("lattice", "operators", "reflections"):
            if not _alike(getattr(phase, what), getattr(crystal, what)):
                raise ValueError(
                    f"{path}: the {what} of {phase.name} are not those of the configured structure and symmetry; "
                    "move it away or use another folder"
                )


def _alike(first: ArrayLike, second: ArrayLike) -> bool:
    return np.shape(first) == np.shape(second) and np.allclose(first, second, rtol=1e-4, atol=1e-6)
