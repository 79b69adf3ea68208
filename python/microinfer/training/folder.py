"""The folder of a training: its library, the state to resume from, its log and its checkpoint."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from microinfer.differences import differences
from microinfer.simulation.library import PatternLibrary, load_library
from microinfer.simulation.settings import SimulationConfig
from microinfer.simulation.simulate import load_structures
from microinfer.simulation.unfinished import partial_path, share_done
from microinfer.training.config import Config
from microinfer.training.duration import Estimate

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
    if different := _other_settings(library, config.simulation):
        raise ValueError(
            f"{path}: was simulated with other settings: {different}; move it away or use another folder"
        )
    _check_crystals(library, config, path)
    return library


def _other_settings(library: PatternLibrary, simulation: SimulationConfig) -> str:
    """What keeps a simulation from giving this library's patterns, however its thicknesses are written."""

    def described(settings: SimulationConfig) -> dict[str, Any]:
        written = asdict(replace(settings, thickness_nm=(1.0, 1.0), thickness_range=()))
        limits = [settings.thickness_limits(phase.lattice[0]) for phase in library.phases]
        return written | {"thickness_nm": [[round(0.1 * limit, 6) for limit in pair] for pair in limits]}

    return differences(described(library.simulation), described(simulation))


def remaining(found: Estimate, config: Config, folder: Path) -> Estimate:
    """What is left of a training's time, by what its folder holds; ValueError for the state of other settings."""
    library = 1.0 - share_done(folder / LIBRARY)
    training = 1.0
    if (folder / STATE).is_file():
        from microinfer.training.state import read_state, require_same_settings

        state = read_state(folder / STATE, "cpu")
        require_same_settings(state, config.to_dict(), folder / STATE)
        training = max(0.0, 1.0 - state["progress"][0] / config.training.samples)
    return found._replace(library=found.library * library, training=found.training * training)


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
