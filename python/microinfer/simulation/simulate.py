"""Simulation of a pattern library in parallel."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.structure import Structure, load_structure
from microinfer.crystals.symmetry import in_fundamental_cell, random_orientations, zone_axis_frames
from microinfer.files import require_writable
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.progress import track
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.settings import LibrarySettings, SimulationConfig
from microinfer.simulation.standard_triangle import (
    ZoneAxisPatterns,
    interpolated_zone_axes,
    zone_axis_patterns,
)

CUBIC = 24
"""Proper operators of the Laue class m-3m."""
BLOCK = 25  # zone axes in one parallel task


def simulate_library(
    config: LibrarySettings,
    path: str | Path | None = None,
    *,
    tasks: "list[SimulationTask] | None" = None,
    processes: int | None = None,
    progress: bool = False,
) -> PatternLibrary:
    """Simulate the library that a configuration describes.

    The same seed gives the same library, whatever the number of processes.

    Parameters
    ----------
    config : LibrarySettings
        Phases and simulation.
    path : str or Path, optional
        Where to write the library.
    tasks : list of SimulationTask, optional
        Its zone axes; by default all `library_tasks`.
    processes : int, optional
        Worker processes; by default one for each core, 1 stays in this process.
    progress : bool
        Show a progress bar.

    Returns
    -------
    PatternLibrary

    Raises
    ------
    OSError
        If the library cannot be written; a missing or read-only place is found before anything is simulated.
    """
    if path is not None:
        require_writable(path)
    simulation = config.simulation
    structures = _structures(config)
    if tasks is None:
        tasks = library_tasks(config)
    blocks = simulate_tasks(structures, simulation, tasks, processes=processes, progress=progress)
    simulated = [(task.phase, zone) for task, zones in zip(tasks, blocks, strict=True) for zone in zones]
    counts = [len(zone.patterns) for _, zone in simulated]
    patterns = [pattern for _, zone in simulated for pattern in zone.patterns]
    bound = np.repeat(np.array([zone.in_plane_bound for _, zone in simulated], np.float32), counts)
    library = PatternLibrary(
        peaks=BraggPeaks.from_patterns(patterns, (len(patterns), 1)),
        orientation=np.repeat(
            np.array([zone.orientation for _, zone in simulated], np.float32), counts, axis=0
        ),
        phase=np.repeat(np.array([phase for phase, _ in simulated], np.int64), counts),
        zone=np.repeat(np.arange(len(simulated)), counts),
        thickness=np.concatenate([zone.thicknesses for _, zone in simulated]).astype(np.float32),
        phases=tuple(
            structure.phase(simulation.k_max, phase.symmetry)
            for structure, phase in zip(structures, config.phases, strict=True)
        ),
        simulation=simulation,
        in_plane_bound=bound if simulation.sampling == "standard_triangle" else None,
    )
    if path is not None:
        library.save(path)
    return library


class SimulationTask(NamedTuple):
    """Some zone axes of one phase."""

    phase: int
    orientations: NDArray[np.float64]  # (n, 3, 3)
    thicknesses: NDArray[np.float64] | None
    """(n, T) in Angstrom; None where the zone axes lie on the standard triangle and choose for themselves."""

    def split(self) -> "list[SimulationTask]":
        """Return a task for each zone axis."""
        return [
            SimulationTask(
                self.phase,
                self.orientations[row : row + 1],
                None if self.thicknesses is None else self.thicknesses[row : row + 1],
            )
            for row in range(len(self.orientations))
        ]


def library_tasks(config: LibrarySettings) -> list[SimulationTask]:
    """All zone axes of the library that a configuration describes, equally many for each phase."""
    return [
        task
        for index, (structure, phase) in enumerate(zip(_structures(config), config.phases, strict=True))
        for task in _tasks(index, structure.operators(phase.symmetry), structure, config.simulation)
    ]


def simulate_tasks(
    structures: list[Structure],
    simulation: SimulationConfig,
    tasks: list[SimulationTask],
    *,
    processes: int | None = None,
    progress: bool = False,
) -> Iterator[list[ZoneAxisPatterns]]:
    """Yield the patterns of each task in turn; other parameters as of `simulate_library`."""
    blocks = _run(_Worker(structures, simulation), tasks, processes)
    return track(blocks, "simulating", total=len(tasks), visible=progress)


def _structures(config: LibrarySettings) -> list[Structure]:
    return [load_structure(phase.structure, phase.name) for phase in config.phases]


def _tasks(
    phase: int, operators: NDArray[np.float64], structure: Structure, simulation: SimulationConfig
) -> Iterator[SimulationTask]:
    if simulation.sampling == "standard_triangle":
        if len(operators) != CUBIC:
            raise ValueError(
                f"simulation.sampling 'standard_triangle' is for cubic crystals of Laue class m-3m; "
                f"{structure.name} has {len(operators)} proper operators, not {CUBIC}: use 'random'"
            )
        for axes in _blocks(interpolated_zone_axes(simulation.zone_axis_step)):
            yield SimulationTask(phase, zone_axis_frames(axes), None)
        return
    rng = np.random.default_rng([simulation.seed, phase])
    matrices = _random_cell_orientations(operators, simulation.zone_axes, rng)
    thickness = structure.lattice[0] * _thicknesses(simulation, rng)
    for orientations, thicknesses in zip(_blocks(matrices), _blocks(thickness), strict=True):
        yield SimulationTask(phase, orientations, thicknesses)


def _blocks(values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    return (values[start : start + BLOCK] for start in range(0, len(values), BLOCK))


def _random_cell_orientations(
    operators: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Uniformly random orientations, each by the equivalent whose zone axis lies in the fundamental cell."""
    equivalent = np.einsum("gij,njk->ngik", operators, random_orientations(count, rng))
    axes = equivalent[..., 2]
    inside = in_fundamental_cell(axes.reshape(-1, 3), operators).reshape(axes.shape[:2])
    return np.asarray(equivalent[np.arange(count), inside.argmax(axis=1)])


