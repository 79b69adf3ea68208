"""The unfinished map: a file of answered blocks, from which the map is put together when all are there."""

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from microinfer.differences import differences
from microinfer.files import cannot_write, require_writable
from microinfer.mapping.job import AnsweredBlock, MapJob, RowBlock, checksum_peaks
from microinfer.maps.arrays import FIELDS, Arrays, checked_arrays
from microinfer.maps.map_file import UNFINISHED_KIND, MapWriter
from microinfer.record_file import RecordFile

HEAD = np.dtype([("start", "<i8"), ("stop", "<i8"), ("checksum", "<i8")])
"""What a record begins with: the block's scan rows, and the checksum of its peaks; the answers follow."""
CHECKED_BLOCKS = 3  # whose peaks are read again before a mapping goes on, to see that the scan is the same


def partial_path(path: str | os.PathLike[str]) -> Path:
    """Name of the unfinished map of a map file: beside it, with ``.part`` at the end."""
    target = Path(os.path.realpath(path))
    return target.with_name(f"{target.name}.part")


class _Block(NamedTuple):
    rows: RowBlock
    checksum: int
    arrays: Arrays


class UnfinishedMap:
    """Write a map that can be interrupted; a context manager.

    The blocks are in ``<path>.part`` until the context ends well and the map is there. After an error, a full disk's
    too, or Ctrl-C they stay, where there are any.

    Parameters
    ----------
    path : str or Path
        The map file.
    job : MapJob
        What is mapped.
    resume : bool
        Go on with the unfinished map.

    Attributes
    ----------
    done : ndarray of bool, shape (Rx,)
        Scan rows that are finished.

    Raises
    ------
    FileExistsError
        Without `resume`, where an unfinished map is there.
    FileNotFoundError
        With `resume`, where there is none.
    ValueError
        With `resume`, where it belongs to another scan, model, microinfer or to other options, the message says which;
        and where another file is in its place.
    OSError
        Where the map cannot be written, and where another process writes it. The message says what stays.
    """

    def __init__(self, path: str, job: MapJob, *, resume: bool) -> None:
        self.path, self.partial = Path(path), partial_path(path)
        self._job, self._resume = job, resume
        self._position = np.dtype(
            [(name, field.dtype, field.cell(job.candidates)) for name, field in FIELDS.items()]
        )
        self.done: NDArray[np.bool_] = np.zeros(job.source.scan_shape[0], np.bool_)

    def __enter__(self) -> Self:
        require_writable(self.path)
        if self._resume and not self.partial.exists():
            raise FileNotFoundError(errno.ENOENT, "nothing to resume", os.fspath(self.partial))
        self._records = RecordFile(self.partial, UNFINISHED_KIND)
        try:
            self._take_up()
        except BaseException:
            self._leave(keep=len(self._records) > 0)
            raise
        return self

    def _take_up(self) -> None:
        if not len(self._records):  # then nothing is lost
            with self._naming_the_map():
                self._records.begin(self._job.identity)
            return
        if not self._resume:
            raise FileExistsError(
                errno.EEXIST,
                "holds unfinished work: resume it (--resume), or remove the file",
                os.fspath(self.partial),
            )
        self._require_same_job()
        compared = range(0, len(self._records), math.ceil(len(self._records) / CHECKED_BLOCKS))
        for index, block in enumerate(self._blocks()):
            if (
                index in compared
                and checksum_peaks(self._job.source.read_rows(*block.rows)) != block.checksum
            ):
                raise ValueError(
                    f"{self.partial} was begun with another scan: the peaks of the scan rows {block.rows.start} to "
                    f"{block.rows.stop - 1} differ"
                )
            self.done[slice(*block.rows)] = True

    def _require_same_job(self) -> None:
        began, now = self._records.about, self._job.identity
        if not isinstance(began, dict):
            raise ValueError(f"{self.partial} does not say what it belongs to: remove it and start anew")
        if different := differences(began, now):
            raise ValueError(f"{self.partial} was begun with other settings: {different}")

    def write(self, block: AnsweredBlock) -> None:
        """Write a block.

        Raises
        ------
        ValueError, TypeError
            As `checked_arrays`.
        OSError
            If it cannot be written.
        """
        checked = checked_arrays(block.arrays, len(self._job.model.phases), first_row=block.rows.start)
        answers = np.empty(checked["valid"].shape, self._position)
        for name, values in checked.items():
            answers[name] = values
        head = np.array((*block.rows, block.checksum), HEAD)
        with self._naming_the_map():
            self._records.append(head.tobytes() + answers.tobytes())
        self.done[slice(*block.rows)] = True

    def finished_blocks(self) -> Iterator[Arrays]:
        """The arrays of the blocks that are done."""
        return (block.arrays for block in self._blocks())

    def _blocks(self) -> Iterator[_Block]:
        for index in range(len(self._records)):
            record = self._records[index]
            start, stop, checksum = np.frombuffer(record, HEAD, 1)[0].tolist()
            answers = np.frombuffer(record, self._position, offset=HEAD.itemsize)
            answers = answers.reshape(stop - start, self._job.source.scan_shape[1])
            yield _Block(RowBlock(start, stop), checksum, {name: answers[name] for name in FIELDS})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finished = False
        try:
            if kind is None:
                with self._naming_the_map():
                    self._assemble()
                finished = True
        finally:
            self._leave(keep=not finished and len(self._records) > 0)

    def _assemble(self) -> None:
        with MapWriter(self.path, self._job.description, self._job.candidates) as writer:
            for block in self._blocks():
                writer.write_rows(block.rows.start, block.arrays)

    def _leave(self, *, keep: bool) -> None:
        if not keep:
            self.partial.unlink(missing_ok=True)
        self._records.close()

    @contextmanager
    def _naming_the_map(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            stays = f"; what is finished stays in {self.partial}" if len(self._records) else ""
            raise cannot_write(error, self.path, stays) from error
