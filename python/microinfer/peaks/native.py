"""Bragg peaks in microinfer's own HDF5 form: flat, chunked, with checksums; calibrated, or with their calibration."""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.files import atomic_hdf5
from microinfer.hdf5 import (
    InputFile,
    attribute,
    dataset,
    find,
    is_hdf5,
    named,
    open_hdf5,
    require_stored,
    stated_format,
    text,
    utf8,
)
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.calibration import Calibration
from microinfer.peaks.hdf5 import Hdf5Reader
from microinfer.peaks.metadata import settled_voltage, stated_step
from microinfer.peaks.pixels import IN_ANGSTROM, PixelCalibration
from microinfer.peaks.reader import Block, OpenOptions
from microinfer.peaks.scan import OfScan, Scan

FORMAT = "microinfer-peaks"
FORMAT_VERSION = (
    3  # 1 had texts of variable length, and zeros for what is lost; 2 had peaks in 1/Angstrom alone
)
CHUNK = 65536  # peaks: 256 KiB of float32

_VALUES = ("qx", "qy", "intensity")
_CALIBRATION = "calibration"
_SCAN = ("scan_shape", "scan_step", "scan_units", "qr_calibrated")


class PeakWriter(OfScan):
    """Write Bragg peaks block by block to a native HDF5 file, in constant memory; a context manager.

    The file appears under its name when the context ends well. The root carries the attributes ``format``,
    ``format_version``, ``scan_shape``, ``scan_step``, ``scan_units`` and ``qr_calibrated``, and ``voltage`` where it is
    known; the datasets are `BraggPeaks`'s arrays by name, in 1/Angstrom, or in pixels beside a group ``calibration``.

    Parameters
    ----------
    path : path-like
        File to write; an existing one is replaced once the new one is complete.
    scan : Scan or tuple of int
        As in `BraggPeaks`.
    calibration : PixelCalibration, optional
        For peaks in detector pixels: what is known of their calibration, which is applied where they are read.

    Raises
    ------
    OSError
        Where the file cannot be written; nothing half-written stays.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        scan: Scan | tuple[int, int],
        *,
        calibration: PixelCalibration | None = None,
    ) -> None:
        self.scan = Scan.of(scan)
        self._calibration = calibration
        if calibration is not None:
            turned = calibration.rotation is not None or (
                calibration == IN_ANGSTROM and self.scan.qr_calibrated  # turned already
            )
            self.scan = replace(self.scan, qr_calibrated=turned)
        self._attributes = {"format": text(FORMAT), "format_version": FORMAT_VERSION} | {
            name: getattr(self, name) for name in _SCAN
        }
        self._attributes["scan_units"] = text(self.scan_units)
        if self.voltage is not None:
            self._attributes["voltage"] = self.voltage
        self._output = atomic_hdf5(path)
        self._rows = 0

    def __enter__(self) -> Self:
        self._file = self._output.__enter__()
        self._file.attrs.update(self._attributes)
        for name in _VALUES:
            # Positions and intensities hold noise: compression saves little and reading would wait for it.
            self._create(name, np.float32, np.nan)
        units = text("1/Angstrom" if self._calibration is None else "pixels")
        self._file["qx"].attrs["units"] = self._file["qy"].attrs["units"] = units
        if self._calibration is not None:
            self._calibration.write(self._file.create_group(_CALIBRATION))
        self._create("offsets", np.int64, -1, shuffle=True, compression="gzip", compression_opts=1)
        self._append("offsets", np.zeros(1, np.int64))
        return self

    def _create(self, name: str, dtype: type, lost: float, **filters: Any) -> None:
        self._file.create_dataset(
            name,
            (0,),
            dtype,
            maxshape=(None,),
            chunks=(CHUNK,),
            fillvalue=lost,
            fletcher32=True,
            **filters,
        )

    def _append(self, name: str, values: NDArray[Any]) -> None:
        dataset = self._file[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values) :] = values

    def write_rows(self, peaks: BraggPeaks) -> None:
        """Append the next scan rows, in 1/Angstrom, or in pixels where the writer was given their calibration.

        Raises
        ------
        ValueError
            Where the rows do not fit the scan.
        """
        rows, columns = peaks.scan_shape
        if columns != self.scan_shape[1] or self._rows + rows > self.scan_shape[0]:
            raise ValueError(
                f"{rows} x {columns} positions after {self._rows} rows do not fit a scan of shape {self.scan_shape}"
            )
        self._append("offsets", peaks.offsets[1:] + len(self._file["qx"]))
        for name in _VALUES:
            self._append(name, getattr(peaks, name))
        self._rows += rows
        self._file.require_written()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._rows < self.scan_shape[0]:
            missing = ValueError(f"only {self._rows} of {self.scan_shape[0]} scan rows were written")
            self._output.__exit__(ValueError, missing, None)
            raise missing
        self._output.__exit__(kind, error, trace)


def write_peaks(path: str | PathLike[str], peaks: BraggPeaks) -> None:
    """Write Bragg peaks to a native HDF5 file, which `microinfer.read_peaks` opens.

    Parameters
    ----------
    path : path-like
        File to write; an existing one is replaced once the new one is complete.
    peaks : BraggPeaks

    Raises
    ------
    OSError
        Where the file cannot be written; nothing half-written stays.
    """
    with PeakWriter(path, peaks.scan) as writer:
        writer.write_rows(peaks)


def is_native(path: Path) -> bool:
    """Whether the file says that it is in the native form."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file, file:
        return stated_format(file) == FORMAT


