"""Output files that appear complete or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

if TYPE_CHECKING:
    from typing_extensions import Buffer

HDF5 = (".h5", ".hdf5")
PICTURES = (".png", ".svg", ".pdf", ".eps", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
EXPORTS = (".ang", ".ctf")

_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # only writing causes these


@contextmanager
def atomic_output(path: str | PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`, which takes its place when the block ends without an error.

    The file at `path`, if there is one, stays as it is until then. After any error, an interruption from the
    keyboard included, the temporary file is removed. Who may read the file is what the process's umask says.

    Parameters
    ----------
    path : path-like
        File to write. A symbolic link is followed.

    Yields
    ------
    pathlib.Path
        An empty file in the same folder, to be overwritten and closed within the block.

    Raises
    ------
    OSError
        Where the file cannot be written: its folder is missing or read-only, it is a folder, a device or the like or
        read-only itself, or the disk is full. The message names `path`.
    """
    target = Path(os.path.realpath(path))
    require_writable(path)
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        raise cannot_write(error, path) from error
    permissions = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    try:
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != permissions:
            temporary.chmod(
                permissions
            )  # safetensors puts another file there, which its owner alone may read
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in _OUT_OF_SPACE:
            raise cannot_write(error, path) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


class _Sink(FileIO):
    """A file that keeps its first error of writing, an interruption too, and from then on pretends to write."""

    error: BaseException | None = None

    def write(self, data: "Buffer", /) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):  # a single call may write a part
                done += super().write(view[done:])
        except BaseException as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        end = self.tell() if size is None else size
        if self.error is None:
            try:
                return super().truncate(end)
            except BaseException as error:
                self.error = error
        return end


class OutputFile(h5py.File):  # type: ignore[misc]  # h5py has no type stubs
    """An HDF5 file open for writing through `atomic_hdf5`."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__(sink, "w", libver="v110")  # with checksums of all that HDF5 keeps beside the data
        self._sink = sink

    def require_written(self) -> None:
        """Raise the error of the first write that failed, if any did: long before the end of the block."""
        if self._sink.error is not None:
            raise self._sink.error


@contextmanager
def atomic_hdf5(path: str | PathLike[str]) -> Iterator[OutputFile]:
    """Give a new HDF5 file, which takes the place of `path` when the block ends without an error.

    As `atomic_output`, for HDF5. HDF5 cannot close a file whose last writes failed: it leaves the file open
    and the process crashes at its end. Here a failed write is kept from HDF5 and raised when the block ends,
    or where the block asks (`OutputFile.require_written`).

    Parameters
    ----------
    path : path-like
        File to write. A symbolic link is followed.

    Yields
    ------
    OutputFile
        Open for writing; closed by the end of the block.

    Raises
    ------
    OSError
        As in `atomic_output`.
    """
    with atomic_output(path) as temporary, _Sink(temporary, "r+") as sink:
        try:
            with OutputFile(sink) as file:
                yield file
        except Exception:
            if sink.error is None:
                raise
        if isinstance(
            sink.error, OSError
        ):  # also behind one that HDF5 met as it read back what was not written
            raise cannot_write(sink.error, path) from sink.error
        if sink.error is not None:
            raise sink.error


def require_distinct(
    outputs: Mapping[str, str | PathLike[str] | None], inputs: Mapping[str, str | PathLike[str] | None]
) -> None:
    """Check that no output would replace an input or another output.

    Parameters
    ----------
    outputs, inputs : mapping of str to path-like or None
        What each file is, for the message ("the map"), and the file, which need not exist.

    Raises
    ------
    ValueError
        Where an output is the same file as another of either.
    """
    taken = {os.path.realpath(path): what for what, path in inputs.items() if path is not None}
    for what, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(os.path.realpath(path), what)
        if other != what:
            raise ValueError(f"{os.fspath(path)}: {what} would replace {other}")


def require_writable(path: str | PathLike[str]) -> None:
    """Find out before the work whether its result can be written.

    Raises
    ------
    OSError
        If the folder is missing or read-only, or `path` is a folder, a device or the like or read-only. The message
        names `path`.
    """
    target = Path(os.path.realpath(path))
    # os.replace would put a new file over a read-only one, and a folder is only found out at the very end.
    if target.is_dir():
        raise cannot_write(OSError(errno.EISDIR, "it is a folder"), path)
    if target.exists() and not target.is_file():  # a device, say, which a file would take the place of
        raise cannot_write(OSError(errno.EINVAL, "it is no regular file"), path)
    if not target.parent.is_dir():
        raise cannot_write(OSError(errno.ENOENT, f"the folder {target.parent} does not exist"), path)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise cannot_write(OSError(errno.EACCES, f"the folder {target.parent} is read-only"), path)
    if target.exists() and not os.access(target, os.W_OK):
        raise cannot_write(OSError(errno.EACCES, "the file is read-only"), path)


def require_output(
    path: str | PathLike[str],
    what: str,
    suffixes: Sequence[str] = (),
    *,
    overwrite: bool,
    way: str = "overwrite=True",
) -> None:
    """Find out before the work whether its result can be written under its name, and would replace nothing unasked.

    Parameters
    ----------
    path : path-like
        The file.
    what : str
        What it is, for the message: ``"the map"``.
    suffixes : sequence of str
        Those that its name may have, any where there are none.
    overwrite : bool
        Whether a file that is there may be replaced.
    way : str
        How to ask for that, for the message.

    Raises
    ------
    ValueError
        For a suffix that does not fit.
    OSError
        As `require_writable`; FileExistsError for a file that is there and must not be replaced.
    """
    suffix = Path(path).suffix.lower()
    if suffixes and suffix not in suffixes:
        *others, last = suffixes
        raise ValueError(
            f"{os.fspath(path)}: the name of {what} must end in {', '.join(others)}{' or ' if others else ''}{last}, "
            + (f"got {Path(path).suffix!r}" if suffix else "got no suffix")
            + ("; microinfer convert gives a map that form" if suffix in EXPORTS else "")
        )
    require_writable(path)
    if os.path.exists(path) and not overwrite:
        raise FileExistsError(errno.EEXIST, f"{what} is there already; {way} replaces it", os.fspath(path))


def _flush_to_disk(temporary: Path) -> None:
    # Some file systems report a full disk only here.
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(error: OSError, path: str | PathLike[str], remark: str = "") -> OSError:
    """Say of what could not be written that it was `path`, and why; `remark` comes last."""
    # h5py puts HDF5's whole error stack into strerror: then the system's own words for the number are better.
    known = error.strerror if error.strerror and "\n" not in error.strerror else os.strerror(error.errno or 0)
    said = "cannot write the file: "
    return OSError(error.errno, f"{said}{known.removeprefix(said)}{remark}", os.fspath(path))
