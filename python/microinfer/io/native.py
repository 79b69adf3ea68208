"""Bragg peaks in microinfer's own HDF5 form: calibrated, flat, chunked, with checksums."""

from os import PathLike

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.io.atomic import atomic_hdf5
from microinfer.io.reader import Block, PeakReader
from microinfer.peaks import BraggPeaks

FORMAT = "microinfer-peaks"
FORMAT_VERSION = 1
CHUNK = 65536  # peaks: 256 KiB of float32

_VALUES = ("qx", "qy", "intensity")


def write_peaks(path: str | PathLike[str], peaks: BraggPeaks) -> None:
    """Write Bragg peaks to a native HDF5 file.

    The root carries the attributes ``format``, ``format_version``, ``scan_shape``, ``scan_step``,
    ``scan_units`` and ``qr_calibrated``; the datasets are `BraggPeaks`'s arrays by name, in 1/Angstrom.

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
    with atomic_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["scan_shape"] = peaks.scan_shape
        file.attrs["scan_step"] = peaks.scan_step
        file.attrs["scan_units"] = peaks.scan_units
        file.attrs["qr_calibrated"] = peaks.qr_calibrated
        for name in ("offsets", *_VALUES):
            values = getattr(peaks, name)
            chunk = max(1, min(CHUNK, len(values)))
            file.create_dataset(name, data=values, chunks=(chunk,), maxshape=(None,), fletcher32=True)
        file["qx"].attrs["units"] = file["qy"].attrs["units"] = "1/Angstrom"


def is_native(file: h5py.File) -> bool:
    """Whether the file says that it is in the native form."""
    return bool(file.attrs.get("format") == FORMAT)


class NativeReader(PeakReader):
    """Reader of the native form.

    Parameters
    ----------
    file : h5py.File
        Open for reading; closed with the reader.

    Raises
    ------
    ValueError
        Where the file is of a newer version, or its arrays and attributes contradict each other.
    """

    def __init__(self, file: h5py.File) -> None:
        super().__init__(file)
        self.source = "/"
        version = file.attrs.get("format_version")
        if not isinstance(version, int | np.integer) or version < 1:
            raise ValueError(f"{self.path}: format_version must be a whole number from 1 on, got {version}")
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{self.path} is of version {version} of the format {FORMAT}; this microinfer reads up to "
                f"version {FORMAT_VERSION}: install a newer one"
            )
        try:
            shape = tuple(int(n) for n in file.attrs["scan_shape"])
            self.scan_step = float(file.attrs["scan_step"])
            self.scan_units = str(file.attrs["scan_units"])
            self.qr_calibrated = bool(file.attrs["qr_calibrated"])
            self._offsets = file["offsets"]
            self._values = [file[name] for name in _VALUES]
        except KeyError as error:
            raise ValueError(f"{self.path}: incomplete {FORMAT} file: {error.args[0]}") from error
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"{self.path}: scan_shape must be two numbers of at least 1, got {shape}")
        if not (np.isfinite(self.scan_step) and self.scan_step > 0):
            raise ValueError(f"{self.path}: scan_step must be a positive number, got {self.scan_step}")
        self.scan_shape = (shape[0], shape[1])
        self._require_shapes()
        self.description = {
            "format": f"{FORMAT} {version}",
            "found": {"units": "1/Angstrom", "qr_calibrated": str(self.qr_calibrated)},
            "applied": [],
        }

    def _require_shapes(self) -> None:
        positions = self.scan_shape[0] * self.scan_shape[1]
        if self._offsets.shape != (positions + 1,) or self._offsets.dtype.kind not in "iu":
            raise ValueError(
                f"{self.path}: /offsets must be integers of the shape ({positions + 1},) for a scan of shape "
                f"{self.scan_shape}, got {self._offsets.dtype} of {self._offsets.shape}"
            )
        first, last = int(self._offsets[0]), int(self._offsets[-1])
        if first != 0:
            raise ValueError(f"{self.path}: /offsets must begin with 0, got {first}")
        for name, values in zip(_VALUES, self._values, strict=True):
            if values.shape != (last,) or values.dtype.kind not in "fiu":
                raise ValueError(
                    f"{self.path}: /{name} must be real numbers of the shape ({last},), where /offsets ends, "
                    f"got {values.dtype} of {values.shape}"
                )

    def _read_block(self, start: int, stop: int) -> Block:
        columns = self.scan_shape[1]
        offsets: NDArray[np.int64] = self._offsets[start * columns : stop * columns + 1].astype(np.int64)
        falls = np.flatnonzero(np.diff(offsets) < 0)
        if len(falls) or offsets[0] < 0 or offsets[-1] > self._values[0].shape[0]:
            n = int(falls[0]) if len(falls) else 0
            rx, ry = divmod(n, columns)
            raise ValueError(
                f"/offsets must not decrease nor leave 0 to {self._values[0].shape[0]}, got {offsets[n]} "
                f"before {offsets[n + 1]} at scan position ({start + rx}, {ry})"
            )
        qx, qy, intensity = (values[offsets[0] : offsets[-1]] for values in self._values)
        return offsets - offsets[0], qx, qy, intensity