def open_native(path: Path, options: OpenOptions) -> "NativeReader":
    """Open a native file; errors as in `open_peaks`."""
    if options.name is not None:
        raise ValueError(f"{path}: name must not be given for peaks that microinfer wrote")
    with open_hdf5(path) as file:
        return NativeReader(file, options)


class NativeReader(Hdf5Reader):
    """Reader of the native form.

    Parameters
    ----------
    file : InputFile
        Closed with the reader.
    options : OpenOptions
        What the user says of it.

    Raises
    ------
    ValueError
        Where the file is of a newer version, or its arrays and attributes contradict each other.
    """

    def __init__(self, file: InputFile, options: OpenOptions) -> None:
        super().__init__(file)
        self.source = "/"
        version = attribute(file, "format_version", "a whole number")
        if version < 1:
            raise ValueError(f"{self.path}: format_version must be a whole number from 1 on, got {version}")
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{self.path} is of version {version} of the format {FORMAT}; this microinfer reads up to "
                f"version {FORMAT_VERSION}: install a newer one"
            )
        found = attribute(file, "voltage", "a number") if "voltage" in file.attrs else None
        self.scan = Scan(
            attribute(file, "scan_shape", "a whole number", (2,)),
            *stated_step(
                attribute(file, "scan_step", "a number"),
                attribute(file, "scan_units", "a text"),
                f"{self.path}, scan_units",
            ),
            attribute(file, "qr_calibrated", "true or false"),
            settled_voltage(found, options.voltage),
        )
        self._offsets = dataset(file, "offsets")
        self._values = [dataset(file, name) for name in _VALUES]
        self._require_shapes()
        self.description = {
            "format": f"{FORMAT} {version}",
            "found": {"units": "1/Angstrom", "qr_calibrated": str(self.qr_calibrated)},
            "applied": [],
        }
        self.known = IN_ANGSTROM
        self._calibration: Calibration | None = None
        group = find(file, _CALIBRATION)
        if isinstance(group, h5py.Group):
            self._use(group, options)
        elif utf8(self._values[0].attrs.get("units", "1/Angstrom"), "the unit of /qx") != "1/Angstrom":
            raise ValueError(
                f"{self.path}: its peaks are in pixels, and the group {_CALIBRATION}, which says what a pixel is, is "
                "not there: the file is damaged"
            )
        elif options.pixel_size is not None:
            raise ValueError(
                f"{self.path}: pixel_size must not be given for peaks that are in 1/Angstrom already"
            )

    def _use(self, group: h5py.Group, options: OpenOptions) -> None:
        """Calibrate the peaks, which are in pixels, by what a group says."""
        if options.calibrated:
            raise ValueError(
                f"{self.path}: its peaks are in detector pixels: calibrated=True does not fit them"
            )
        self.known = PixelCalibration.read(group).given(options.pixel_size)
        self.description["found"] = self.known.describe()
        if options.in_pixels:
            return
        calibration = self.known.applied(self.scan_shape)
        self._calibration = calibration.left_in(group)
        self.pixel_size = calibration.pixel_size
        self.description["applied"] = calibration.steps()

    def _require_shapes(self) -> None:
        positions = self.scan_shape[0] * self.scan_shape[1]
        if self._offsets.shape != (positions + 1,) or self._offsets.dtype.kind not in "iu":
            raise ValueError(
                f"{self.path}: /offsets must be integers of the shape ({positions + 1},) for a scan of shape "
                f"{self.scan_shape}, got {self._offsets.dtype} of {self._offsets.shape}"
            )
        require_stored(self._offsets)
        first, last = int(self._offsets[0]), int(self._offsets[-1])
        if first != 0:
            raise ValueError(f"{self.path}: /offsets must begin with 0, got {first}")
        for name, values in zip(_VALUES, self._values, strict=True):
            if values.shape != (last,) or values.dtype.kind not in "fiu":
                raise ValueError(
                    f"{self.path}: /{name} must be real numbers of the shape ({last},), where /offsets ends, "
                    f"got {values.dtype} of {values.shape}"
                )
            require_stored(values)

    def _read_block(self, start: int, stop: int) -> Block:
        columns = self.scan_shape[1]
        offsets: NDArray[np.int64] = self._read(self._offsets, start * columns, stop * columns + 1).astype(
            np.int64
        )
        falls = np.flatnonzero(np.diff(offsets) < 0)
        if len(falls) or offsets[0] < 0 or offsets[-1] > self._values[0].shape[0]:
            n = int(falls[0]) if len(falls) else 0
            rx, ry = divmod(n, columns)
            raise ValueError(
                f"/offsets must not decrease nor leave 0 to {self._values[0].shape[0]}, got {offsets[n]} "
                f"before {offsets[n + 1]} at scan position ({start + rx}, {ry})"
            )
        qx, qy, intensity = (self._read(values, offsets[0], offsets[-1]) for values in self._values)
        offsets -= offsets[0]
        if self._calibration is not None:
            qx, qy = self._calibration.apply(
                qx.astype(np.float64), qy.astype(np.float64), np.diff(offsets), start, stop
            )
        return offsets, qx, qy, intensity

    def _read(self, values: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
        with named(self.path, values.name):
            read: NDArray[Any] = values[start:stop]
            return read
