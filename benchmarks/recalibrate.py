"""Fit a model's confidence anew, without training again: `python benchmarks/recalibrate.py cu OUT.safetensors`.

What ends a training, for a model whose library is not at hand: the patterns that were held out from it are simulated
again from the recipe in the card, and no others. The weights stay as they are.
"""

import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.models import load_model
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.simulate import SimulationTask, library_tasks, simulate_library
from microinfer.training.calibration import calibrate, calibration_patterns
from microinfer.training.config import Config
from microinfer.training.trainer import split


class Zones(NamedTuple):
    """Which zone axis each pattern of a library belongs to, where nothing else of it is known."""

    zone: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.zone)


def held_out_patterns(config: Config) -> tuple[PatternLibrary, NDArray[np.int64]]:
    """The zone axes that hold the patterns kept from a training, and these patterns' places among them."""
    tasks = [
        SimulationTask(task.phase, task.orientations[[zone]], task.thicknesses[[zone]])
        for task in library_tasks(config)
        for zone in range(len(task.orientations))
    ]
    thicknesses = config.simulation.thicknesses
    library: Any = Zones(np.repeat(np.arange(len(tasks)), thicknesses))
    _, held_out = split(library, config.training)
    zones = np.unique(library.zone[held_out])
    patterns = np.flatnonzero(np.isin(library.zone, zones))
    simulated = simulate_library(config, tasks=[tasks[zone] for zone in zones], progress=True)
    return simulated, np.searchsorted(patterns, held_out)


def main(name: str, out: str) -> None:
    """Write the model with its new calibration."""
    model = load_model(name)
    config = Config.from_dict(model.card["recipe"])
    library, held_out = held_out_patterns(config)
    calibration = calibrate(model, calibration_patterns(library, held_out, config))
    print(f"{name}: before {model.calibration}, now {calibration}")
    replace(model, calibration=calibration).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
