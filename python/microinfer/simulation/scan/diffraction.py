"""The Bragg disks of a synthetic scan: Bloch waves on a grid of bends and thicknesses of each grain."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import lattice_basis
from microinfer.crystals.structure import Structure
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.progress import ProgressBar
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.scan.grains import Crystals, Microstructure
from microinfer.simulation.scan.settings import ScanSettings
from microinfer.simulation.settings import SimulationConfig
from microinfer.simulation.simulate import default_processes
from microinfer.simulation.workers import spread

BEND_STEP = 0.2  # degrees
THICKNESS_STEP = 10.0  # Angstrom


class _Task(NamedTuple):
    """What is solved of one grain."""

    phase: int
    orientations: NDArray[np.float64]  # (A, 3, 3)
    thicknesses: NDArray[np.float64]  # (T,)


@dataclass(frozen=True, eq=False)
class GrainBeams:
    """The beams of a grain on a grid of bends and thicknesses, between which they are interpolated.

    Attributes
    ----------
    g : ndarray of float64, shape (B, 3)
        Reciprocal lattice vectors in the crystal's frame, 1/Angstrom; the direct beam is the first.
    intensity : ndarray of float32, shape (A, T, B)
        Shares of the electrons, which sum to 1.
    """

    g: NDArray[np.float64]
    intensity: NDArray[np.float32]

    def at(self, bend: NDArray[np.float64], thickness: NDArray[np.float64]) -> NDArray[np.float64]:
        """Intensities at some places of the grid, shape (N, B).

        Parameters
        ----------
        bend, thickness : ndarray, shape (N,)
            Between 0 and 1, from the first value of the grid to the last.
        """
        bends, thicknesses, beams = self.intensity.shape
        result = np.zeros((len(bend), beams))
        first, a = _between(bend, bends)
        second, t = _between(thickness, thicknesses)
        for i in (0, 1):
            for j in (0, 1):
                weight = (a if i else 1.0 - a) * (t if j else 1.0 - t)
                nodes = np.minimum(first + i, bends - 1), np.minimum(second + j, thicknesses - 1)
                result += weight[:, None] * self.intensity[nodes]
        return result


def _between(place: NDArray[np.float64], nodes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The node of a grid before each place from 0 to 1, and how far it is to the next."""
    at = np.clip(place, 0.0, 1.0) * (nodes - 1)
    node = np.floor(at).astype(np.int64)
    return node, at - node


class _Solver:
    """What solves the grains in one process; the simulator of each phase is made once."""

    def __init__(self, structures: list[Structure], config: SimulationConfig) -> None:
        self._structures, self._config = structures, config
        self._simulators: dict[int, PatternSimulator] = {}

    def __call__(self, task: _Task) -> GrainBeams:
        if task.phase not in self._simulators:
            self._simulators[task.phase] = PatternSimulator(self._structures[task.phase], self._config)
        solved = [
            self._simulators[task.phase].beams(orientation, task.thicknesses)
            for orientation in task.orientations
        ]
        # an orientation has the same beams at every thickness, its neighbour a few others
        indices = [np.stack([beams[0][name] for name in "hkl"], axis=-1).astype(np.int64) for beams in solved]
        hkl, place = np.unique(np.concatenate(indices), axis=0, return_inverse=True)
        places = np.split(place.ravel(), np.cumsum([len(rows) for rows in indices])[:-1])
        intensity = np.zeros((len(solved), len(task.thicknesses), len(hkl)))
        for orientation, (beams, at) in enumerate(zip(solved, places, strict=True)):
            intensity[orientation][:, at] = [data["intensity"] for data in beams]
        intensity /= intensity.sum(axis=-1, keepdims=True)  # what is absorbed is scattered beside the disks
        direct = ~hkl.any(axis=1)
        strongest = np.where(direct, 0.0, intensity).max(axis=-1, keepdims=True)
        seen = np.any(intensity > 0.5 * self._config.intensity_min * strongest, axis=(0, 1)) & ~direct
        order = np.concatenate([np.flatnonzero(direct), np.flatnonzero(seen)])
        basis = np.linalg.inv(lattice_basis(self._structures[task.phase].lattice)).T
        return GrainBeams(hkl[order] @ basis, intensity[..., order].astype(np.float32))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_simulators": {}}


