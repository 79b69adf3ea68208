"""The unfinished pattern library: a file of simulated tasks, from which the library is made when all are there."""

import errno
import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from microinfer.crystals.structure import Structure
from microinfer.differences import differences
from microinfer.files import require_writable
from microinfer.interruption import unbroken
from microinfer.record_file import RecordFile
from microinfer.simulation.library import DISKS, LABELS, Arrays
from microinfer.simulation.settings import LibrarySettings

KIND = "unfinished microinfer pattern library 1"
"""What such a file says of itself, and the version of its format."""
SECONDS = 5.0
"""Results wait no longer than this before they are written."""


def partial_path(path: str | Path) -> Path:
    """Name of the unfinished library of a library: beside it, with ``.part`` at the end."""
    target = Path(os.path.realpath(path))
    return target.with_name(f"{target.name}.part")


def share_done(path: str | Path) -> float:
    """The share of a library's tasks that its unfinished library holds; 0 where there is none."""
    partial = partial_path(path)
    if not partial.is_file():
        return 0.0
    records = RecordFile(partial, KIND)
    try:
        if not len(records) or records.about is None:
            return 0.0
        with np.load(io.BytesIO(records[len(records) - 1]), allow_pickle=False) as part:
            return float(part["done"][0]) / float(records.about["tasks"])
    finally:
        records.close()


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
        self.tasks = self.zones = self._written = 0
        for index in range(len(records)):
            with np.load(io.BytesIO(records[index]), allow_pickle=False) as part:
                self._parts.append({name: part[name] for name in (*LABELS, *DISKS)})
                self.tasks, self.zones = map(int, part["done"])
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
    FileExistsError, FileNotFoundError
        Without `resume`, where an unfinished library is there; with it, where there is none.
    ValueError
        With `resume`, where it is of other crystals or settings; and where another file is in its place.
    OSError
        Where it cannot be written, and where another process writes it.
    """
    require_writable(path)
    partial = partial_path(path)
    if resume and not partial.exists():
        raise FileNotFoundError(errno.ENOENT, "nothing to resume", os.fspath(partial))
    records = RecordFile(partial, KIND)
    finished = False
    try:
        about = _about(config, structures, tasks)
        if not len(records):
            records.begin(about)
        elif not resume:
            raise FileExistsError(
                errno.EEXIST,
                "holds unfinished work: resume it (--resume), or remove the file",
                os.fspath(partial),
            )
        if different := differences(records.about or {}, about):
            raise ValueError(f"{partial} was begun with other settings: {different}")
        library = UnfinishedLibrary(records)
        try:
            yield library
        except BaseException:
            library.write()
            raise
        finished = True
    except OSError as error:
        if error.filename is None:  # of writing a record
            raise OSError(
                error.errno, f"cannot write the file: {error.strerror}", os.fspath(partial)
            ) from error
        raise
    finally:
        if finished or not len(records):
            partial.unlink(missing_ok=True)
        records.close()


def _about(config: LibrarySettings, structures: list[Structure], tasks: int) -> dict[str, Any]:
    crystals = []
    for structure, phase in zip(structures, config.phases, strict=True):
        content = hashlib.sha256(repr((structure.lattice, phase.symmetry)).encode())
        for values in (structure.positions, structure.numbers, structure.occupancy, structure.displacement):
            content.update(np.ascontiguousarray(values).tobytes())
        content.update(structure.operators(phase.symmetry).tobytes())
        crystals.append(f"{phase.display_name} {content.hexdigest()[:8]}")
    simulation = {
        name: list(v) if isinstance(v, tuple) else v for name, v in asdict(config.simulation).items()
    }
    return {"crystals": ", ".join(crystals), "tasks": tasks, **simulation}
