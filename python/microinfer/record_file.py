"""Files that grow by whole records, each written behind those before it and never touched again.

Whatever ends the process, the records that stand there whole stay: before each stand its length and a checksum, and the
first whose checksum does not hold ends them.
"""

import errno
import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from microinfer.files import cannot_write

_BEFORE = struct.Struct("<QI")  # length of a record, CRC-32 of these eight bytes and the record
_LONGEST_HEAD = 1 << 20


class RecordFile:
    """A file of records, open for reading and for more of them, by one process at a time.

    Its first line is `kind` and what it says of itself, in JSON. A file that has no record yet can be begun anew.

    Parameters
    ----------
    path : path-like
        The file, which is made where there is none.
    kind : str
        What such files are, with the version of their format.

    Attributes
    ----------
    about : dict or None
        What the file says of itself; None where that is not there or damaged.

    Raises
    ------
    ValueError
        For a file of another kind.
    OSError
        Where it cannot be opened, and where another process has it open.
    """

    def __init__(self, path: str | PathLike[str], kind: str) -> None:
        self.path = Path(path)
        self._kind = f"{kind} ".encode()
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            self._lock()
            self.about, self._end = self._read_head()
            self._begins: list[int] = []  # of the records
            while (content := self._record(self._end)) is not None:
                self._add(content)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(errno.EBUSY, "another process is writing it", os.fspath(self.path)) from error
        except OSError:
            pass  # a file system without locks

    def _read_head(self) -> tuple[dict[str, Any] | None, int]:
        first = self._file.readline(_LONGEST_HEAD)
        if not (first.startswith(self._kind) or self._kind.startswith(first)):
            raise ValueError(f"{self.path} is not an {self._kind.decode().strip()}: remove it and start anew")
        try:
            about = json.loads(first[len(self._kind) :]) if first.endswith(b"\n") else None
        except ValueError:
            about = None
        return about, len(first)

    def _record(self, begin: int) -> bytes | None:
        """The record behind a place, if it stands there whole."""
        before = os.pread(self._file.fileno(), _BEFORE.size, begin)
        if len(before) < _BEFORE.size:
            return None
        length, checksum = _BEFORE.unpack(before)
        if length > os.fstat(self._file.fileno()).st_size - begin - _BEFORE.size:
            return None
        content = os.pread(self._file.fileno(), length, begin + _BEFORE.size)
        return content if _checksum(content) == checksum else None

    def _add(self, content: bytes) -> None:
        self._begins.append(self._end)
        self._end += _BEFORE.size + len(content)

    def __len__(self) -> int:
        return len(self._begins)

    def __iter__(self) -> Iterator[bytes]:
        for begin in self._begins:
            content = self._record(begin)
            if content is None:
                raise OSError(errno.EIO, "records that stood there are gone", os.fspath(self.path))
            yield content

    def begin(self, about: dict[str, Any]) -> None:
        """Begin anew, with no record; what stood there is lost. OSError as `append`."""
        self.about, self._begins, self._end = about, [], 0
        head = self._kind + json.dumps(about).encode() + b"\n"
        self._write(head)
        self._end = len(head)

    def append(self, content: bytes) -> None:
        """Write a record.

        Raises
        ------
        OSError
            Where it cannot be written, with the file's name; the records before it stay.
        """
        self._write(_BEFORE.pack(len(content), _checksum(content)) + content)
        self._add(content)

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            while view:  # a single call may write a part
                view = view[self._file.write(view) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise cannot_write(error, self.path) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _checksum(content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(len(content).to_bytes(8, "little")))
