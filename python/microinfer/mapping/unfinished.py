"""The unfinished map: a map file under another name that knows which rows are done, to be gone on with."""

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.files import OutputFile, partial_path, resumable_hdf5
from microinfer.mapping.job import AnsweredBlock, MapJob, RowBlock, checksum_peaks
from microinfer.maps.map_file import FORMAT, UNFINISHED_FORMAT, MapWriter

BLOCKS = "finished_blocks"  # dataset (n, 3): first row, row after the last, checksum of the peaks
IDENTITY = "identity"  # attribute: JSON of MapJob.identity
CHECKED_BLOCKS = 3  # read again before a mapping goes on, to see that the scan is the same


class UnfinishedMap(MapWriter):
    """Write a map that can be interrupted; a context manager.

    The file is called ``<path>.part`` until the context ends well. After an error, a full disk's too, or Ctrl-C
    it stays there where a block of rows was finished. Each block is on its way to the disk before it counts as
    finished.

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
    ValueError
        With `resume`, where the unfinished map is damaged or belongs to another scan, model, microinfer or to
        other options; the message says which.
    OSError
        As `resumable_hdf5` says.
    """

    def __init__(self, path: str, job: MapJob, *, resume: bool) -> None:
        super().__init__(path, job.description, job.candidates)
        self._job, self._resume = job, resume
        self.done: NDArray[np.bool_] = np.zeros(self.scan_shape[0], np.bool_)

    def _open(self, stack: ExitStack) -> OutputFile:
        file = stack.enter_context(
            resumable_hdf5(
                self.path,
                resume=self._resume,
                worth_keeping=lambda: self._resume or bool(self.done.any()),
            )
        )
        if self._resume:
            self._check(file)
        else:
            self._lay_out(file)
            file.attrs["format"] = UNFINISHED_FORMAT
            file.attrs[IDENTITY] = json.dumps(self._job.identity)
            file.create_dataset(BLOCKS, (0, 3), np.int64, maxshape=(None, 3), chunks=(1024, 3))
        stack.push(lambda kind, *_: _finish(file) if kind is None else None)
        return file

    def _check(self, file: OutputFile) -> None:
        partial = partial_path(self.path)
        if file.attrs.get("format") != UNFINISHED_FORMAT:
            raise ValueError(f"{partial} is not an unfinished map")
        began, now = json.loads(file.attrs[IDENTITY]), self._job.identity
        differences = [
            f"{name} {began.get(name)!r}, now {now[name]!r}" for name in now if began.get(name) != now[name]
        ]
        if differences:
            raise ValueError(f"{partial} was begun with other settings: {'; '.join(differences)}")
        blocks = file[BLOCKS][...]
        for start, stop, checksum in blocks[:: math.ceil(len(blocks) / CHECKED_BLOCKS) or 1]:
            if checksum_peaks(self._job.source.read_rows(int(start), int(stop))) != checksum:
                raise ValueError(
                    f"{partial} was begun with another scan: the peaks of the scan rows {start} to {stop - 1} differ"
                )
        for start, stop, _ in blocks:
            self.done[start:stop] = True

    def write(self, block: AnsweredBlock) -> None:
        """Write a block; errors as `MapWriter.write_rows`."""
        assert self._file is not None
        self.write_rows(block.rows.start, block.arrays)
        self._file.commit()
        finished = self._file[BLOCKS]
        finished.resize(len(finished) + 1, axis=0)
        finished[-1] = (*block.rows, block.checksum)
        self._file.commit()
        self.done[slice(*block.rows)] = True

    def finished_blocks(self) -> Iterator[dict[str, Any]]:
        """The arrays that `MapReport.count` needs of the blocks that are done, for the best candidates.

        ValueError where they cannot be read.
        """
        assert self._file is not None
        for start, stop, _ in self._file[BLOCKS][...]:
            rows = RowBlock(int(start), int(stop))
            try:
                arrays = {name: self._file[name][slice(*rows), :, :1] for name in ("phase", "probability")}
                arrays["valid"] = self._file["valid"][slice(*rows)]
            except OSError as error:
                raise ValueError(
                    f"{partial_path(self.path)} is damaged, remove it and start anew ({error})"
                ) from error
            yield arrays


def _finish(file: OutputFile) -> None:
    """Turn an unfinished map into a finished one."""
    del file[BLOCKS], file.attrs[IDENTITY]
    file.attrs["format"] = FORMAT
