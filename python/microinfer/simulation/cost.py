"""How long the simulation of a library will take, by the number of its beams and by how fast this machine is.

py4DSTEM takes longer to be imported than a user should wait for an answer: its work is weighed, not tried.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import electron_wavelength, excitation_errors
from microinfer.crystals.phase import lattice_basis
from microinfer.crystals.structure import Structure
from microinfer.crystals.symmetry import random_orientations
from microinfer.simulation.settings import SimulationConfig
from microinfer.simulation.standard_triangle import CANDIDATES, interpolated_zone_axes

DIRECTIONS = 16
"""Random zone axes whose beams are counted."""
LARGEST = 256
"""Size of the largest matrix that is decomposed to see how fast this machine is; for larger ones see `GROWTH`."""
GROWTH = 2.6
START = 12e6
"""What a worker does before its first zone axis, most of it imports. This and what follows is in lookups of a tuple in
a dictionary, of which py4DSTEM makes one for each coupling of two beams; measured from 10 to 320 beams."""
PER_ZONE_AXIS, PER_THICKNESS, PER_REFLECTION, PER_SCATTERER = 2500, 125, 2, 2


def library_seconds(structures: list[Structure], simulation: SimulationConfig, processes: int) -> float:
    """Return how long a library will take, within a factor of two in the main.

    Parameters
    ----------
    structures : list of Structure
        Its crystals.
    simulation : SimulationConfig
        How it is simulated.
    processes : int
        Worker processes.

    Returns
    -------
    float
        In seconds.
    """
    lookup = _seconds_per_lookup()
    zone_axes, thicknesses = simulated(simulation)
    start, each = START, 0.0
    for structure in structures:
        everywhere = len(_reflections(structure, simulation.k_max)[0])
        start += PER_SCATTERER * 8 * everywhere * len(structure.numbers)  # out to twice k_max
        each += lookup * (PER_ZONE_AXIS + PER_THICKNESS * thicknesses + PER_REFLECTION * everywhere)
        if simulation.method == "bloch":
            beams = mean_beams(structure, simulation)
            each += lookup * beams**2 + _decomposition_seconds(round(beams))
    return lookup * start + zone_axes * each / processes


def simulated(simulation: SimulationConfig) -> tuple[int, int]:
    """Zone axes of each phase that are simulated, and thicknesses of each."""
    if simulation.sampling == "random":
        return simulation.zone_axes, simulation.thicknesses
    return 2 * len(interpolated_zone_axes(simulation.zone_axis_step)), max(CANDIDATES, simulation.thicknesses)


def mean_beams(structure: Structure, simulation: SimulationConfig) -> float:
    """Beams that take part in a zone axis' pattern, on average."""
    hkl, g = _reflections(structure, simulation.k_max)
    phase = hkl @ structure.centring.T
    g = g[np.all(np.abs(phase - np.round(phase)) < 1e-4, axis=1)]
    orientations = random_orientations(DIRECTIONS, np.random.default_rng(0))
    errors = excitation_errors(g @ orientations, electron_wavelength(simulation.voltage))
    return float((np.abs(errors) < 3.0 * simulation.excitation_error_sigma).sum(axis=1).mean())


def _reflections(structure: Structure, k_max: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices and vectors of the reciprocal lattice's points within k_max, those that are extinct too."""
    basis = lattice_basis(structure.lattice)
    most = np.ceil(k_max * np.linalg.norm(basis, axis=1)).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-end, end + 1) for end in most), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    g = hkl @ np.linalg.inv(basis).T
    near = np.linalg.norm(g, axis=1) <= k_max
    return hkl[near], g[near]


def _seconds_per_lookup() -> float:
    table = {(index, 0, 0): 0j for index in range(100)}
    rows = np.random.default_rng(0).integers(0, 200, (5000, 3))
    return _seconds(lambda: [table.get((row[0], row[1], row[2]), 0j) for row in rows]) / len(rows)


def _decomposition_seconds(beams: int) -> float:
    from scipy import linalg
    from threadpoolctl import threadpool_limits

    size = max(1, min(beams, LARGEST))
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((size, size)) + 1j * rng.standard_normal((size, size))
    with threadpool_limits(1):
        seconds = _seconds(lambda: np.linalg.inv(linalg.eig(matrix)[1]))
    return seconds * float(max(1.0, beams / size) ** GROWTH)


def _seconds(work: Callable[[], object]) -> float:
    """Seconds that some work takes: the median of three times, after one to warm up."""
    work()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[1]
