"""The pattern library: disks, orientations and thicknesses of many zone axes, simulated in parallel."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.config import Config, SimulationConfig
from microinfer.crystal import CrystalPhase
from microinfer.io.atomic import atomic_output
from microinfer.peaks import BraggPeaks
from microinfer.progress import track
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.structure import Structure, load_structure
from microinfer.symmetry import in_fundamental_cell, random_orientations

_FORMAT = "microinfer pattern library"
_BLOCK = 25  # zone axes in one parallel task


@dataclass(frozen=True, eq=False)
class PatternLibrary:
    """Simulated patterns with their labels.

    Attributes
    ----------
    peaks : BraggPeaks
        The patterns, scan shape (N, 1).
    orientation : ndarray of float32, shape (N, 3, 3)
        Orientation labels.
    phase : ndarray of int64, shape (N,)
        Index into phases.
    zone : ndarray of int64, shape (N,)
        Number of the zone axis; a validation split goes by it.
    thickness : ndarray of float32, shape (N,)
        In Angstrom.
    phases : tuple of CrystalPhase
        The phases.
    simulation : SimulationConfig
        How the patterns were made.
    """

    peaks: BraggPeaks
    orientation: NDArray[np.float32]
    phase: NDArray[np.int64]
    zone: NDArray[np.int64]
    thickness: NDArray[np.float32]
    phases: tuple[CrystalPhase, ...]
    simulation: SimulationConfig

    def __len__(self) -> int:
        return len(self.phase)

    def save(self, path: str | Path) -> None:
        """Write the library to an HDF5 file."""
        with atomic_output(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = _FORMAT
            file.attrs["version"] = 1
            file.attrs["phases"] = json.dumps([phase.to_dict() for phase in self.phases])
            file.attrs["simulation"] = json.dumps(vars(self.simulation))
            for name in ("offsets", "qx", "qy", "intensity"):
                file[name] = getattr(self.peaks, name)
            for name in ("orientation", "phase", "zone", "thickness"):
                file[name] = getattr(self, name)


def load_library(path: str | Path) -> PatternLibrary:
    """Read a library that `PatternLibrary.save` wrote.

    Raises
    ------
    ValueError
        If the file is not such a library.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT or file.attrs.get("version") != 1:
                raise ValueError(f"{path}: not a pattern library that this version of microinfer reads")
            simulation = json.loads(file.attrs["simulation"])
            simulation["thickness_range"] = tuple(simulation["thickness_range"])
            labels = {name: file[name][()] for name in ("orientation", "phase", "zone", "thickness")}
            disks = {name: file[name][()] for name in ("offsets", "qx", "qy", "intensity")}
            phases = tuple(CrystalPhase.from_dict(phase) for phase in json.loads(file.attrs["phases"]))
    except (OSError, KeyError) as error:
        raise ValueError(f"{path}: not a readable pattern library: {error}") from error
    peaks = BraggPeaks(**disks, scan_shape=(len(labels["phase"]), 1))
    return PatternLibrary(peaks, **labels, phases=phases, simulation=SimulationConfig(**simulation))


def simulate_library(
    config: Config, path: str | Path | None = None, *, processes: int | None = None, progress: bool = False
) -> PatternLibrary:
    """Simulate the library that a configuration describes.

    The same seed gives the same library, whatever the number of processes.

    Parameters
    ----------
    config : Config
        Phases and simulation.
    path : str or Path, optional
        Where to write the library.
    processes : int, optional
        Worker processes; by default one for each core, 1 stays in this process.
    progress : bool
        Show a progress bar.

    Returns
    -------
    PatternLibrary
    """
    simulation = config.simulation
    structures = [load_structure(phase.structure, phase.name) for phase in config.phases]
    tasks = []
    for index, (structure, phase) in enumerate(zip(structures, config.phases, strict=True)):
        rng = np.random.default_rng([simulation.seed, index])
        matrices = _random_cell_orientations(structure.operators(phase.symmetry), simulation.zone_axes, rng)
        low, high = simulation.thickness_range
        thickness = structure.lattice[0] * rng.uniform(
            low, high, (simulation.zone_axes, simulation.thicknesses)
        )
        for start in range(0, simulation.zone_axes, _BLOCK):
            block = slice(start, start + _BLOCK)
            tasks.append(_Task(index, start, matrices[block], thickness[block]))
    patterns: list[NDArray[np.float32]] = []
    labels: list[tuple[NDArray[np.float64], int, int, float]] = []
    blocks = track(
        _run(_Worker(structures, simulation), tasks, processes),
        "simulating",
        total=len(tasks),
        visible=progress,
    )
    for (index, start, matrices, thickness), block_patterns in zip(tasks, blocks, strict=True):
        patterns.extend(block_patterns)
        zone = index * simulation.zone_axes + start
        for offset, matrix in enumerate(matrices):
            labels.extend((matrix, index, zone + offset, value) for value in thickness[offset])
    phases = tuple(
        structure.phase(simulation.k_max, phase.symmetry)
        for structure, phase in zip(structures, config.phases, strict=True)
    )
    orientation, phase_index, zone_index, thicknesses = zip(*labels, strict=True)
    library = PatternLibrary(
        peaks=BraggPeaks.from_patterns(patterns, (len(patterns), 1)),
        orientation=np.array(orientation, np.float32),
        phase=np.array(phase_index, np.int64),
        zone=np.array(zone_index, np.int64),
        thickness=np.array(thicknesses, np.float32),
        phases=phases,
        simulation=simulation,
    )
    if path is not None:
        library.save(path)
    return library


def _random_cell_orientations(
    operators: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Uniformly random orientations, each by the equivalent whose zone axis lies in the fundamental cell."""
    equivalent = np.einsum("gij,njk->ngik", operators, random_orientations(count, rng))
    axes = equivalent[..., 2]
    inside = in_fundamental_cell(axes.reshape(-1, 3), operators).reshape(axes.shape[:2])
    return np.asarray(equivalent[np.arange(count), inside.argmax(axis=1)])


def default_processes() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Task(NamedTuple):
    """Some zone axes of one phase."""

    phase: int
    start: int
    orientations: NDArray[np.float64]  # (n, 3, 3)
    thicknesses: NDArray[np.float64]  # (n, T)


class _Worker:
    """What simulates in one process; the simulator of each phase is made once."""

    def __init__(self, structures: list[Structure], config: SimulationConfig) -> None:
        self._structures, self._config = structures, config
        self._simulators: dict[int, PatternSimulator] = {}

    def __call__(self, task: _Task) -> list[NDArray[np.float32]]:
        from threadpoolctl import threadpool_limits

        if task.phase not in self._simulators:
            self._simulators[task.phase] = PatternSimulator(self._structures[task.phase], self._config)
        patterns: list[NDArray[np.float32]] = []
        with threadpool_limits(1):  # the matrices are small
            for orientation, thicknesses in zip(task.orientations, task.thicknesses, strict=True):
                patterns.extend(self._simulators[task.phase].patterns(orientation, thicknesses))
        return patterns


_worker: _Worker  # of a worker process


def _start(worker: _Worker) -> None:
    global _worker
    _worker = worker


def _work(task: _Task) -> list[NDArray[np.float32]]:
    return _worker(task)


def _run(worker: _Worker, tasks: list[_Task], processes: int | None) -> Iterator[list[NDArray[np.float32]]]:
    processes = processes or default_processes()
    if processes == 1:
        yield from map(worker, tasks)
        return
    # spawn: a fork would inherit torch's and HDF5's threads and locks
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(worker,)) as pool:
        yield from pool.map(_work, tasks)
