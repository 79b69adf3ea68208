"""Formats that are left to RosettaSciIO, HyperSpy's readers: Gatan's, TIFF, Velox'."""

import gc
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from microinfer.extras import require_packages
from microinfer.frames.reader import FrameReader, StoredFrames
from microinfer.frames.stated import Axis, FrameOptions, Stated, axis_order, flat_entries
from microinfer.frames.stored import ArrayFrames, Records, plain_record, whole_records
from microinfer.hdf5 import is_hdf5, open_hdf5
from microinfer.peaks.metadata import Entries, find_voltage

_READERS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".ser": "tia",
    ".emi": "tia",
    ".emd": "emd",
    ".zspy": "zspy",
}


def is_known(path: Path) -> bool:
    """Whether a file is of a format that RosettaSciIO reads for us, by its name, and of Velox by its content."""
    if is_hdf5(path):
        with open_hdf5(path) as file, file:
            return "Version" in file and "Data" in file
    return path.suffix.lower() in _READERS


def open_by_rosettasciio(path: Path, options: FrameOptions) -> FrameReader:
    """Open a file through RosettaSciIO; errors as in `microinfer.open_frames`.

    Raises
    ------
    ImportError
        Where RosettaSciIO is not installed.
    """
    suffix = path.suffix.lower() if path.suffix.lower() in _READERS else ".emd"
    require_packages(f"reading a {suffix} file", "rsciio")
    if suffix == ".zspy" and find_spec("zarr") is None:
        raise ImportError('reading a .zspy file needs zarr of version 2: pip install "zarr<3"', name="zarr")
    mode = {"mode": "r"} if path.is_dir() else {}  # else a folder of zarr would be opened to be written
    reader = import_module(f"rsciio.{_READERS[suffix]}")
    try:
        signals = reader.file_reader(str(path), lazy=True, **mode)
    except Exception as error:  # whatever its parsers meet in a damaged file
        raise OSError(f"{path} is damaged, or of a kind that RosettaSciIO does not read: {error}") from error
    signal = _chosen(path, signals, options.name)
    data, axes = signal["data"], [_axis(axis) for axis in signal["axes"]]
    order = axis_order(axes) if len(axes) == data.ndim else tuple(range(data.ndim))
    metadata = signal.get("metadata", {}), signal.get("original_metadata", {})
    voltage = next((v for part in metadata if (v := find_voltage(_entries(part)))), None)
    frames, scan_shape = _frames(path, signal, order)
    ordered = [axes[axis] for axis in order] if len(axes) == data.ndim else []
    if suffix in (".tif", ".tiff") and isinstance(frames, Records):
        del signals, signal, data
        _close_unused()
    stated = Stated(scan_shape, ordered[:-2] if len(ordered) == 4 else (), ordered[-2:], voltage)
    return FrameReader(path, f"{suffix[1:]} through RosettaSciIO", frames, stated, options)


def _close_unused() -> None:
    """Close what RosettaSciIO opened: it leaves a TIFF to the garbage collector, which warns of it at any time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _entries(metadata: Mapping[str, Any]) -> Entries:
    """Names and values; what Gatan calls Voltage is in volts."""
    return [("Voltage (V)" if name == "Voltage" else name, value) for name, value in flat_entries(metadata)]


def _frames(
    path: Path, signal: Mapping[str, Any], order: tuple[int, ...]
) -> tuple[StoredFrames, tuple[int, int] | None]:
    data = signal["data"]
    array = ArrayFrames(data, order=order, chunk=getattr(data, "chunksize", None))
    place = _place(path, signal) if order == tuple(range(data.ndim)) else None
    if place is None:
        return array, array.scan_shape
    offset, byte_order = place
    record = plain_record(array.frame_shape, array.dtype.newbyteorder(byte_order))
    part = whole_records(path, offset, record, array.count)
    return Records([part], record, missing=array.count - part.records), array.scan_shape


def _place(path: Path, signal: Mapping[str, Any]) -> tuple[int, Literal["<", ">"]] | None:
    """Where in the file frames lie one after another, and their byte order: to be read faster than as a lazy array."""
    if path.suffix.lower() in (".tif", ".tiff"):
        with import_module("tifffile").TiffFile(path) as file:
            series = file.series[0]
            whole = series.dataoffset is not None and series.size == signal["data"].size
            return (int(series.dataoffset), file.byteorder) if whole else None
    image = signal.get("original_metadata", {}).get("ImageList", {}).get("TagGroup0", {})
    place = image.get("ImageData", {}).get("Data", {})  # Gatan's
    if not {"offset", "endian"} <= set(place):
        return None
    return int(place["offset"]), "<" if place["endian"] == "little" else ">"


def _chosen(path: Path, signals: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    """The one signal of frames, by its title where there are several."""
    titles = [str(signal.get("metadata", {}).get("General", {}).get("title", "")) for signal in signals]
    images = [
        (title, signal)
        for title, signal in zip(titles, signals, strict=True)
        if 2 <= signal["data"].ndim <= 4
    ]
    if not images:
        shapes = ", ".join(str(signal["data"].shape) for signal in signals) or "nothing"
        raise ValueError(f"{path} has no frames, arrays of two to four dimensions; it has {shapes}")
    if name is not None:
        images = [(title, signal) for title, signal in images if title == name]
        if not images:
            raise ValueError(f"{path} has no frames named {name!r}; name must be one of: {', '.join(titles)}")
    else:
        most = max(signal["data"].ndim for _, signal in images)
        images = [(title, signal) for title, signal in images if signal["data"].ndim == most]
    if len(images) > 1:
        raise ValueError(
            f"{path} has several sets of frames; give name=... (--name), one of: "
            f"{', '.join(title for title, _ in images)}"
        )
    return images[0][1]


def _axis(axis: Mapping[str, Any]) -> Axis:
    scale, units = axis.get("scale", 1.0), axis.get("units")
    return Axis(float(scale) if scale is not None else 0.0, str(units) if units else "")
