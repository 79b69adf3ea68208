"""How long a training will take, measured on a small piece of it."""

import dataclasses
import itertools
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from microinfer.config import Config
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.simulate import default_processes, simulate_library
from microinfer.training.trainer import VALIDATION_PATTERNS, VALIDATIONS, Run

ZONE_AXES = 8
STEPS = 8


class Estimate(NamedTuple):
    """Seconds that the parts of a training will take."""

    simulation: float
    training: float


def estimate(config: Config, *, device: str = "auto") -> Estimate:
    """Measure a few zone axes and a few training steps, and scale them up.

    Parameters
    ----------
    config : Config
        What would be trained.
    device : str
        As in `train`.

    Returns
    -------
    Estimate
    """
    preparation, _ = _simulate(config, 2)  # what every worker process does first is in it
    again, _ = _simulate(config, 2)
    more, library = _simulate(config, 2 + ZONE_AXES)
    total = config.simulation.zone_axes * len(config.phases)
    simulation = preparation + (more - again) / ZONE_AXES * total / default_processes()

    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, Path(folder), library, device)
        batches = [batch for _, batch in itertools.islice(run.batches(), 1 + STEPS)]
        run.update(batches[0])  # warm up
        start = time.perf_counter()
        for batch in batches[1:]:
            run.update(batch)
        sample = (time.perf_counter() - start) / sum(len(batch.phase) for batch in batches[1:])
    return Estimate(simulation, sample * (config.training.samples + VALIDATIONS * VALIDATION_PATTERNS))


def _simulate(config: Config, zone_axes: int) -> tuple[float, PatternLibrary]:
    simulation = dataclasses.replace(config.simulation, zone_axes=zone_axes)
    start = time.perf_counter()
    library = simulate_library(dataclasses.replace(config, simulation=simulation), processes=1)
    return time.perf_counter() - start, library
