"""Frames in HDF5 files of py4DSTEM, other EMD files, and HyperSpy's."""

import math
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from microinfer.extras import install_hint
from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import Axis, FrameOptions, Stated, axis_order
from microinfer.frames.stored import ArrayFrames, Part, Records, plain_record
from microinfer.hdf5 import InputFile, find, open_hdf5, require_own, require_stored, utf8
from microinfer.peaks.calibration import read_items
from microinfer.peaks.metadata import find_voltage
from microinfer.peaks.py4dstem import all_entries, find_calibration

_CUBES = "/data/datacubes"  # the folder of py4DSTEM before 0.13, and of Prismatic
ROUND = 1e-3  # an ellipse whose axes differ by less is a circle
_NOT_ARRAYS = ("PointListArray", "PointList", "BraggVectors")


def has_datacube(path: Path) -> bool:
    """Whether a file has a datacube of py4DSTEM, or an array of EMD that could be frames."""
    with open_hdf5(path) as file, file:
        return bool(_cubes(file))


def has_bragg_vectors(path: Path) -> bool:
    """Whether a file has Bragg peaks that py4DSTEM found."""
    with open_hdf5(path) as file, file:
        return any(_class(group) in ("BraggVectors", "PointListArray") for group in groups(file))


def open_emd(path: Path, options: FrameOptions) -> FrameReader:
    """Open a datacube of py4DSTEM, or an array of another EMD file; errors as in `microinfer.open_frames`."""
    with open_hdf5(path) as file:
        item = chosen(_cubes(file), options.name)
        group = item.parent
        first = 0 if "dim0" in group or _class(group) == "DataCube" else 1
        axes = [places_axis(group, f"dim{first + n}") for n in range(item.ndim)]
        # EMD before 1.0 writes the fast axis of the image first, as HyperSpy has it; py4DSTEM never did
        reversed_axes = first == 1 and not group.parent.name.endswith(_CUBES)
        voltage = find_voltage(all_entries(group))
        if (stored := find_calibration(group)) is not None:
            items = read_items(stored)
            scan, detector = (
                _calibrated(items[f"{of}_pixel_size"], items[f"{of}_pixel_units"]) for of in "RQ"
            )
            _warn_of_the_rest(path, items)
            calibrated = [scan, scan, detector, detector][-item.ndim :]
            axes = [new if new.scale else old for new, old in zip(calibrated, axes, strict=True)]
        return open_array(path, "EMD datacube", file, item, axes, voltage, options, transposed=reversed_axes)


def _warn_of_the_rest(path: Path, items: dict[str, Any]) -> None:
    """Say which parts of a datacube's calibration are not applied to the peaks of its frames."""
    numbers = {
        name: value
        for name in ("QR_rotation", "QR_flip", "a", "b")
        if isinstance(value := items.get(name), int | float | np.number | np.bool_)
    }
    left = [f"{name} {numbers[name]:g}" for name in ("QR_rotation", "QR_flip") if numbers.get(name)]
    if numbers.get("a") and numbers.get("b") and abs(numbers["a"] / numbers["b"] - 1.0) > ROUND:
        left.append(f"an ellipse of a/b {numbers['a'] / numbers['b']:.4g}")
    if left:
        warnings.warn(
            f"{path} states {', '.join(left)}, which is not applied to peaks that are found in its frames: the map is "
            "in the detector's frame; microinfer calibrate measures the ellipse of peaks",
            UserWarning,
            stacklevel=4,
        )


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
        return open_array(path, "HyperSpy signal", file, item, axes, voltage, options)


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


def open_array(
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
    """Open an array of a file, with what is known of its axes, in the array's order.

    Parameters
    ----------
    transposed : bool
        Whether the array has the fast axis of the frame first.
    """
    require_readable(item)
    order = axis_order(axes, reversed_axes=transposed) if len(axes) == item.ndim else ()
    array = ArrayFrames(item, order=order, chunk=item.chunks, close=file.close)
    frames = _plain(path, file, item) if order in ((), tuple(range(item.ndim))) else None
    ordered = [axes[axis] for axis in order]
    stated = Stated(array.scan_shape, ordered[:-2] if len(ordered) == 4 else (), ordered[-2:], voltage)
    return FrameReader(path, kind, frames or array, stated, options)


def _plain(path: Path, file: InputFile, item: h5py.Dataset) -> Records | None:
    """Frames that lie in the file one after another, to be read without HDF5, which is slower."""
    contiguous = item.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    if not contiguous or file.userblock_size or item.dtype.kind not in "iuf":
        return None
    parts = [Part(path, item.id.get_offset(), math.prod(item.shape[:-2]))]
    return Records(parts, plain_record(item.shape[-2:], item.dtype), close=file.close)


def _cubes(file: InputFile) -> list[h5py.Dataset]:
    """py4DSTEM's datacubes; where there are none, the arrays of an EMD file that could be frames."""
    cubes, others = [], []
    for group in groups(file):
        old = group.parent.name.endswith(_CUBES)
        item = find(group, "datacube" if old and "datacube" in group else "data")
        if not isinstance(item, h5py.Dataset) or _class(group) in _NOT_ARRAYS:
            continue
        if _class(group) == "DataCube" or old:
            cubes.append(item)
        elif "emd_group_type" in group.attrs and 2 <= len(item.shape) <= 4 and item.dtype.kind in "biufc":
            others.append(item)
    return cubes or others


def places_axis(group: h5py.Group, name: str) -> Axis:
    """The calibration of an axis from the places of its points, or of the first two."""
    item = find(group, name)
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


def groups(file: InputFile) -> list[h5py.Group]:
    """All groups of a file."""
    found: list[h5py.Group] = []
    file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Group) else None)
    return found


def _class(group: h5py.Group) -> str:
    for name in ("python_class", "py4dstem_class"):
        value = group.attrs.get(name, "")
        if value:
            return value.decode() if isinstance(value, bytes) else str(value)
    return ""
