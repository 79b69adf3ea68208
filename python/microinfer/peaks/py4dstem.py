"""Bragg peaks in files of py4DSTEM: BraggVectors of 0.14 (EMD 1.0) and 0.13, calibrated point lists of 0.13."""

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from microinfer.hdf5 import InputFile, dataset, find, open_hdf5, utf8
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.calibration import (
    Calibration,
    calibration_items,
    describe_items,
    read_calibration,
    read_items,
    read_scan,
)
from microinfer.peaks.hdf5 import Hdf5Reader
from microinfer.peaks.metadata import (
    Entries,
    entries_of,
    find_phases,
    find_voltage,
    read_entries,
    settled_voltage,
)
from microinfer.peaks.pixels import IN_ANGSTROM, stated_by
from microinfer.peaks.reader import Block, OpenOptions, PeakReader
from microinfer.peaks.records import join_lists, read_columns, require_peaks
from microinfer.peaks.scan import Scan

if TYPE_CHECKING:
    from py4DSTEM import BraggVectors

_CLASS_ATTRIBUTES = ("python_class", "py4dstem_class")  # 0.14, 0.13


def open_py4dstem(path: Path, options: OpenOptions) -> PeakReader:
    """Find the Bragg peaks in a file of py4DSTEM and open them; errors as in `open_peaks`."""
    with open_hdf5(path) as file:
        group = _find_peaks(file, options.name)
        if _python_class(group) == "BraggVectors":
            if options.calibrated:
                raise ValueError(
                    f"{path}: {group.name} holds BraggVectors, which are raw detector pixels: "
                    "calibrated=True does not fit them"
                )
            return BraggVectorsReader(file, group, options)
        if not options.calibrated:
            raise ValueError(
                f"{path}: {group.name} is a PointListArray (py4DSTEM 0.13), which says nothing of its "
                "calibration. If its peaks are in 1/Angstrom, measured from the direct beam, say so with "
                "calibrated=True (--calibrated)"
            )
        return PointListReader(file, group, options.voltage)


def peaks_in_memory(
    vectors: "BraggVectors", pixel_size: float | None, voltage: float | str | None
) -> BraggPeaks:
    """Calibrate BraggVectors that py4DSTEM holds in memory; errors as in `BraggPeaks.from_py4dstem`."""
    if not (hasattr(vectors, "raw") and hasattr(vectors, "Rshape")):
        kind = f"{type(vectors).__module__}.{type(vectors).__qualname__}"
        raise TypeError(f"vectors must be BraggVectors of py4DSTEM 0.14, got {kind}")
    rows, columns = (int(n) for n in vectors.Rshape)
    # what is saved: of files of 0.13 that 0.14 opened, vectors.raw shows nothing
    lists = [vectors._v_uncal[rx, ry].data for rx in range(rows) for ry in range(columns)]
    offsets, (qx, qy, intensity) = join_lists(lists)
    try:
        if vectors.calibration is None:
            raise ValueError("there is no calibration: calibrate in py4DSTEM")
        items = calibration_items({key: vectors.calibration[key] for key in vectors.calibration.keys})
        bundles = [*vectors.metadata.values(), *(vectors.root.metadata.values() if vectors.root else ())]
        known = settled_voltage(
            find_voltage(entries_of({key: bundle[key] for key in bundle.keys} for bundle in bundles)), voltage
        )
        calibration = read_calibration(items, (rows, columns), pixel_size, known)
        qx, qy = calibration.apply(qx, qy, np.diff(offsets), 0, rows)
        scan = read_scan(items, (rows, columns), calibration.rotation is not None, known)
        return BraggPeaks(offsets, qx, qy, intensity, scan)
    except ValueError as error:
        raise ValueError(f"BraggVectors {vectors.name!r}: {error}") from error


class BraggVectorsReader(Hdf5Reader):
    """Reader of py4DSTEM's BraggVectors, calibrated as 0.14's ``bv.cal`` with all that the file has.

    Parameters
    ----------
    file : InputFile
        Closed with the reader.
    group : h5py.Group
        The BraggVectors.
    options : OpenOptions
        What the user says of it.

    Raises
    ------
    ValueError
        Where peaks or calibration are missing or malformed.
    """

    def __init__(self, file: InputFile, group: h5py.Group, options: OpenOptions) -> None:
        super().__init__(file)
        self._calibration: Calibration | None = None
        self.source = f"{group.name}/_v_uncal/data"
        self._dataset = _peak_dataset(file, self.source)
        stored = find_calibration(group)
        if stored is None:
            raise ValueError(
                f"{self.path}: there is no calibration of {group.name}, neither at "
                f"{_root(group)}/metadatabundle/calibration (py4DSTEM 0.14) nor beside or above the peaks (0.13): "
                "calibrate them in py4DSTEM and save again"
            )
        items, entries = read_items(stored), all_entries(group)
        self.phases = find_phases(entries)
        try:
            voltage = settled_voltage(find_voltage(entries), options.voltage)
            self.known = stated_by(items, self._dataset.shape, options.pixel_size, voltage)
            if options.in_pixels:
                self.scan = read_scan(items, self._dataset.shape, False, voltage)
                self.description = {
                    "format": "py4DSTEM BraggVectors",
                    "found": describe_items(items),
                    "applied": [],
                }
                return
            calibration = read_calibration(items, self._dataset.shape, options.pixel_size, voltage)
            self.scan = read_scan(items, self._dataset.shape, calibration.rotation is not None, voltage)
        except ValueError as error:
            raise ValueError(f"{self.path}: {stored.name}: {error}") from error
        self._calibration = calibration.left_in(stored)
        self.pixel_size = calibration.pixel_size
        frame = group.get("metadatabundle/_braggvectors_shape/Qshape")
        if isinstance(frame, h5py.Dataset):  # the mean distance to opposite edges is half the width
            self.camera = calibration.pixel_size * float(np.mean(frame[()])) / 2
        self.description = {
            "format": f"py4DSTEM BraggVectors ({'EMD 1.0' if 'python_class' in group.attrs else 'version 0.13'})",
            "found": describe_items(items),
            "applied": self._calibration.steps(),
        }

    def _read_block(self, start: int, stop: int) -> Block:
        offsets, (qx, qy, intensity) = read_columns(self._file, self._dataset, start, stop)
        if self._calibration is not None:
            qx, qy = self._calibration.apply(qx, qy, offsets[1:] - offsets[:-1], start, stop)
        return offsets, qx, qy, intensity


