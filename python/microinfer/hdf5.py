"""HDF5 files as input: opened so that damage is an error, never a hang, and that no other file is read."""

import atexit
import fcntl
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import h5py
import numpy as np

from microinfer._core import require_collection

if TYPE_CHECKING:
    from typing_extensions import Buffer

_HEAP_COLLECTION = b"GCOL"


class _Source(FileIO):
    """A file that HDF5 reads through: what is missing, or would keep HDF5 busy for ever, is an error instead."""

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(path, "rb")
        self._position = 0
        if os.environ.get("HDF5_USE_FILE_LOCKING") == "FALSE":
            return
        try:  # as HDF5 does where it opens a file itself
            fcntl.flock(self, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise OSError(f"{os.fspath(path)} is still open in a program that writes it") from error
        except OSError:
            pass  # a file system without locks

    # The position is this object's, not the system's, which a forked process would share.

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = offset + (os.fstat(self.fileno()).st_size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "Buffer", /) -> int:
        view, begin = memoryview(buffer).cast("B"), self._position
        end = begin + len(view)
        while self._position < end:  # a single call may read a part
            missing = end > os.fstat(self.fileno()).st_size
            content = b"" if missing else os.pread(self.fileno(), end - self._position, self._position)
            if not content:
                raise OSError(f"it ends before byte {end}, within what is to be read: it was cut short")
            view[self._position - begin :][: len(content)] = content
            self._position += len(content)
        # HDF5 reads a collection of its global heap, where variable-length data lie, from its beginning on. It goes
        # round for ever in one with free space of no size.
        if view[: len(_HEAP_COLLECTION)] == _HEAP_COLLECTION:
            require_collection(self.fileno(), begin)
        return len(view)


class InputFile(h5py.File):  # type: ignore[misc]  # h5py has no type stubs
    """An HDF5 file open for reading; see `open_hdf5`.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._source = _Source(path)
        try:
            super().__init__(self._source, "r")
        except BaseException:
            self._source.close()
            raise
        _OPEN[id(self)] = self

    @property
    def filename(self) -> str:
        """The path, as h5py has it for files that it opens itself."""
        return os.fspath(self.path)

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._source.fileno()

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._source.close()


_OPEN: WeakValueDictionary[int, InputFile] = WeakValueDictionary()


@atexit.register
def _close_all() -> None:
    # HDF5 closes at the very end what is open still, when there is no Python any more to read through.
    for file in list(_OPEN.values()):
        file.close()


def is_hdf5(path: str | PathLike[str]) -> bool:
    """Whether a file is in HDF5, complete or not."""
    return bool(h5py.is_hdf5(path))


@contextmanager
def open_hdf5(path: str | PathLike[str]) -> Iterator[InputFile]:
    """Open an HDF5 file to read, for as long as one likes; it is closed where the block fails.

    This is the one place that turns what h5py raises into errors that name the file.

    Raises
    ------
    OSError
        Where the file cannot be opened, and where HDF5 meets damage in the block.
    ValueError
        For what else the block finds wrong.
    """
    try:
        file = InputFile(path)
    except OSError as error:
        if error.filename is not None or str(error).startswith(os.fspath(path)):
            raise
        cut = "truncated" in str(error) or "cut short" in str(error)
        raise OSError(f"{os.fspath(path)} is {'truncated' if cut else 'damaged'}: {error}") from error
    try:
        with named(path):
            yield file
    except BaseException:
        file.close()
        raise


@contextmanager
def named(path: str | PathLike[str], item: str = "") -> Iterator[None]:
    """Turn what h5py raises in the block into errors that name the file, and an object of it.

    Raises
    ------
    OSError
        For damage, which h5py meets as OSError, RuntimeError or KeyError.
    ValueError
        For values of another kind than expected, met as any other of these.
    """
    file, place = os.fspath(path), f"{item}: " if item else ""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        if str(error).startswith(file):
            raise
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise OSError(f"{file} is damaged: {place}{reason}") from error
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        if str(error).startswith(file):
            raise
        raise ValueError(f"{file}: {place}{error}") from error


def find(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
    """The object at a path from a group on (from the root, where it begins with a slash); None where there is none.

    Raises
    ------
    ValueError
        For an object of another file, and for a dataset whose values another file has: whoever sends a file must not
        choose what is read beside it.
    """
    at = group.file if path.startswith("/") else group
    for part in path.strip("/").split("/"):
        links = at.id.links
        if links.exists(part.encode()) and links.get_info(part.encode()).type == h5py.h5l.TYPE_EXTERNAL:
            raise ValueError(f"{path} is a link to another file, which is not followed")
        at = at.get(part)
        if not isinstance(at, h5py.Group):
            break
    item = group.get(path)
    if item is None:
        return None
    if h5py.h5o.get_info(item.id).fileno != h5py.h5o.get_info(group.file.id).fileno:
        raise ValueError(f"{path} lies in another file, which is not read")
    if isinstance(item, h5py.Dataset):
        require_own(item)
    return item


def require_own(item: h5py.Dataset) -> None:
    """Raise ValueError for a dataset whose values another file has."""
    stored = item.id.get_create_plist()
    if stored.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError(f"{item.name} is a virtual dataset, of values in other files, which are not read")
    if stored.get_external_count():
        raise ValueError(f"{item.name} has its values in another file, which is not read")


def dataset(group: h5py.Group, path: str) -> h5py.Dataset:
    """The dataset at a path, as `find` has it.

    Raises
    ------
    ValueError
        Where there is none, and as `find`.
    """
    item = find(group, path)
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"there is no dataset {path}")
    return item


def require_stored(item: h5py.Dataset) -> None:
    """Raise OSError unless a dataset's values stand in the file, all of them: HDF5 fills in what it does not find."""
    count = item.size
    if not count:
        return
    layout = item.id.get_create_plist().get_layout()
    if layout == h5py.h5d.CHUNKED:
        expected = math.prod(
            -(-length // chunk) for length, chunk in zip(item.shape, item.chunks, strict=True)
        )
        stored = item.id.get_num_chunks()
        if stored != expected:
            raise OSError(
                f"{item.name} has {stored} of its {expected} chunks: the others are lost or never written"
            )
    elif layout == h5py.h5d.CONTIGUOUS:
        begin = item.id.get_offset()
        if begin is None:
            raise OSError(f"{item.name} has no values: they are lost or were never written")
        if begin + count * item.id.get_type().get_size() > item.file.id.get_filesize():
            raise OSError(f"{item.name} does not end within the file")


_KINDS = {"a text": "U", "a whole number": "iu", "a number": "fiu", "true or false": "b"}


def attribute(item: h5py.Group | h5py.Dataset, name: str, kind: str, shape: tuple[int, ...] = ()) -> Any:
    """An attribute: a Python scalar, or an array of a shape.

    Parameters
    ----------
    item : h5py.Group or h5py.Dataset
        What has the attribute.
    name : str
        The attribute's.
    kind : str
        "a text", "a whole number", "a number" or "true or false".
    shape : tuple of int
        () for a single value.

    Raises
    ------
    ValueError
        Where it is missing, or of another kind or shape.
    """
    if name not in item.attrs:
        raise ValueError(f"there is no attribute {name} of {item.name}")
    value = item.attrs[name]
    if isinstance(value, bytes | str):
        value = utf8(value, f"the attribute {name} of {item.name}")
    array = np.asarray(value)
    if array.dtype.kind not in _KINDS[kind] or array.shape != shape:
        expected = kind if shape == () else f"{kind} in each place of the shape {shape}"
        raise ValueError(f"the attribute {name} of {item.name} must be {expected}, got {value!r}")
    return array if shape else array.item()


def stated_format(file: h5py.File) -> str | None:
    """What a file's root says in its attribute ``format``; None where that is no text."""
    value = file.attrs.get("format")
    return utf8(value, "the attribute format") if isinstance(value, bytes | str) else None


def utf8(value: bytes | str, what: str) -> str:
    """A text that h5py read; ValueError, naming `what`, for what is not UTF-8, which h5py may have let pass."""
    try:
        return (value if isinstance(value, bytes) else value.encode()).decode()
    except UnicodeError as error:
        raise ValueError(f"{what} must be a text in UTF-8, got {value!r}") from error


def text(value: str) -> np.bytes_:
    """A text as one of fixed length, which lies where it is written and not in the heap."""
    return np.bytes_(value.encode())
