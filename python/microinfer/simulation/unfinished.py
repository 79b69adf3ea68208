"""The unfinished pattern library: a file under another name that knows which tasks are done, to be gone on with."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.structure import Structure
from microinfer.files import OutputFile, partial_path, resumable_hdf5
from microinfer.interruption import unbroken
from microinfer.simulation.library import DISKS, LABELS, Arrays, attributes
from microinfer.simulation.settings import LibrarySettings, SimulationConfig

FORMAT = "microinfer unfinished pattern library"
SECONDS = 5.0
"""Results wait no longer than this before they are written."""
TASKS = (
    "finished_tasks"  # dataset (n, 4): tasks, zone axes, patterns and disks that were done after each write
)
IDENTITY = "identity"  # attribute: JSON of what is simulated
CHUNK = 16_384


class UnfinishedLibrary:
    """A pattern library on its way to the disk; from `unfinished_library`.

    Attributes
    ----------
    tasks, zones : int
        Tasks that are done, and their zone axes.
    """

    def __init__(self, file: OutputFile) -> None:
        self._file = file
        done = file[TASKS]
        counts = done[-1] if len(done) else [0] * 4
        self.tasks, self.zones, self._patterns, self._disks = map(int, counts)
        self._waiting: list[Arrays] = []
        self._last = time.monotonic()

    def add(self, zones: int, arrays: Arrays) -> None:
        """Take a task's zone axes, in the arrays of a library; they are written within `SECONDS`, or by `write`."""
        self._waiting.append(arrays)
        self.tasks += 1
        self.zones += zones
        if time.monotonic() - self._last > SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was not written yet; OSError where that fails."""
        with unbroken():
            if self._waiting:
                for name in (*LABELS, *DISKS):
                    self._append(name, np.concatenate([arrays[name] for arrays in self._waiting]))
                self._patterns += sum(len(arrays["phase"]) for arrays in self._waiting)
                self._disks += sum(len(arrays["qx"]) for arrays in self._waiting)
                done = self._file[TASKS]
                done.resize(len(done) + 1, axis=0)
                done[-1] = self.tasks, self.zones, self._patterns, self._disks
                self._file.commit()
                self._waiting.clear()
            self._last = time.monotonic()

    def finish(self, phases: tuple[CrystalPhase, ...], simulation: SimulationConfig) -> None:
        """Turn the file into that of the library."""
        self.write()
        with unbroken():
            self._file["offsets"] = np.concatenate([[0], np.cumsum(self._file["count"][...])])
            del self._file["count"], self._file[TASKS], self._file.attrs[IDENTITY]
            if simulation.sampling == "random":
                del self._file["in_plane_bound"]
            self._file.attrs.update(attributes(phases, simulation))

    def _append(self, name: str, rows: NDArray[Any]) -> None:
        dataset, start = self._file[name], self._disks if name in DISKS else self._patterns
        dataset.resize(start + len(rows), axis=0)  # what lies there already is of a process that was killed
        dataset[start:] = rows


@contextmanager
def unfinished_library(
    path: str | Path, config: LibrarySettings, structures: list[Structure], tasks: int, *, resume: bool
) -> Iterator[UnfinishedLibrary]:
    """Give a library's file, which takes the place of `path` when the block ends well and else is kept beside it.

    Parameters
    ----------
    path : str or Path
        Where the library will be.
    config : LibrarySettings
        Phases and simulation.
    structures : list of Structure
        The crystals.
    tasks : int
        Tasks that the library is made of.
    resume : bool
        Go on with the file that is there.

    Raises
    ------
    ValueError
        With `resume`, where the file is damaged, or of other crystals or settings.
    OSError
        As `resumable_hdf5` says.
    """
    identity = _identity(config, structures, tasks)
    finished = [0]
    with resumable_hdf5(path, resume=resume, worth_keeping=lambda: resume or finished[0] > 0) as file:
        if resume:
            _check(file, identity, partial_path(path))
        else:
            _lay_out(file, identity)
        library = UnfinishedLibrary(file)
        try:
            yield library
        except BaseException:
            library.write()
            finished[0] = library.tasks
            raise


def _lay_out(file: OutputFile, identity: str) -> None:
    file.attrs["format"], file.attrs[IDENTITY] = FORMAT, identity
    file.create_dataset(TASKS, (0, 4), np.int64, maxshape=(None, 4), chunks=(CHUNK, 4))
    for name, (shape, kind) in {**LABELS, **DISKS}.items():
        file.create_dataset(
            name, (0, *shape), kind, maxshape=(None, *shape), chunks=(CHUNK, *shape), fletcher32=True
        )
    file.commit()


def _check(file: OutputFile, identity: str, partial: Path) -> None:
    if file.attrs.get("format") != FORMAT:
        raise ValueError(f"{partial} is not an unfinished pattern library")
    began, now = json.loads(file.attrs[IDENTITY]), json.loads(identity)
    differences = [
        f"{name} {began.get(name)!r}, now {now[name]!r}" for name in now if began.get(name) != now[name]
    ]
    if differences:
        raise ValueError(f"{partial} was begun with other settings: {'; '.join(differences)}")


def _identity(config: LibrarySettings, structures: list[Structure], tasks: int) -> str:
    digests = []
    for structure, phase in zip(structures, config.phases, strict=True):
        content = hashlib.sha256(repr((structure.lattice, phase.symmetry)).encode())
        for values in (structure.positions, structure.numbers, structure.occupancy, structure.displacement):
            content.update(np.ascontiguousarray(values).tobytes())
        content.update(structure.operators(phase.symmetry).tobytes())
        digests.append(f"{phase.display_name} {content.hexdigest()[:8]}")
    return json.dumps({"crystals": ", ".join(digests), "tasks": tasks, **asdict(config.simulation)})
