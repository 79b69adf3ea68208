"""Small pattern libraries, of random patterns."""

import numpy as np

from helpers.example_phases import PHASES
from microinfer.peaks import BraggPeaks
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.settings import SimulationConfig


def random_library(count: int = 60) -> PatternLibrary:
    """A library of copper, whose labels say nothing of its patterns."""
    rng = np.random.default_rng(3)
    return PatternLibrary(
        BraggPeaks.from_patterns([rng.uniform(-1, 1, (n % 20, 3)) for n in range(count)], (count, 1)),
        orientation=np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
        phase=np.zeros(count, np.int64),
        zone=np.arange(count),
        thickness=rng.uniform(1, 9, count).astype(np.float32),
        phases=(PHASES["Cu"],),
        simulation=SimulationConfig(),
        in_plane_bound=np.ones(count, np.float32),
    )
