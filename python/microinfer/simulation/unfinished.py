"""The unfinished pattern library: records of simulated tasks, from which the library is made when all are there."""

import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from microinfer.crystals.structure import Structure
from microinfer.interruption import unbroken
from microinfer.record_file import RecordFile
from microinfer.simulation.library import DISKS, LABELS, Arrays
from microinfer.simulation.settings import LibrarySettings
from microinfer.unfinished import partial_path, unfinished_work

KIND = "unfinished microinfer pattern library 1"
"""What such a file says of itself, and the version of its format."""
SECONDS = 5.0
"""Results wait no longer than this before they are written."""


class UnfinishedLibrary:
    """A pattern library on its way; from `unfinished_library`.

    Attributes
    ----------
    tasks, zones : int
        Tasks that are done, and their zone axes.
    """

    def __init__(self, records: RecordFile) -> None:
        self._records = records
        self._parts: list[Arrays] = []
        self.tasks = self.zones = 0
        for record in records:
            try:
                with np.load(io.BytesIO(record), allow_pickle=False) as part:
                    self._parts.append({name: part[name] for name in (*LABELS, *DISKS)})
                    self.tasks, self.zones = map(int, part["done"])
            except Exception as error:  # NumPy's readers raise whatever they meet
                raise ValueError(f"{records.path}: a record is no part of a library: {error}") from error
        self._written, self._last = len(self._parts), time.monotonic()

    @property
    def arrays(self) -> Arrays:
        """The arrays of all patterns that are done."""
        return joined_arrays(self._parts)

    def add(self, zones: int, arrays: Arrays) -> None:
        """Take a task's zone axes, in the arrays of a library; they are written within `SECONDS`, or by `write`."""
        with unbroken():
            self._parts.append(arrays)
            self.tasks += 1
            self.zones += zones
        if time.monotonic() - self._last > SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was not written yet; OSError where that fails."""
        new = self._parts[self._written :]
        if new:
            content = io.BytesIO()
            np.savez(content, done=np.array([self.tasks, self.zones]), **joined_arrays(new))
            with unbroken():
                self._records.append(content.getvalue())
                self._written = len(self._parts)
        self._last = time.monotonic()


def share_done(path: str | Path) -> float:
    """The share of a library's tasks that its unfinished library holds; 0 where there is none."""
    partial = partial_path(path)
    if not partial.is_file():
        return 0.0
    records = RecordFile(partial, KIND)
    try:
        if not records or records.about is None:
            return 0.0
        return UnfinishedLibrary(records).tasks / int(records.about["tasks"])
    finally:
        records.close()


def joined_arrays(parts: list[Arrays]) -> Arrays:
    """Patterns, one part after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in (*LABELS, *DISKS)}


@contextmanager
def unfinished_library(
    path: str | Path, config: LibrarySettings, structures: list[Structure], tasks: int, *, resume: bool
) -> Iterator[UnfinishedLibrary]:
    """Give what is there of a library, which is kept where the block ends by an error or an interruption.

    Parameters
    ----------
    path : str or Path
        Where the library will be: written by the end of the block.
    config : LibrarySettings
        Phases and simulation.
    structures : list of Structure
        The crystals.
    tasks : int
        Tasks that the library is made of.
    resume : bool
        Go on with the unfinished library.

    Raises
    ------
    FileExistsError, FileNotFoundError, OSError
        As `unfinished_work`.
    ValueError
        With `resume`, where it is of other crystals or settings; and where another file is in its place.
    """
    about = {"crystals": _crystals(config, structures), "tasks": tasks, **asdict(config.simulation)}
    with unfinished_work(path, KIND, about, resume=resume) as records:
        library = UnfinishedLibrary(records)
        try:
            yield library
        except BaseException:
            library.write()
            raise


def _crystals(config: LibrarySettings, structures: list[Structure]) -> str:
    """Their names, each with a hash of all that its patterns depend on."""
    crystals = []
    for structure, phase in zip(structures, config.phases, strict=True):
        content = hashlib.sha256(repr((structure.lattice, phase.symmetry)).encode())
        for values in (structure.positions, structure.numbers, structure.occupancy, structure.displacement):
            content.update(np.ascontiguousarray(values).tobytes())
        content.update(structure.operators(phase.symmetry).tobytes())
        crystals.append(f"{phase.display_name} {content.hexdigest()[:8]}")
    return ", ".join(crystals)