class PointListReader(Hdf5Reader):
    """Reader of a PointListArray whose peaks are calibrated already, as py4DSTEM 0.13 wrote them.

    Parameters
    ----------
    file : InputFile
        Closed with the reader.
    group : h5py.Group
        The PointListArray.
    voltage : float or str, optional
        Accelerating voltage, in place of the file's.

    Raises
    ------
    ValueError
        Where the peaks are malformed.
    """

    def __init__(self, file: InputFile, group: h5py.Group, voltage: float | str | None = None) -> None:
        super().__init__(file)
        self.source = f"{group.name}/data"
        self._dataset = _peak_dataset(file, self.source)
        entries = all_entries(group)
        self.phases = find_phases(entries)
        self.known = IN_ANGSTROM
        self.scan = Scan(self._dataset.shape, voltage=settled_voltage(find_voltage(entries), voltage))
        self.description = {
            "format": "py4DSTEM PointListArray",
            "found": {},
            "applied": ["none: calibrated=True was given"],
        }

    def _read_block(self, start: int, stop: int) -> Block:
        offsets, (qx, qy, intensity) = read_columns(self._file, self._dataset, start, stop)
        return offsets, qx, qy, intensity


def _python_class(item: h5py.Group | h5py.Dataset) -> str | None:
    for attribute in _CLASS_ATTRIBUTES:
        value = item.attrs.get(attribute)
        if value is not None:
            return (
                utf8(value, f"{attribute} of {item.name}") if isinstance(value, bytes | str) else str(value)
            )
    return None


def _find_peaks(file: InputFile, name: str | None) -> h5py.Group:
    vectors: list[h5py.Group] = []
    lists: list[h5py.Group] = []
    frames: list[h5py.Group] = []

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group):
            if _python_class(item) == "BraggVectors":
                vectors.append(item)
            elif _python_class(item) == "PointListArray" and _python_class(item.parent) != "BraggVectors":
                lists.append(item)
            elif _python_class(item) == "DataCube":
                frames.append(item)

    file.visititems(visit)
    candidates = [*vectors, *lists]
    if not candidates:
        raise ValueError(
            f"{file.path} has no Bragg peaks: no group in it is a BraggVectors or a PointListArray of "
            f"py4DSTEM, and microinfer did not write it. It holds: {', '.join(file) or 'nothing'}"
            + ("; its frames must be searched for Bragg disks first: microinfer peaks" if frames else "")
        )
    paths = ", ".join(group.name for group in candidates)
    if name is not None:
        candidates = [group for group in candidates if name in (group.name.rsplit("/", 1)[1], group.name)]
        if not candidates:
            raise ValueError(f"{file.path} has no Bragg peaks named {name!r}; name must be one of: {paths}")
    elif vectors:
        candidates = vectors
    if len(candidates) > 1:
        raise ValueError(
            f"{file.path} has several sets of Bragg peaks; give name=... (--name), one of: {paths}"
        )
    return candidates[0]


def find_calibration(group: h5py.Group) -> h5py.Group | None:
    """The calibration of BraggVectors: in py4DSTEM 0.14 that of the root, in 0.13 the nearest beside or above."""
    item = find(group, f"{_root(group)}/metadatabundle/calibration")
    if isinstance(item, h5py.Group):
        return item
    while group.name != "/":
        for name in group:
            item = group.get(name)
            if isinstance(item, h5py.Group) and _python_class(item) == "Calibration":
                return find(group, name)
        group = group.parent
    return None


def all_entries(group: h5py.Group) -> Entries:
    """Metadata of the peaks and of their root."""
    return [*read_entries(group), *read_entries(group.file[_root(group)])]


def _root(group: h5py.Group) -> str:
    return f"/{group.name.split('/')[1]}"


def _peak_dataset(file: InputFile, source: str) -> h5py.Dataset:
    try:
        peaks = dataset(file, source)
        require_peaks(peaks)
    except ValueError as error:
        raise ValueError(f"{file.path}: {source}: {error}") from error
    return peaks
