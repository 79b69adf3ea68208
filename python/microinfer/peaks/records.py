"""Variable-length HDF5 records as flat columns, without one Python object per scan position."""

import os
import zlib
from collections.abc import Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer._core import read_lists
from microinfer.hdf5 import InputFile, require_stored

FIELDS = ("qx", "qy", "intensity")

Columns = tuple[
    NDArray[np.int64],  # offsets (N + 1,)
    NDArray[np.float64],  # qx, qy, intensity (3, P)
]

_REFERENCE = 16  # bytes: length, address of a heap collection, index in it


def require_peaks(dataset: h5py.Dataset) -> None:
    """Raise ValueError unless a dataset holds lists of qx, qy, intensity on a two-dimensional scan.

    Raises OSError where not all of it stands in the file.
    """
    dtype = h5py.check_vlen_dtype(dataset.dtype)
    names = getattr(dtype, "names", None) or ()  # of texts it is Python's type
    if not set(FIELDS) <= set(names):
        raise ValueError(f"it must hold lists of {', '.join(FIELDS)}, got {dtype or dataset.dtype}")
    stored = dataset.id.get_type().get_super()
    for name in FIELDS:
        kind = stored.get_member_type(stored.get_member_index(name.encode()))
        if dtype[name].kind not in "fiu" or kind != h5py.h5t.py_create(dtype[name]):
            raise ValueError(f"{', '.join(FIELDS)} must be real numbers, got {dtype}")
    if dataset.ndim != 2 or 0 in dataset.shape:
        raise ValueError(f"its shape must be the scan's (Rx, Ry), got {dataset.shape}")
    if dataset.file.id.get_create_plist().get_sizes() != (8, 8) or stored.get_size() != dtype.itemsize:
        raise ValueError("it is stored in a form that py4DSTEM does not write: save it anew")
    require_stored(dataset)


def read_columns(file: InputFile, dataset: h5py.Dataset, start: int, stop: int) -> Columns:
    """Read the peaks of scan rows ``start`` to ``stop - 1``.

    The dataset holds references to lists in the file's global heap. Those are read here, not by HDF5, which would
    believe whatever stands there.

    Parameters
    ----------
    file : InputFile
        The dataset's.
    dataset : h5py.Dataset, shape (Rx, Ry)
        Lists of peaks, as `require_peaks` demands.
    start, stop : int
        Rows of the block.

    Returns
    -------
    offsets : ndarray of int64, shape (N + 1,)
        For the N = (stop - start) Ry scan positions.
    columns : ndarray of float64, shape (3, P)
        qx, qy, intensity as stored.

    Raises
    ------
    OSError
        Where the file is damaged.
    ValueError
        Where it is stored in a way that is not known here.
    """
    peak = h5py.check_vlen_dtype(dataset.dtype)
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    references = read_references(file, dataset, start, stop)
    offsets, items = read_lists(descriptor, file.userblock_size, size, references, peak.itemsize)
    table = items.view(peak)
    return offsets, np.stack([table[name].astype(np.float64) for name in FIELDS])


def read_references(file: InputFile, dataset: h5py.Dataset, start: int, stop: int) -> NDArray[np.uint8]:
    """Read the elements of rows ``start`` to ``stop - 1`` as they stand in the file: uint8 (N, 16)."""
    layout = dataset.id.get_create_plist().get_layout()
    columns = dataset.shape[1]
    if layout == h5py.h5d.CHUNKED:
        return _chunked_references(dataset, start, stop).reshape(-1, _REFERENCE)
    if layout != h5py.h5d.CONTIGUOUS:
        raise ValueError("it is stored within its own header: save it anew in py4DSTEM")
    row = columns * _REFERENCE
    begin, count = dataset.id.get_offset() + start * row, (stop - start) * row
    content = os.pread(file.fileno(), count, begin)
    if len(content) < count:
        raise OSError("the file was cut short")
    return np.frombuffer(content, np.uint8).reshape(-1, _REFERENCE)


def _chunked_references(dataset: h5py.Dataset, start: int, stop: int) -> NDArray[np.uint8]:
    rows, columns = dataset.chunks
    references = np.zeros((stop - start, dataset.shape[1], _REFERENCE), np.uint8)
    for top in range(start // rows * rows, stop, rows):
        for left in range(0, dataset.shape[1], columns):
            chunk = _read_chunk(dataset, (top, left))
            first, last = max(top, start), min(top + rows, stop)
            part = references[first - start : last - start, left : left + columns]
            part[...] = chunk[first - top : last - top, : part.shape[1]]
    return references


def _read_chunk(dataset: h5py.Dataset, place: tuple[int, int]) -> NDArray[np.uint8]:
    """A chunk as it stands in the file, its filters undone; (rows, columns, 16)."""
    skipped, content = dataset.id.read_direct_chunk(place)
    filters = dataset.id.get_create_plist()
    size = int(np.prod(dataset.chunks)) * _REFERENCE
    for index in reversed(range(filters.get_nfilters())):
        if skipped >> index & 1:
            continue
        code, _, _, name = filters.get_filter(index)
        if code == h5py.h5z.FILTER_DEFLATE:
            content = _inflate(content, size + 1)
        elif code == h5py.h5z.FILTER_SHUFFLE:
            _require_length(content, size, place)
            content = np.frombuffer(content, np.uint8).reshape(_REFERENCE, -1).T.tobytes()
        else:
            raise ValueError(
                f"it is compressed by {name.decode(errors='replace')}, which cannot be checked for damage: "
                "save it anew without, or with gzip"
            )
    _require_length(content, size, place)
    return np.frombuffer(content, np.uint8).reshape(*dataset.chunks, _REFERENCE)


def _require_length(content: bytes, size: int, place: tuple[int, int]) -> None:
    if len(content) != size:
        raise OSError(f"the chunk at {place} has {len(content)} bytes in place of {size}")


def _inflate(content: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, most)
    except zlib.error as error:
        raise OSError(f"a compressed chunk cannot be read: {error}") from error


def join_lists(lists: Sequence[NDArray[np.void]]) -> Columns:
    """Join one structured array of peaks per scan position to what `read_columns` returns."""
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(peaks) for peaks in lists], out=offsets[1:])
    columns = np.zeros((len(FIELDS), offsets[-1]))
    filled = [peaks for peaks in lists if len(peaks)]
    if filled:
        table = np.concatenate(filled)
        for column, name in zip(columns, FIELDS, strict=True):
            column[:] = table[name]
    return offsets, columns