class Diffraction:
    """The Bragg disks of a microstructure.

    Parameters
    ----------
    settings : ScanSettings
        Diffraction and grains count.
    structures : list of Structure
        Of the phases.
    grains : Microstructure
        What diffracts.
    processes : int, optional
        Worker processes; by default one for each core, 1 stays in this process.
    progress : bool
        Show a progress bar.
    """

    def __init__(
        self,
        settings: ScanSettings,
        structures: list[Structure],
        grains: Microstructure,
        processes: int | None = None,
        progress: bool = False,
    ) -> None:
        self._settings, self._grains = settings, grains
        half = 0.5 * settings.grains.bending
        bends = np.linspace(-half, half, 1 + int(np.ceil(2.0 * half / BEND_STEP)))
        self._limits = [grains.thicknesses(grain) for grain in range(settings.grains.count)]
        tasks = [
            _Task(
                int(grains.phase[grain]),
                grains.orientations(np.full(len(bends), grain), bends),
                np.linspace(low, high, 1 + int(np.ceil((high - low) / THICKNESS_STEP))),
            )
            for grain, (low, high) in enumerate(self._limits)
        ]
        solver = _Solver(structures, settings.diffraction.simulation())
        self._beams: list[GrainBeams] = []
        with (
            closing(_solved(solver, tasks, processes)) as solutions,
            ProgressBar("simulating", len(tasks), visible=progress) as bar,
        ):
            for beams in solutions:
                self._beams.append(beams)
                bar.advance(1)

    def disks(self, crystals: Crystals) -> BraggPeaks:
        """All disks of some rows, the direct beam first; the intensities of a position sum to 1.

        Where two crystals lie above each other the beam crosses one after the other; what is diffracted twice is
        neglected.
        """
        shape = crystals.grain.shape[:2]
        grain = crystals.grain.reshape(-1, 2)
        bend, thickness = crystals.bend.reshape(-1, 2), crystals.thickness.reshape(-1, 2)
        direct = np.ones(grain.shape)
        places, disks = [], []
        for index in np.unique(grain[grain >= 0]):
            position, crystal = np.nonzero(grain == index)
            low, high = self._limits[index]
            bending = self._settings.grains.bending
            at = bend[position, crystal], thickness[position, crystal]
            intensity = self._beams[index].at(
                at[0] / bending + 0.5 if bending else np.zeros(len(position)),
                (at[1] - low) / (high - low) if high > low else np.zeros(len(position)),
            )
            direct[position, crystal] = intensity[:, 0]
            q = self._beams[index].g[1:] @ self._grains.orientations(np.full(len(position), index), at[0])
            places.append(np.repeat(2 * position + crystal, q.shape[1]))
            disks.append(np.concatenate([q[..., :2], intensity[:, 1:, None]], axis=-1).reshape(-1, 3))
        place = np.concatenate([2 * np.arange(len(grain)), *places])
        beam = np.zeros((len(grain), 3))
        beam[:, 2] = 1.0
        table = np.concatenate([beam, *disks])
        order = np.argsort(place, kind="stable")
        place, table = place[order], table[order]
        position, crystal = np.divmod(place, 2)
        first = np.concatenate([[True], np.diff(position) > 0])
        # through the other crystal the disks of one go undiffracted, as does the direct beam through both
        table[:, 2] *= np.where(first, direct.prod(axis=1)[position], direct[position, 1 - crystal])
        diffracted = np.where(first, 0.0, table[:, 2])
        strongest = np.maximum.reduceat(diffracted, np.flatnonzero(first))[position]
        kept = first | (diffracted > self._settings.diffraction.intensity_min * strongest)
        position, table = position[kept], table[kept]
        table[:, 2] /= np.bincount(position, table[:, 2])[position]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(position, minlength=len(grain)))])
        qx, qy, intensity = table.T
        return BraggPeaks(offsets, qx, qy, intensity, (shape[0], shape[1]))


def _solved(solver: _Solver, tasks: list[_Task], processes: int | None) -> Generator[GrainBeams, None, None]:
    if processes != 1:
        yield from spread(solver, tasks, processes or default_processes())
        return
    from threadpoolctl import threadpool_limits

    for task in tasks:
        with threadpool_limits(1):  # the matrices are small
            beams = solver(task)
        yield beams
