"""Test sets: random orientations of a model's crystals, clean and noisy, from seeds that no library is made with."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import random_orientations
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.simulate import BLOCK, SimulationTask, require_simulation, simulate_tasks

TEST_SEED = 20_261_124
"""Of the reported figures, plus the phase index; see `microinfer.simulation.settings.TEST_SEEDS`."""


class TestSets(NamedTuple):
    """The same orientations and thicknesses twice."""

    clean: PatternLibrary
    noisy: PatternLibrary


def simulate_test_sets(
    phases: tuple[PhaseConfig, ...],
    simulation: SimulationConfig,
    count: int,
    *,
    seed: int = TEST_SEED,
    processes: int | None = None,
    progress: bool = False,
) -> TestSets:
    """Simulate a clean and a noisy test set.

    Zone axis uniform on the sphere, in-plane angle uniform, thickness uniform over the simulation's range, one
    for each orientation. Every pattern is kept, however few disks it has. The phases take turns, so that any
    first patterns hold equally many of each.

    Parameters
    ----------
    phases : tuple of PhaseConfig
        The crystals.
    simulation : SimulationConfig
        How to simulate; how it samples zone axes and thicknesses of a library, but for their range, is not
        looked at.
    count : int
        Patterns in each set.
    seed : int
        Seed of everything random, from `microinfer.simulation.settings.TEST_SEEDS` on, so that no library was made
        with it.
    processes : int, optional
        Worker processes; by default one for each core, 1 stays in this process.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TestSets
    """
    if count < len(phases):
        raise ValueError(f"count must be at least the number of phases, {len(phases)}, got {count}")
    require_simulation()
    structures = [load_structure(phase.structure, phase.display_name) for phase in phases]
    generators = [np.random.default_rng(seed + index) for index in range(len(phases))]
    orientation, thickness = np.zeros((count, 3, 3)), np.zeros(count)
    tasks: list[SimulationTask] = []
    task_rows: list[NDArray[np.int64]] = []
    for index, (structure, rng) in enumerate(zip(structures, generators, strict=True)):
        rows = np.arange(index, count, len(phases))
        orientation[rows] = random_orientations(len(rows), rng)
        thickness[rows] = rng.uniform(*simulation.thickness_limits(structure.lattice[0]), len(rows))
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            tasks.append(SimulationTask(index, orientation[block], thickness[block, None]))
            task_rows.append(block)
    clean: list[NDArray[np.float32]] = [np.zeros((0, 3), np.float32)] * count
    noisy = list(clean)
    simulated = simulate_tasks(structures, simulation, tasks, processes, progress)
    for rows, (task, zones) in zip(task_rows, simulated, strict=True):
        for row, zone in zip(rows, zones, strict=True):
            (clean[row],) = zone.patterns
            noisy[row] = add_noise(clean[row], simulation.k_max, generators[task.phase])
    first, second = (
        PatternLibrary(
            peaks=BraggPeaks.from_patterns(patterns, (count, 1)),
            orientation=orientation.astype(np.float32),
            phase=np.arange(count) % len(phases),
            zone=np.arange(count),
            thickness=thickness.astype(np.float32),
            phases=tuple(
                structure.phase(simulation.k_max, phase.symmetry)
                for structure, phase in zip(structures, phases, strict=True)
            ),
            simulation=simulation,
        )
        for patterns in (clean, noisy)
    )
    return TestSets(first, second)


def add_noise(pattern: NDArray[np.float32], k_max: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Disturb one pattern as a detector does.

    Positions move by 0.008 1/Angstrom (standard deviation, each axis), intensities are multiplied by
    exp(N(0, 0.3)), disks under 2 % of the strongest are lost, and 0.6 false disks on average come in, uniform
    over the detector, with 2 to 20 % of the strongest's intensity.

    Parameters
    ----------
    pattern : ndarray of float32, shape (n, 3)
        qx, qy in 1/Angstrom and intensity.
    k_max : float
        Radius of the detector in 1/Angstrom.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    ndarray of float32, shape (m, 3)
    """
    pattern = pattern.copy()
    pattern[:, :2] += 0.008 * rng.standard_normal((len(pattern), 2))
    pattern[:, 2] *= np.exp(0.3 * rng.standard_normal(len(pattern)))
    strongest = pattern[:, 2].max(initial=0.0)
    pattern = pattern[pattern[:, 2] >= 0.02 * strongest]
    false = rng.poisson(0.6)
    radius, angle = k_max * np.sqrt(rng.random(false)), rng.uniform(0.0, 2.0 * np.pi, false)
    strength = strongest * rng.uniform(0.02, 0.2, false)
    disks = np.stack([radius * np.cos(angle), radius * np.sin(angle), strength], axis=-1)
    return np.asarray(np.concatenate([pattern, disks]), np.float32)


def pattern_hash(library: PatternLibrary) -> str:
    """A hash of disk positions (to 1e-4 1/Angstrom) and orientations, the same on machines that round alike."""
    digest = hashlib.sha256()
    for values in (library.peaks.offsets, library.orientation, library.peaks.qx, library.peaks.qy):
        digest.update(np.round(np.asarray(values, np.float64), 4).tobytes())
    return digest.hexdigest()[:16]
