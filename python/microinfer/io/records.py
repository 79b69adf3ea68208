"""Variable-length HDF5 records as flat columns, without one Python object per scan position."""

import ctypes
from collections.abc import Callable
from functools import cache

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock around every call of the HDF5 library
from numpy.typing import NDArray

from microinfer._core import gather_records

_DEFAULT_PROPERTIES = 0  # H5P_DEFAULT
FIELDS = ("qx", "qy", "intensity")

Columns = tuple[NDArray[np.int64], NDArray[np.float64]]  # offsets (N + 1,), columns (3, P)


def record_dtype(dataset: h5py.Dataset) -> np.dtype[np.void]:
    """Return the dtype of one peak in a dataset of variable-length peaks.

    Raises
    ------
    ValueError
        Where the dataset does not hold lists of qx, qy, intensity on a two-dimensional scan.
    """
    dtype = h5py.check_vlen_dtype(dataset.dtype)
    if dtype is None or dtype.names is None or not set(FIELDS) <= set(dtype.names):
        raise ValueError(f"it must hold lists of {', '.join(FIELDS)}, got {dtype or dataset.dtype}")
    if dataset.ndim != 2 or 0 in dataset.shape:
        raise ValueError(f"its shape must be the scan's (Rx, Ry), got {dataset.shape}")
    return dtype


def read_columns(dataset: h5py.Dataset, start: int, stop: int) -> Columns:
    """Read the peaks of scan rows ``start`` to ``stop - 1``.

    HDF5 hands out (length, address) pairs whose memory belongs to the library that h5py loaded; they are gathered
    in C++ and given back to it. Where that library cannot be reached, or the peaks are not stored as native
    doubles, h5py's objects are joined instead, to the same answer.

    Parameters
    ----------
    dataset : h5py.Dataset, shape (Rx, Ry)
        Lists of peaks, as `record_dtype` demands.
    start, stop : int
        Rows of the block.

    Returns
    -------
    offsets : ndarray of int64, shape (N + 1,)
        For the N = (stop - start) Ry scan positions.
    columns : ndarray of float64, shape (3, P)
        qx, qy, intensity as stored.
    """
    dtype = record_dtype(dataset)
    native = all(dtype[name] == np.float64 for name in FIELDS)
    reclaim = _reclaim_function()
    if reclaim is None or not native:
        return read_columns_as_objects(dataset, start, stop)
    return _read_columns_raw(dataset, start, stop, dtype, reclaim)


def read_columns_as_objects(dataset: h5py.Dataset, start: int, stop: int) -> Columns:
    """As `read_columns`, through one NumPy array per scan position: slower, with h5py's public interface only."""
    lists = dataset[start:stop].ravel()
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(peaks) for peaks in lists], out=offsets[1:])
    columns = np.zeros((len(FIELDS), offsets[-1]))
    filled = [peaks for peaks in lists if len(peaks)]
    if filled:
        table = np.concatenate(filled)
        for column, name in zip(columns, FIELDS, strict=True):
            column[:] = table[name]
    return offsets, columns


def _read_columns_raw(
    dataset: h5py.Dataset,
    start: int,
    stop: int,
    dtype: np.dtype[np.void],
    reclaim: Callable[[int, int, int, int], int],
) -> Columns:
    shape = (stop - start, dataset.shape[1])
    memory_type = dataset.id.get_type()
    memory_space = h5py.h5s.create_simple(shape)
    file_space = dataset.id.get_space()
    file_space.select_hyperslab((start, 0), shape)
    records = np.zeros(shape, "V16")  # HDF5's hvl_t: size_t length, void *address
    try:
        dataset.id.read(memory_space, file_space, records, memory_type)
        pairs = records.view(np.uint64).reshape(-1, 2)
        return gather_records(pairs, dtype.itemsize, [dtype.fields[name][1] for name in FIELDS])
    finally:
        with phil:
            reclaim(memory_type.id, memory_space.id, _DEFAULT_PROPERTIES, records.ctypes.data)


@cache
def _reclaim_function() -> Callable[[int, int, int, int], int] | None:
    """Find the function that frees variable-length memory, in the HDF5 library that h5py itself uses."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    try:
        # Asked for a symbol, a loaded library also looks into those it was linked against: here h5py's libhdf5,
        # wherever a wheel, conda or the system has put it. No second one is ever loaded.
        library = ctypes.PyDLL(h5py.h5d.__file__)
    except OSError:
        return None
    function = getattr(library, "H5Treclaim", None) or getattr(library, "H5Dvlen_reclaim", None)
    if function is None:
        return None
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return function
