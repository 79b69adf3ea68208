"""Simulation of a pattern library in parallel."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.structure import Structure, load_structure
from microinfer.crystals.symmetry import in_fundamental_cell, random_orientations, zone_axis_frames
from microinfer.extras import require_packages
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.progress import ProgressBar
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.library import DISKS, LABELS, Arrays, PatternLibrary
from microinfer.simulation.settings import LibrarySettings, SimulationConfig
from microinfer.simulation.standard_triangle import (
    ZoneAxisPatterns,
    interpolated_zone_axes,
    zone_axis_patterns,
)
from microinfer.simulation.unfinished import joined_arrays, unfinished_library
from microinfer.simulation.workers import spread

CUBIC = 24
"""Proper operators of the Laue class m-3m."""
BLOCK = 1  # zone axes in one parallel task: an interruption loses no more of each worker


def simulate_library(
    config: LibrarySettings,
    path: str | Path | None = None,
    *,
    resume: bool = False,
    tasks: "list[SimulationTask] | None" = None,
    processes: int | None = None,
    progress: bool = False,
) -> PatternLibrary:
    """Simulate the library that a configuration describes.

    The same seed gives the same library, whatever the number of processes and however often it was interrupted.

    Parameters
    ----------
    config : LibrarySettings
        Phases and simulation.
    path : str or Path, optional
        Where to write the library. Until it is complete it is called ``<path>.part``, and after an interruption it
        stays there.
    resume : bool
        Go on with the unfinished library.
    tasks : list of SimulationTask, optional
        Only these, of `library_tasks`, in memory.
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
        FileExistsError for an unfinished library without `resume`, FileNotFoundError for none with it.
    ValueError
        For `tasks` and a `path`. With `resume`, if the unfinished library is damaged, or of other crystals or settings.
    ImportError
        Where a package of the simulation is missing.
    """
    require_simulation()
    structures = load_structures(config)
    if tasks is not None and path is not None:
        raise ValueError(
            "a library of some tasks alone is not written to a file: give tasks or path, not both"
        )
    tasks = library_tasks(config) if tasks is None else tasks
    if path is None:
        parts: list[Arrays] = []
        zones = 0
        for task, done in simulate_tasks(structures, config.simulation, tasks, processes, progress):
            parts.append(_arrays(task.phase, done, zones))
            zones += len(done)
        return _library(config, _phases(config, structures), joined_arrays(parts))
    with unfinished_library(path, config, structures, len(tasks), resume=resume) as unfinished:
        started = simulate_tasks(
            structures, config.simulation, tasks, processes, progress, first=unfinished.tasks
        )
        for task, done in started:
            unfinished.add(len(done), _arrays(task.phase, done, unfinished.zones))
        library = _library(config, _phases(config, structures), unfinished.arrays)
        library.save(path)
    return library


def _arrays(phase: int, zones: list[ZoneAxisPatterns], first: int) -> Arrays:
    """The patterns of some zone axes, of which the first has this number."""
    counts = [len(zone.patterns) for zone in zones]
    patterns = [pattern for zone in zones for pattern in zone.patterns]
    values = {
        "orientation": np.repeat([zone.orientation for zone in zones], counts, axis=0),
        "phase": np.full(len(patterns), phase),
        "zone": np.repeat(np.arange(first, first + len(zones)), counts),
        "thickness": np.concatenate([zone.thicknesses for zone in zones]),
        "in_plane_bound": np.repeat([zone.in_plane_bound for zone in zones], counts),
        "count": np.array([len(pattern) for pattern in patterns]),
        **dict(zip(DISKS, np.concatenate(patterns).T, strict=True)),
    }
    return {name: values[name].astype(kind) for name, (_, kind) in {**LABELS, **DISKS}.items()}


def _library(config: LibrarySettings, phases: tuple[CrystalPhase, ...], arrays: Arrays) -> PatternLibrary:
    offsets = np.concatenate([[0], np.cumsum(arrays["count"])])
    return PatternLibrary(
        peaks=BraggPeaks(offsets, arrays["qx"], arrays["qy"], arrays["intensity"], (len(offsets) - 1, 1)),
        **{name: arrays[name] for name in ("orientation", "phase", "zone", "thickness")},
        phases=phases,
        simulation=config.simulation,
        in_plane_bound=None if config.simulation.sampling == "random" else arrays["in_plane_bound"],
    )


def _phases(config: LibrarySettings, structures: list[Structure]) -> tuple[CrystalPhase, ...]:
    return tuple(
        structure.phase(config.simulation.k_max, phase.symmetry)
        for structure, phase in zip(structures, config.phases, strict=True)
    )


class SimulationTask(NamedTuple):
    """Some zone axes of one phase."""

    phase: int
    orientations: NDArray[np.float64]  # (n, 3, 3)
    thicknesses: NDArray[np.float64] | None
    """(n, T) in Angstrom; None where the zone axes lie on the standard triangle and choose for themselves."""


def library_tasks(config: LibrarySettings) -> list[SimulationTask]:
    """All zone axes of the library that a configuration describes, equally many for each phase."""
    return [
        task
        for index, (structure, phase) in enumerate(zip(load_structures(config), config.phases, strict=True))
        for task in _tasks(index, structure.operators(phase.symmetry), structure, config.simulation)
    ]


def simulate_tasks(
    structures: list[Structure],
    simulation: SimulationConfig,
    tasks: list[SimulationTask],
    processes: int | None = None,
    progress: bool = False,
    *,
    first: int = 0,
) -> Iterator[tuple[SimulationTask, list[ZoneAxisPatterns]]]:
    """Yield each task in turn, from `first` on, with its zone axes' patterns; others as of `simulate_library`."""
    counts = [len(task.orientations) for task in tasks]
    with (
        closing(_run(_Worker(structures, simulation), tasks[first:], processes)) as simulated,
        ProgressBar(
            "simulating", sum(counts), visible=progress, done=sum(counts[:first]), unit="zone axes"
        ) as bar,
    ):
        for task, zones in zip(tasks[first:], simulated, strict=True):
            yield task, zones
            bar.advance(len(task.orientations))


def load_structures(config: LibrarySettings) -> list[Structure]:
    """Read the structures of all phases."""
    return [load_structure(phase.structure, phase.display_name) for phase in config.phases]


def require_simulation() -> None:
    """Raise ImportError, with the way to get it, where a package is missing that simulation needs."""
    require_packages("simulation", "py4DSTEM", "threadpoolctl")


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
    thickness = _thicknesses(simulation, structure.lattice[0], rng)
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


def _thicknesses(
    simulation: SimulationConfig, lattice_constant: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Random thicknesses in Angstrom, shape (zone axes, thicknesses)."""
    shape, (low, high) = (
        (simulation.zone_axes, simulation.thicknesses),
        simulation.thickness_limits(lattice_constant),
    )
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

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_simulators": {}}


def _run(
    worker: _Worker, tasks: list[SimulationTask], processes: int | None
) -> Generator[list[ZoneAxisPatterns], None, None]:
    if processes != 1:  # one worker, too, so that an interruption need not wait for a large matrix
        yield from spread(worker, tasks, processes or default_processes())
        return
    from threadpoolctl import threadpool_limits

    for task in tasks:
        with threadpool_limits(1):  # the matrices are small
            zones = worker(task)
        yield zones
