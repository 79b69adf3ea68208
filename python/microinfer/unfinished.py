"""Work that goes on after an interruption: what is finished of an output stands in a file of records beside it."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from microinfer.differences import differences
from microinfer.files import cannot_write, require_writable
from microinfer.record_file import RecordFile


def partial_path(path: str | PathLike[str]) -> Path:
    """Name of the unfinished file of an output: beside it, with ``.part`` at the end."""
    target = Path(os.path.realpath(path))
    return target.with_name(f"{target.name}.part")


@contextmanager
def unfinished_work(
    path: str | PathLike[str], kind: str, about: dict[str, Any], *, resume: bool
) -> Iterator[RecordFile]:
    """Give the records of what is finished of an output, to be added to and made the output of within the block.

    They are in ``<path>.part`` until the block ends well. After an error, a full disk's too, or Ctrl-C they stay, where
    there are any.

    Parameters
    ----------
    path : path-like
        The output, which the block writes at its end.
    kind : str
        As in `RecordFile`.
    about : dict
        What work must share to stand in one output; JSON-able.
    resume : bool
        Go on with the unfinished file.

    Raises
    ------
    FileExistsError, FileNotFoundError
        Without `resume`, where an unfinished file is there; with it, where there is none.
    ValueError
        With `resume`, where it says other things of itself, the message says which; and where another file is in its
        place.
    OSError
        Where the output cannot be written, and where another process writes it. The message says what stays.
    """
    require_writable(path)
    partial = partial_path(path)
    if resume and not partial.exists():
        raise FileNotFoundError(errno.ENOENT, "nothing to resume", os.fspath(partial))
    records = RecordFile(partial, kind)
    finished = False
    try:
        _take_up(records, json.loads(json.dumps(about)), resume=resume)
        try:
            yield records
        except OSError as error:
            if records and error.filename in (os.fspath(path), os.fspath(partial)):
                raise cannot_write(error, path, f"; what is finished stays in {partial}") from error
            raise
        finished = True
    finally:
        if finished or not records:
            partial.unlink(missing_ok=True)
        records.close()


def _take_up(records: RecordFile, now: dict[str, Any], *, resume: bool) -> None:
    if not records:  # then nothing is lost
        records.begin(now)
        return
    if not resume:
        raise FileExistsError(
            errno.EEXIST,
            "holds unfinished work: resume it (--resume), or remove the file",
            os.fspath(records.path),
        )
    began = records.about
    if not isinstance(began, dict):
        raise ValueError(f"{records.path} does not say what it belongs to: remove it and start anew")
    if different := differences(began, now):
        raise ValueError(f"{records.path} was begun with other settings: {different}")
