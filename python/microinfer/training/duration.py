"""How long a training will take by stage, found out in a few seconds."""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.structure import Structure
from microinfer.crystals.symmetry import random_orientations
from microinfer.models.device import first_device
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.cost import library_seconds, mean_beams
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.simulate import default_processes, load_structures
from microinfer.training.config import Config
from microinfer.training.threads import let_threads_sleep

STAND_INS = 1000
"""Patterns of random disks of each phase that stand for a library that is not there yet."""

DISKS_OF_BEAMS, MOST_DISKS = 0.5, 28
"""Disks of a pattern: this share of its beams, and on average no more than that."""
FREE = 0.8
"""A thread that computes for at least this share of the time has a core of its own."""
ANSWER = 0.3
"""What an answer takes, in training samples."""
REFINEMENT = 1e-6
"""Seconds that the refinement of an answer takes for each reflection of its phase."""


class Estimate(NamedTuple):
    """Seconds that the parts of a training will take."""

    library: float
    """0 where the library is there."""
    training: float
    calibration: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def estimate(config: Config, library: PatternLibrary | None = None, *, device: str = "auto") -> Estimate:
    """Weigh the simulation of the library, and try a few steps of the training.

    Parameters
    ----------
    config : Config
        Phases, simulation, network and course of the training.
    library : PatternLibrary, optional
        Its library, where that is there already.
    device : str
        As in `train`.

    Returns
    -------
    Estimate
    """
    simulation = 0.0
    if library is None:
        structures = load_structures(config)
        simulation = library_seconds(structures, config.simulation, default_processes())
        library = _stand_in(config, structures)
    sample = _seconds_per_sample(config, library, first_device(device))
    from microinfer.training.calibration import PATTERNS
    from microinfer.training.trainer import VALIDATION_PATTERNS, VALIDATIONS

    samples = config.training.samples + ANSWER * VALIDATIONS * VALIDATION_PATTERNS
    answers = 3 * PATTERNS + 2 * VALIDATION_PATTERNS
    reflections = max(len(phase.reflections) for phase in library.phases)
    return Estimate(simulation, sample * samples, answers * (ANSWER * sample + REFINEMENT * reflections))


def scaled(found: Estimate, config: Config, other: Config) -> Estimate:
    """Return the estimate of a configuration as it is for another number of zone axes and of samples."""
    return Estimate(
        found.library * other.simulation.zone_axes / config.simulation.zone_axes,
        found.training * other.training.samples / config.training.samples,
        found.calibration,
    )


def _seconds_per_sample(config: Config, library: PatternLibrary, device: str) -> float:
    """Seconds of a step over its samples, on one thread or on all, whichever is faster now."""
    let_threads_sleep()
    import torch

    from microinfer.training.augmentation import augmented, subset
    from microinfer.training.trainer import Run

    with tempfile.TemporaryDirectory() as temporary:
        run = Run(config, Path(temporary), library, device)
    rng = np.random.default_rng(0)
    size = config.training.batch_size
    drawn = augmented(library, rng.choice(len(library), 2 * size), config.tokens, config.augmentation, rng)
    usual = drawn.tokens.count.argsort()[size // 2 : size // 2 + size]  # neither the shortest nor the longest
    batch = subset(drawn, usual)
    most = torch.get_num_threads()
    torch.set_num_threads(1)
    run.gradients(batch)  # to warm up
    began, busy = time.perf_counter(), time.thread_time()
    run.gradients(batch)
    seconds = time.perf_counter() - began
    torch.set_num_threads(most)
    if (
        most > 1 and time.thread_time() - busy > FREE * seconds
    ):  # else one thread does not get a core of its own
        began = time.perf_counter()
        run.gradients(batch)
        seconds = min(seconds, time.perf_counter() - began)
    return seconds / size


def _stand_in(config: Config, structures: list[Structure]) -> PatternLibrary:
    """Random disks, as many as patterns have."""
    rng = np.random.default_rng(0)
    count = STAND_INS * len(structures)
    disks = [
        rng.poisson(min(MOST_DISKS, DISKS_OF_BEAMS * mean_beams(structure, config.simulation)), STAND_INS)
        for structure in structures
    ]
    offsets = np.concatenate([[0], np.cumsum(np.maximum(disks, config.tokens.min_disks).ravel())])
    radius = config.simulation.k_max * np.sqrt(rng.uniform(0.01, 1.0, offsets[-1])).astype(np.float32)
    angle = rng.uniform(-np.pi, np.pi, offsets[-1])
    qx, qy = (radius * turn(angle).astype(np.float32) for turn in (np.cos, np.sin))
    intensity = rng.uniform(0.01, 1.0, offsets[-1]).astype(np.float32)
    return PatternLibrary(
        peaks=BraggPeaks(offsets, qx, qy, intensity, (count, 1)),
        orientation=random_orientations(count, rng).astype(np.float32),
        phase=np.repeat(np.arange(len(structures)), STAND_INS),
        zone=np.arange(count),
        thickness=np.ones(count, np.float32),
        phases=tuple(
            CrystalPhase(
                name=structure.name,
                lattice=structure.lattice,
                space_group=structure.space_group,
                point_group=structure.point_group,
                operators=structure.operators(phase.symmetry),
                reflections=np.zeros((0, 4)),
            )
            for structure, phase in zip(structures, config.phases, strict=True)
        ),
        simulation=config.simulation,
    )
