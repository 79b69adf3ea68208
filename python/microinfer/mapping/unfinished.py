"""The unfinished map: records of answered blocks, from which the map is put together when all are there."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.mapping.job import AnsweredBlock, MapJob, RowBlock, checksum_peaks
from microinfer.maps.arrays import FIELDS, Arrays, checked_arrays
from microinfer.maps.map_file import UNFINISHED_KIND, MapWriter
from microinfer.record_file import RecordFile
from microinfer.unfinished import unfinished_work

HEAD = np.dtype([("start", "<i8"), ("stop", "<i8"), ("checksum", "<i8")])
"""What a record begins with: the block's scan rows, and the checksum of its peaks; the answers follow."""
CHECKED_BLOCKS = 3  # whose peaks are read again before a mapping goes on, to see that the scan is the same


class FinishedBlock(NamedTuple):
    """A block as its record has it."""

    rows: RowBlock
    checksum: int
    arrays: Arrays


class UnfinishedMap:
    """A map on its way; from `unfinished_map`.

    Attributes
    ----------
    done : ndarray of bool, shape (Rx,)
        Scan rows that are finished.
    """

    def __init__(self, records: RecordFile, job: MapJob) -> None:
        self._records, self._job = records, job
        self._position = np.dtype(
            [(name, field.dtype, field.cell(job.candidates)) for name, field in FIELDS.items()]
        )
        self.done: NDArray[np.bool_] = np.zeros(job.source.scan_shape[0], np.bool_)
        compared = range(0, len(records), math.ceil(len(records) / CHECKED_BLOCKS) or 1)
        for index, block in enumerate(self.blocks()):
            if index in compared and checksum_peaks(job.source.read_rows(*block.rows)) != block.checksum:
                raise ValueError(
                    f"{records.path} was begun with another scan: the peaks of the scan rows {block.rows.start} to "
                    f"{block.rows.stop - 1} differ"
                )
            self.done[slice(*block.rows)] = True

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
        self._records.append(head.tobytes() + answers.tobytes())
        self.done[slice(*block.rows)] = True

    def blocks(self) -> Iterator[FinishedBlock]:
        """The blocks that are done."""
        return map(self._block, self._records)

    def _block(self, record: bytes) -> FinishedBlock:
        rows, columns = self._job.source.scan_shape
        try:
            start, stop, checksum = np.frombuffer(record, HEAD, 1)[0].tolist()
            if not 0 <= start < stop <= rows:
                raise ValueError(f"scan rows {start} to {stop - 1} of {rows}")
            answers = np.frombuffer(record, self._position, offset=HEAD.itemsize).reshape(
                stop - start, columns
            )
        except ValueError as error:
            raise ValueError(f"{self._records.path}: a record is no block of this map: {error}") from error
        return FinishedBlock(RowBlock(start, stop), checksum, {name: answers[name] for name in FIELDS})


@contextmanager
def unfinished_map(path: str | PathLike[str], job: MapJob, *, resume: bool) -> Iterator[UnfinishedMap]:
    """Give what is there of a map; the map is written at the end of the block.

    Parameters
    ----------
    path : path-like
        The map file.
    job : MapJob
        What is mapped.
    resume : bool
        Go on with the unfinished map.

    Raises
    ------
    FileExistsError, FileNotFoundError, OSError
        As `unfinished_work`.
    ValueError
        With `resume`, where it belongs to another scan, model, microinfer or to other options, the message says which;
        and where another file is in its place.
    """
    with unfinished_work(path, UNFINISHED_KIND, job.identity, resume=resume) as records:
        unfinished = UnfinishedMap(records, job)
        yield unfinished
        with MapWriter(Path(path), job.description, job.candidates) as writer:
            for block in unfinished.blocks():
                writer.write_rows(block.rows.start, block.arrays)