def _thicknesses(simulation: SimulationConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random thicknesses in lattice constants, shape (zone axes, thicknesses)."""
    shape, (low, high) = (simulation.zone_axes, simulation.thicknesses), simulation.thickness_range
    if simulation.thickness_sampling == "logarithmic":
        return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), shape)))
    return np.asarray(rng.uniform(low, high, shape))


def default_processes() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """What simulates in one process; the simulator of each phase is made once."""

    def __init__(self, structures: list[Structure], config: SimulationConfig) -> None:
        self._structures, self._config = structures, config
        self._simulators: dict[int, PatternSimulator] = {}

    def __call__(self, task: SimulationTask) -> list[ZoneAxisPatterns]:
        if task.phase not in self._simulators:
            self._simulators[task.phase] = PatternSimulator(self._structures[task.phase], self._config)
        simulator = self._simulators[task.phase]
        from threadpoolctl import threadpool_limits  # after the simulator, which says what it needs

        with threadpool_limits(1):  # the matrices are small
            if task.thicknesses is None:
                return [
                    zone
                    for orientation in task.orientations
                    for zone in zone_axis_patterns(simulator, orientation[:, 2], self._config.thicknesses)
                ]
            return [
                ZoneAxisPatterns(
                    orientation, thicknesses, simulator.patterns(orientation, thicknesses), 2.0 * np.pi
                )
                for orientation, thicknesses in zip(task.orientations, task.thicknesses, strict=True)
            ]


_worker: _Worker  # of a worker process


def _start(worker: _Worker) -> None:
    global _worker
    _worker = worker


def _work(task: SimulationTask) -> list[ZoneAxisPatterns]:
    return _worker(task)


def _run(
    worker: _Worker, tasks: list[SimulationTask], processes: int | None
) -> Iterator[list[ZoneAxisPatterns]]:
    processes = min(processes or default_processes(), len(tasks))
    if processes == 1:
        yield from map(worker, tasks)
        return
    # spawn: a fork would inherit torch's and HDF5's threads and locks
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(worker,)) as pool:
        yield from pool.map(_work, tasks)
