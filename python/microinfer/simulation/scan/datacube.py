"""Frames written as a datacube of py4DSTEM (EMD 1.0), block by block."""

from os import PathLike
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.files import atomic_hdf5
from microinfer.frames.source import FrameSource

_CHUNK = 1 << 20  # bytes, at most a scan row


class DatacubeWriter:
    """Write the frames of a scan to an HDF5 file that `py4DSTEM.read` opens; a context manager, in constant memory.

    The file appears under its name when the context ends well. It states pixel size, scan step and voltage, and that
    detector and scan are not turned against each other.

    Parameters
    ----------
    path : path-like
        File to write; an existing one is replaced once the new one is complete.
    source : FrameSource
        Whose frames they are.
    compress : bool
        With gzip: frames of few electrons become many times smaller, and are read more slowly.

    Raises
    ------
    OSError
        Where the file cannot be written; nothing half-written stays.
    """

    def __init__(self, path: str | PathLike[str], source: FrameSource, *, compress: bool = False) -> None:
        self._output, self._source, self._compress = atomic_hdf5(path), source, compress

    def __enter__(self) -> Self:
        self._file = self._output.__enter__()
        source = self._source
        self._file.attrs.update(
            {
                "emd_group_type": "file",
                "version_major": 1,
                "version_minor": 0,
                "authoring_program": "microinfer",
                "authoring_user": "",
            }
        )
        root = _group(self._file, "datacube_root", "root", "Root")
        cube = _group(root, "datacube", "array", "DataCube")
        rows, columns = source.scan_shape
        frame = int(np.prod(source.frame_shape)) * source.dtype.itemsize
        filters = {"compression": 4, "shuffle": True} if self._compress else {}
        self._data = cube.create_dataset(
            "data",
            (rows, columns, *source.frame_shape),
            source.dtype,
            chunks=(1, int(np.clip(_CHUNK // frame, 1, columns)), *source.frame_shape),
            fletcher32=True,
            **filters,
        )
        self._data.attrs["units"] = "pixel intensity"
        steps = [(source.scan_step, source.scan_units)] * 2
        steps += [(1.0, "pixels") if source.pixel_size is None else (source.pixel_size, "A^-1")] * 2
        for number, ((step, units), name) in enumerate(zip(steps, ("Rx", "Ry", "Qx", "Qy"), strict=True)):
            axis = cube.create_dataset(f"dim{number}", data=np.array([0.0, step]))
            axis.attrs.update({"name": name, "units": units})
        bundle = _group(root, "metadatabundle", "metadatabundle")
        calibration = {
            "Q_pixel_size": steps[2][0],
            "Q_pixel_units": steps[2][1],
            "R_pixel_size": steps[0][0],
            "R_pixel_units": steps[0][1],
            "QR_flip": False,
            "_root_treepath": "",
        }
        if source.qr_calibrated:
            calibration |= {"QR_rotation": 0.0, "QR_rotation_degrees": 0.0}
        _items(_group(bundle, "calibration", "metadata", "Calibration"), calibration)
        if source.voltage is not None:
            microscope = {"accelerating_voltage": source.voltage, "accelerating_voltage_units": "V"}
            _items(_group(bundle, "microscope", "metadata", "Metadata"), microscope)
        return self

    def write_rows(self, start: int, frames: NDArray[Any]) -> None:
        """Write the scan rows from `start` on, shape (n, Ry, Qx, Qy)."""
        self._data[start : start + len(frames)] = frames
        self._file.require_written()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.__exit__(kind, error, trace)


def _group(parent: h5py.Group, name: str, group_type: str, python_class: str | None = None) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["emd_group_type"] = group_type
    if python_class is not None:
        group.attrs["python_class"] = python_class
    return group


def _items(group: h5py.Group, values: dict[str, Any]) -> None:
    """Metadata as emdfile writes it."""
    for name, value in values.items():
        kind = "string" if isinstance(value, str) else "bool" if isinstance(value, bool) else "number"
        item = group.create_dataset(name, data=value.encode() if isinstance(value, str) else value)
        item.attrs["type"] = kind.encode()
