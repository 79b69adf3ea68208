"""The two ways in which files have frames: records of one length, one after another, and arrays."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.frames.reader import StoredFrames


class Part(NamedTuple):
    """A file of records: where they begin, and how many there are."""

    path: Path
    offset: int
    records: int


class Records(StoredFrames):
    """Frames with headers and footers of constant length, in one file or several.

    They are read rather than mapped: mapped pages count as memory of the process.

    Parameters
    ----------
    parts : sequence of Part
        In order.
    record : numpy.dtype
        With a field ``frame`` of the frame's shape.
    upside_down : bool
        Whether the frames' last row is stored first.
    skip, count : int, optional
        Frames to leave out at the beginning, and how many to take then; all by default.
    missing : int
        As in `StoredFrames`.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        record: np.dtype[Any],
        *,
        upside_down: bool = False,
        skip: int = 0,
        count: int | None = None,
        missing: int = 0,
    ) -> None:
        self._parts, self._record, self._upside_down, self._skip = parts, record, upside_down, skip
        frame = record["frame"]
        self.dtype, self.frame_shape = frame.base, (frame.shape[0], frame.shape[1])
        self.count = sum(part.records for part in parts) - skip if count is None else count
        self.missing = missing

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return the frames `first` to ``last - 1``."""
        blocks, begin = [], self._skip + first
        wanted = last - first
        for part in self._parts:
            if wanted and begin < part.records:
                blocks.append(self._read_part(part, begin, min(wanted, part.records - begin)))
                wanted -= len(blocks[-1])
            begin = max(0, begin - part.records)
        frames = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return frames[:, ::-1] if self._upside_down else frames

    def _read_part(self, part: Part, begin: int, count: int) -> NDArray[Any]:
        offset = part.offset + begin * self._record.itemsize
        records = np.fromfile(part.path, self._record, count, offset=offset)
        if len(records) < count:
            raise OSError(f"{part.path} ends within what is to be read: it was cut short")
        return records["frame"]


def plain_record(
    frame_shape: Sequence[int], dtype: np.dtype[Any], header: int = 0, footer: int = 0
) -> np.dtype[Any]:
    """A record of a frame between a header and a footer of so many bytes.

    Raises
    ------
    ValueError
        For a frame without pixels.
    """
    if min(frame_shape) < 1:
        raise ValueError(
            f"its frames should have {frame_shape[0]} x {frame_shape[1]} pixels, which is no frame"
        )
    length = header + math.prod(frame_shape) * dtype.itemsize + footer
    return np.dtype(
        {
            "names": ["frame"],
            "formats": [(dtype, tuple(frame_shape))],
            "offsets": [header],
            "itemsize": length,
        }
    )


def whole_records(path: Path, offset: int, record: np.dtype[Any], announced: int | None = None) -> Part:
    """The whole records from an offset to the end of a file, at most those `announced`."""
    count = max(0, path.stat().st_size - offset) // record.itemsize
    return Part(path, offset, count if announced is None else min(count, announced))


class ArrayFrames(StoredFrames):
    """Frames in anything that is sliced like an array: a dataset, a lazy array, a map of memory.

    Parameters
    ----------
    array : array_like
        Of two to four dimensions.
    order : sequence of int, optional
        Which of its axes are, in this order, those of the scan's rows and columns and of the frame's rows and columns;
        of three axes the first counts frames, two are one frame. The array's own order by default.
    chunk : sequence of int, optional
        Shape of the blocks in which the array is stored.
    close : callable, optional
        Closes the file.

    Attributes
    ----------
    scan_shape : tuple of int or None
        Of four axes.
    """

    def __init__(
        self,
        array: Any,
        *,
        order: Sequence[int] = (),
        chunk: Sequence[int] | None = None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._array, self._order, self._close = array, tuple(order or range(len(array.shape))), close
        shape = [int(array.shape[axis]) for axis in self._order]
        if not 2 <= len(shape) <= 4:
            close()
            raise ValueError(
                "frames are wanted, of the shape (rows, columns, Qx, Qy), (frames, Qx, Qy) or (Qx, Qy), got an array "
                f"of the shape {tuple(array.shape)}"
            )
        self.scan_shape = (shape[0], shape[1]) if len(shape) == 4 else None
        self.frame_shape = shape[-2], shape[-1]
        self.dtype, self.count = np.dtype(array.dtype), math.prod(shape[:-2])
        self._row = shape[1] if len(shape) == 4 else 1  # frames at one place of the first axis
        if chunk and len(shape) > 2:
            self.together = int(chunk[self._order[0]]) * self._row

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return the frames `first` to ``last - 1``."""
        start = first // self._row
        index = [slice(None)] * len(self._order)
        if len(self._order) > 2:
            index[self._order[0]] = slice(start, -(-last // self._row))
        block = np.transpose(_array(self._array[tuple(index)]), self._order)
        return block.reshape(-1, *self.frame_shape)[first - start * self._row : last - start * self._row]

    def close(self) -> None:
        """Close the file."""
        self._close()


def _array(block: Any) -> NDArray[Any]:
    # dask's threads would hold several blocks at a time, and take the cores that find disks
    return np.asarray(block.compute(scheduler="synchronous") if hasattr(block, "compute") else block)


class Joined(StoredFrames):
    """Frames in several places, one after another.

    Parameters
    ----------
    parts : sequence of StoredFrames
        In order; of one shape and type.
    missing : int
        As in `StoredFrames`.
    close : callable
        Closes the files.
    """

    def __init__(
        self, parts: Sequence[StoredFrames], missing: int = 0, close: Callable[[], object] = lambda: None
    ) -> None:
        self._parts, self.missing, self._close = parts, missing, close
        self.dtype, self.frame_shape = parts[0].dtype, parts[0].frame_shape
        self.count, self.together = sum(part.count for part in parts), parts[0].together
        if any((part.dtype, part.frame_shape) != (self.dtype, self.frame_shape) for part in parts):
            raise ValueError("its datasets hold frames of several shapes or types")

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return the frames `first` to ``last - 1``."""
        blocks = []
        for part in self._parts:
            if first < part.count and last > 0:
                blocks.append(part.read(max(first, 0), min(last, part.count)))
            first, last = first - part.count, last - part.count
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def close(self) -> None:
        """Close the files."""
        self._close()
