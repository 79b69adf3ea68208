"""Variable-length HDF5 records as flat columns, without one Python object per scan position."""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock around every call of the HDF5 library
from numpy.typing import NDArray

from microinfer._core import gather_records

FIELDS = ("qx", "qy", "intensity")

Columns = tuple[
    NDArray[np.int64],  # offsets (N + 1,)
    NDArray[np.float64],  # qx, qy, intensity (3, P)
]

_PEAK = np.dtype([(name, np.float64) for name in FIELDS])
_DEFAULT = 0  # H5P_DEFAULT


class _Library(NamedTuple):
    """Functions of the HDF5 library that h5py uses; see HDF5's reference manual for their arguments."""

    read: Callable[[int, int, int, int, int, int], int]
    reclaim: Callable[[int, int, int, int], int]


def require_peaks(dataset: h5py.Dataset) -> None:
    """Raise ValueError unless a dataset holds lists of qx, qy, intensity on a two-dimensional scan."""
    dtype = h5py.check_vlen_dtype(dataset.dtype)
    if dtype is None or dtype.names is None or not set(FIELDS) <= set(dtype.names):
        raise ValueError(f"it must hold lists of {', '.join(FIELDS)}, got {dtype or dataset.dtype}")
    if any(dtype[name].kind not in "fiu" for name in FIELDS):
        raise ValueError(f"{', '.join(FIELDS)} must be real numbers, got {dtype}")
    if dataset.ndim != 2 or 0 in dataset.shape:
        raise ValueError(f"its shape must be the scan's (Rx, Ry), got {dataset.shape}")


def read_columns(dataset: h5py.Dataset, start: int, stop: int) -> Columns:
    """Read the peaks of scan rows ``start`` to ``stop - 1``.

    HDF5 hands out (length, address) pairs whose memory belongs to the library that h5py loaded; they are
    gathered in C++ and given back to it. Where that library cannot be reached, h5py's objects are joined
    instead, to the same answer.

    Parameters
    ----------
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
    """
    library = _library()
    columns = _read_raw(library, dataset, start, stop) if library is not None else None
    return read_columns_as_objects(dataset, start, stop) if columns is None else columns


def read_columns_as_objects(dataset: h5py.Dataset, start: int, stop: int) -> Columns:
    """As `read_columns`, by h5py's public interface alone: one NumPy array per scan position, slower."""
    return join_lists(dataset[start:stop].ravel())


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


def _read_raw(library: _Library, dataset: h5py.Dataset, start: int, stop: int) -> Columns | None:
    """Read by raw records; None where HDF5 fails, so that h5py tries and says why."""
    shape = (stop - start, dataset.shape[1])
    peaks = h5py.h5t.vlen_create(h5py.h5t.py_create(_PEAK))  # HDF5 converts other precisions and orders
    block = h5py.h5s.create_simple(shape)
    selection = dataset.id.get_space()
    selection.select_hyperslab((start, 0), shape)
    records = np.zeros((shape[0] * shape[1], 2), np.uint64)  # HDF5's hvl_t: size_t length, void *address
    # The call lets other Python threads run, but none into HDF5: phil is held.
    # Not h5py's own DatasetID.read: it copies the lists once more and never frees what it copied from.
    with phil:
        status = library.read(dataset.id.id, peaks.id, block.id, selection.id, _DEFAULT, records.ctypes.data)
    if status < 0:
        return None  # the records are then not all pairs with an address: nothing in them may be freed
    try:
        return gather_records(records, len(FIELDS))
    finally:
        with phil:
            library.reclaim(peaks.id, block.id, _DEFAULT, records.ctypes.data)


@cache
def _library() -> _Library | None:
    """Reach the HDF5 library that h5py itself uses; None where that cannot be done."""
    if ctypes.sizeof(ctypes.c_size_t) != 8 or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    hid, address = ctypes.c_int64, ctypes.c_void_p
    read_type = ctypes.CFUNCTYPE(ctypes.c_int, hid, hid, hid, hid, hid, address)
    reclaim_type = ctypes.CFUNCTYPE(ctypes.c_int, hid, hid, hid, address)
    with suppress(OSError, AttributeError):
        # Asked for a symbol, a loaded library also looks into those it was linked against: here h5py's
        # libhdf5, wherever a wheel, conda or the system has put it. No second one is ever loaded.
        library = ctypes.CDLL(h5py.h5d.__file__)
        # H5Treclaim replaces H5Dvlen_reclaim from HDF5 1.12 on.
        name = "H5Treclaim" if hasattr(library, "H5Treclaim") else "H5Dvlen_reclaim"
        return _Library(read_type(("H5Dread", library)), reclaim_type((name, library)))
    return None
