"""Frames in HDF5 files of py4DSTEM, other EMD files, and HyperSpy's."""

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np

from microinfer.extras import install_hint
from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import Axis, FrameOptions, Stated, axis_order
from microinfer.frames.stored import ArrayFrames
from microinfer.hdf5 import InputFile, find, open_hdf5, require_own, require_stored, utf8
from microinfer.peaks.calibration import read_items
from microinfer.peaks.metadata import find_voltage
from microinfer.peaks.py4dstem import all_entries, find_calibration

_CUBES = "/data/datacubes"  # the folder of py4DSTEM before 0.13, and of Prismatic
_NOT_ARRAYS = ("PointListArray", "PointList", "BraggVectors")


def has_datacube(path: Path) -> bool:
    """Whether a file has a datacube of py4DSTEM, or an array of EMD that could be frames."""
    with open_hdf5(path) as file, file:
        return bool(_cubes(file))


def has_bragg_vectors(path: Path) -> bool:
    """Whether a file has Bragg peaks that py4DSTEM found."""
    with open_hdf5(path) as file, file:
        return any(_class(group) in ("BraggVectors", "PointListArray") for group in _groups(file))


def open_emd(path: Path, options: FrameOptions) -> FrameReader:
    """Open a datacube of py4DSTEM, or an array of another EMD file; errors as in `microinfer.open_frames`."""
    with open_hdf5(path) as file:
        item = chosen(_cubes(file), options.name)
        group = item.parent
        first = 0 if "dim0" in group else 1
        axes = [_dim(group, first + n) for n in range(item.ndim)]
        # EMD before 1.0 writes the fast axis of the image first, as HyperSpy has it; py4DSTEM never did
        reversed_axes = first == 1 and not group.parent.name.endswith(_CUBES)
        voltage = find_voltage(all_entries(group))
        if (stored := find_calibration(group)) is not None:
            items = read_items(stored)
            axes = [
                *[_calibrated(items["R_pixel_size"], items["R_pixel_units"])] * 2,
                *[_calibrated(items["Q_pixel_size"], items["Q_pixel_units"])] * 2,
            ][-item.ndim :]
        return _reader(path, "EMD datacube", file, item, axes, voltage, options, transposed=reversed_axes)


def is_hyperspy(path: Path) -> bool:
    """Whether a file is HyperSpy's."""
    with open_hdf5(path) as file, file:
        return "Experiments" in file


def open_hyperspy(path: Path, options: FrameOptions) -> FrameReader:
    """Open a signal of HyperSpy; errors as in `microinfer.open_frames`."""
    with open_hdf5(path) as file:
        signals = [
            item
            for name in file["Experiments"]
            if isinstance(item := find(file, f"Experiments/{name}/data"), h5py.Dataset)
        ]
        item = chosen(signals, options.name)
        microscope = find(item.parent, "metadata/Acquisition_instrument/TEM")
        voltage = None if microscope is None else find_voltage(list(microscope.attrs.items()))
        axes = [
            signal_axis(group.attrs) for n in range(item.ndim) if (group := find(item.parent, f"axis-{n}"))
        ]
        return _reader(path, "HyperSpy signal", file, item, axes, voltage, options)


def signal_axis(attributes: h5py.AttributeManager) -> Axis:
    """The calibration of an axis of HyperSpy."""
    units = attributes.get("units", "")
    units = utf8(units, "an axis' unit") if isinstance(units, bytes | str) else ""
    return Axis(float(attributes.get("scale", 1.0)), units)


def chosen(items: list[h5py.Dataset], name: str | None) -> h5py.Dataset:
    """The one array of frames, by name where there are several."""
    places = ", ".join(item.name for item in items)
    if not items:
        raise ValueError(
            "there are no frames in it: no array of two to four dimensions where its format has them"
        )
    if name is not None:
        items = [i for i in items if name in (i.name, i.name.rsplit("/", 1)[0], *i.name.rsplit("/", 2)[-2:])]
        if not items:
            raise ValueError(f"there are no frames named {name!r} in it: name must be one of: {places}")
    else:
        most = max(len(item.shape) for item in items)
        items = [item for item in items if len(item.shape) == most]
    if len(items) > 1:
        raise ValueError(
            f"there are several arrays of frames in it; give name=... (--name), one of: {places}"
        )
    return items[0]


def _reader(
    path: Path,
    kind: str,
    file: InputFile,
    item: h5py.Dataset,
    axes: list[Axis],
    voltage: float | None,
    options: FrameOptions,
    *,
    transposed: bool = False,
) -> FrameReader:
    require_readable(item)
    order = axis_order(axes, reversed_axes=transposed) if len(axes) == item.ndim else ()
    frames = ArrayFrames(item, order=order, chunk=item.chunks, close=file.close)
    ordered = [axes[axis] for axis in order]
    stated = Stated(frames.scan_shape, ordered[:-2] if len(ordered) == 4 else (), ordered[-2:], voltage)
    return FrameReader(path, kind, frames, stated, options)


def _cubes(file: InputFile) -> list[h5py.Dataset]:
    """py4DSTEM's datacubes; where there are none, the arrays of an EMD file that could be frames."""
    cubes, others = [], []
    for group in _groups(file):
        old = group.parent.name.endswith(_CUBES)
        item = find(group, "datacube" if old and "datacube" in group else "data")
        if not isinstance(item, h5py.Dataset) or _class(group) in _NOT_ARRAYS:
            continue
        if _class(group) == "DataCube" or old:
            cubes.append(item)
        elif "emd_group_type" in group.attrs and 2 <= len(item.shape) <= 4 and item.dtype.kind in "biufc":
            others.append(item)
    return cubes or others


def _dim(group: h5py.Group, number: int) -> Axis:
    """The calibration of an axis in EMD: the places of its points, or of the first two."""
    item = find(group, f"dim{number}")
    if not isinstance(item, h5py.Dataset) or item.ndim != 1 or len(item) < 2 or item.dtype.kind not in "iuf":
        return Axis()
    return _calibrated(float(item[1]) - float(item[0]), item.attrs.get("units", ""))


def _calibrated(size: object, units: object) -> Axis:
    text = utf8(units, "a unit") if isinstance(units, bytes | str) else ""
    return Axis(float(size) if isinstance(size, int | float | np.number) else 0.0, text)


def require_readable(item: h5py.Dataset) -> None:
    """Raise unless a dataset's values are in its file, all of them, and HDF5 knows how they are compressed."""
    require_own(item)
    require_stored(item)
    stored = item.id.get_create_plist()
    for number in range(stored.get_nfilters()):
        code, _, _, filter_name = stored.get_filter(number)
        if h5py.h5z.filter_avail(code):
            continue
        with suppress(ImportError):
            import_module("hdf5plugin")  # brings bitshuffle, LZ4, Zstandard, Blosc
        if not h5py.h5z.filter_avail(code):
            compression = filter_name.decode("latin-1") or f"filter {code}"
            raise ValueError(
                f"{item.name} is compressed with {compression}, which takes hdf5plugin: {install_hint('hdf5plugin')}"
            )


def _groups(file: InputFile) -> Iterator[h5py.Group]:
    groups: list[h5py.Group] = []
    file.visititems(lambda name, item: groups.append(item) if isinstance(item, h5py.Group) else None)
    return iter(groups)


def _class(group: h5py.Group) -> str:
    for name in ("python_class", "py4dstem_class"):
        value = group.attrs.get(name, "")
        if value:
            return value.decode() if isinstance(value, bytes) else str(value)
    return ""
