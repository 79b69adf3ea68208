"""What every reader of frames does: the scan's shape, blocks in native byte order, errors that name the file."""

import math
import warnings
from abc import ABC, abstractmethod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.frames.source import BLOCK_BYTES, FrameSource
from microinfer.frames.stated import FrameOptions, ScanShape, Stated
from microinfer.hdf5 import named
from microinfer.peaks.bragg_peaks import require_rows

MOST = 8 * BLOCK_BYTES  # that are read at a time for the sake of what is stored together


class StoredFrames(ABC):
    """Frames as a file has them, one after another.

    Attributes
    ----------
    count : int
        Whole frames that are there.
    missing : int
        Frames that the file announces and does not have.
    frame_shape : tuple of int
        (Qx, Qy).
    dtype : numpy.dtype
        Of the counts in the file.
    together : int
        Frames that can only be read together.
    """

    count: int
    missing: int = 0
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    together: int = 1

    @abstractmethod
    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return the frames `first` to ``last - 1``, shape (last - first, Qx, Qy)."""

    def close(self) -> None:  # noqa: B027  # most keep nothing open
        """Close the file."""


class FrameReader(FrameSource):
    """A file of frames, read a block of scan rows at a time; a context manager.

    A pickled reader opens its file again, under the same path, where it is unpickled.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str
        What it is, for people.
    frames : StoredFrames
        Closed with the reader, and where it cannot be made.
    stated : Stated
        What the file states of the scan.
    options : FrameOptions
        What the user says of it.
    mask : ndarray of bool, shape (Qx, Qy), optional
        Pixels that the file marks as without a signal.

    Raises
    ------
    ValueError
        Where the scan's shape is not known or does not fit, and for frames that are not real numbers.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        kind: str,
        frames: StoredFrames,
        stated: Stated,
        options: FrameOptions,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        self.path, self.kind, self.options, self.mask = Path(path), kind, options, mask
        self._frames, self.closed = frames, False
        try:
            with named(path):
                self.dtype, self.frame_shape = _native(frames.dtype), frames.frame_shape
                self.scan = stated.scan(settled_shape(frames, stated.scan_shape, options.scan_shape), options)
                self.pixel_size = stated.pixel_size(self.voltage, options)
        except BaseException:
            frames.close()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.scan}, frames of {self.frame_shape})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path.resolve()), self.options)

    @property
    def block_rows(self) -> int:
        """Scan rows that make up about `BLOCK_BYTES`, whole in what is stored together."""
        rows = super().block_rows
        frame = math.prod(self.frame_shape) * self.dtype.itemsize
        together = -(-self._frames.together // self.scan_shape[1])
        if together * self.scan_shape[1] * frame > MOST:
            return rows
        return max(together, rows // together * together)

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return the frames of the scan rows ``start`` to ``stop - 1``, shape (stop - start, Ry, Qx, Qy).

        Raises
        ------
        ValueError
            For rows outside the scan, and where the reader is closed.
        OSError
            Where the file is damaged.
        """
        require_rows(start, stop, self.scan_shape[0])
        if self.closed:
            raise ValueError(f"{self.path}: the reader is closed")
        columns = self.scan_shape[1]
        with named(self.path):
            frames = self._frames.read(start * columns, stop * columns)
        frames = np.ascontiguousarray(frames, self.dtype)
        return frames.reshape(stop - start, columns, *self.frame_shape)

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._frames.close()


def settled_shape(frames: StoredFrames, stated: ScanShape | None, given: ScanShape | None) -> ScanShape:
    """Return the scan's shape, given by the user or else stated by the file, where the frames fill it.

    Of a scan that was stopped within a row, the whole rows may be asked for.

    Raises
    ------
    ValueError
        Saying how many frames there are, and which shapes they could have.
    """
    shape = stated if given is None else (int(given[0]), int(given[1]))
    if shape is None and frames.count == 1 and not frames.missing:
        shape = (1, 1)
    there = f"{frames.count} whole frame{'s' if frames.count != 1 else ''}"
    if not frames.count:
        raise ValueError("there is no whole frame in it: it is empty or cut short")
    if shape is None:
        raise ValueError(
            f"it has {there} and does not say the shape of its scan: give scan_shape=(rows, columns) "
            f"(--scan-shape ROWSxCOLUMNS), for instance {_shapes(frames.count)}"
        )
    if min(shape) < 1:
        raise ValueError(f"scan_shape must be two numbers of at least 1, got {given}")
    positions = math.prod(shape)
    whole_rows = frames.count // shape[1]
    if (given is None and frames.missing) or frames.count < positions:
        rows = (
            f"the whole rows that are there are scan_shape=({whole_rows}, {shape[1]}) "
            f"(--scan-shape {whole_rows}x{shape[1]})"
            if whole_rows
            else f"they could be {_shapes(frames.count)}"
        )
        raise ValueError(
            f"{shape[0]} x {shape[1]} scan positions take {positions} frames, and it has {there}: frames are missing, "
            f"or the shape is another; {rows}"
        )
    if frames.count - positions >= shape[1]:
        raise ValueError(
            f"{shape[0]} x {shape[1]} scan positions take {positions} frames, and it has {there}: the shape is "
            f"another, for instance {_shapes(frames.count)} (scan_shape=, --scan-shape)"
        )
    if frames.count > positions:
        warnings.warn(
            f"the last {frames.count - positions} of {there} are left out: {shape[0]} x {shape[1]} was given",
            UserWarning,
            stacklevel=2,
        )
    elif stated is not None and shape != stated:
        warnings.warn(
            f"the file says that the scan has {stated[0]} x {stated[1]} positions; {shape[0]} x {shape[1]} was given "
            "and is taken",
            UserWarning,
            stacklevel=2,
        )
    return shape


def _shapes(count: int) -> str:
    """The shapes that a number of frames could have, the nearest to a square first."""
    rows = [n for n in range(math.isqrt(count), 0, -1) if count % n == 0][:3]
    return " or ".join(f"{n}x{count // n}" for n in rows)


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf":
        kind = (
            "complex numbers" if dtype.kind == "c" else "colours" if dtype.names else f"of the type {dtype}"
        )
        raise ValueError(f"its frames are {kind}, not counts: real numbers are wanted")
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind == "f" else dtype.newbyteorder("=")


def _reopen(path: str, options: FrameOptions) -> FrameSource:
    from microinfer.frames import open_frames

    return open_frames(path, **options._asdict())
