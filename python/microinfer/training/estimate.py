"""How long a training will take, measured on a small piece of it."""

import itertools
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from microinfer.models.device import first_device
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.simulate import SimulationTask, default_processes, library_tasks, simulate_library
from microinfer.training.config import Config
from microinfer.training.trainer import (
    VALIDATION_PATTERNS,
    VALIDATIONS,
    Run,
    read_library,
    require_no_training,
)

ZONE_AXES = 10
"""Of each phase."""
STEPS = 8


class Estimate(NamedTuple):
    """Seconds that the parts of a training will take."""

    simulation: float
    """0 where the library is there."""
    training: float


def estimate(config: Config, out: str | Path, *, device: str = "auto") -> Estimate:
    """Measure a few zone axes and a few training steps, and scale them up.

    Parameters
    ----------
    config, out, device
        As in `train`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError, FileExistsError
        As in `train` without `resume`.
    """
    folder, target = Path(out), first_device(device)
    require_no_training(folder)
    simulation, library = 0.0, read_library(config, folder)
    if library is None:
        simulation, library = _simulation(config)
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(config, Path(temporary), library, target)
        batches = [batch for _, batch in itertools.islice(run.batches(), 1 + STEPS)]
        run.update(batches[0])  # warm up
        start = time.perf_counter()
        for batch in batches[1:]:
            run.update(batch)
        sample = (time.perf_counter() - start) / sum(len(batch.phase) for batch in batches[1:])
    return Estimate(simulation, sample * (config.training.samples + VALIDATIONS * VALIDATION_PATTERNS))


def _simulation(config: Config) -> tuple[float, PatternLibrary]:
    """Seconds that the library will take, and one of a few of its zone axes."""
    zone_axes = [zone_axis for task in library_tasks(config) for zone_axis in task.split()]
    one, few = (_evenly(zone_axes, len(config.phases) * count) for count in (1, ZONE_AXES))
    preparation, _ = _simulate(config, one)  # what every worker process does first is in it
    again, _ = _simulate(config, one)
    more, library = _simulate(config, few)
    each = (more - again) / (len(few) - len(one))
    return preparation + each * len(zone_axes) / default_processes(), library


def _evenly(zone_axes: list[SimulationTask], count: int) -> list[SimulationTask]:
    """Equally many of each phase, as the phases have equally many zone axes, one phase after the other."""
    return [zone_axes[index] for index in np.arange(count) * len(zone_axes) // count]


def _simulate(config: Config, tasks: list[SimulationTask]) -> tuple[float, PatternLibrary]:
    start = time.perf_counter()
    library = simulate_library(config, tasks=tasks, processes=1)
    return time.perf_counter() - start, library
