"""The truth of a synthetic scan, and its file."""

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.files import atomic_hdf5
from microinfer.hdf5 import attribute, dataset, open_hdf5, require_stored, stated_format, text
from microinfer.simulation.scan.settings import ScanSettings

FORMAT = "microinfer synthetic scan"
VERSION = 1
ARRAYS: dict[str, tuple[tuple[int, ...], type, str]] = {
    "grain": ((2,), np.int32, ""),
    "phase": ((2,), np.int16, ""),
    "orientation": ((2, 3, 3), np.float32, ""),
    "thickness": ((2,), np.float32, "Angstrom"),
    "bend": ((2,), np.float32, "degrees"),
    "origin": ((2,), np.float64, "pixels"),
}
"""Shape at a scan position, type and unit of the arrays."""


@dataclass(frozen=True, eq=False)
class ScanTruth:
    """What a synthetic scan holds, up to two crystals a position: the first is that whose grain it is.

    Attributes
    ----------
    grain : ndarray of int32, shape (Rx, Ry, 2)
        Index of the grain; -1 where there is no crystal.
    phase : ndarray of int16, shape (Rx, Ry, 2)
        Index into `phases`; -1 where there is no crystal.
    orientation : ndarray of float32, shape (Rx, Ry, 2, 3, 3)
        Orientation matrices in py4DSTEM's convention; NaN where there is no crystal.
    thickness : ndarray of float32, shape (Rx, Ry, 2)
        In Angstrom; 0 where there is no crystal.
    bend : ndarray of float32, shape (Rx, Ry, 2)
        Degrees by which the crystal is turned against its grain's mean orientation.
    origin : ndarray of float64, shape (Rx, Ry, 2)
        The direct beam, (qx0, qy0) in detector pixels.
    phases : tuple of CrystalPhase
        The phases.
    settings : ScanSettings
        What the scan was made by.
    """

    grain: NDArray[np.int32]
    phase: NDArray[np.int16]
    orientation: NDArray[np.float32]
    thickness: NDArray[np.float32]
    bend: NDArray[np.float32]
    origin: NDArray[np.float64]
    phases: tuple[CrystalPhase, ...]
    settings: ScanSettings

    @property
    def vacuum(self) -> NDArray[np.bool_]:
        """Positions without a crystal, shape (Rx, Ry)."""
        return np.asarray(self.phase[..., 0] < 0)

    @property
    def overlap(self) -> NDArray[np.bool_]:
        """Positions with two crystals above each other, shape (Rx, Ry)."""
        return np.asarray(self.phase[..., 1] >= 0)


class TruthWriter:
    """Write the truth of a scan, block by block, to an HDF5 file; a context manager.

    The file appears under its name when the context ends well. The root has the attributes ``format`` and
    ``format_version``; the datasets are `ScanTruth`'s arrays by name; ``phases`` and ``settings`` are texts of JSON.

    Parameters
    ----------
    path : path-like
        File to write.
    settings : ScanSettings
        What the scan is made by.
    phases : tuple of CrystalPhase
        Its phases.
    """

    def __init__(
        self, path: str | PathLike[str], settings: ScanSettings, phases: tuple[CrystalPhase, ...]
    ) -> None:
        self._output, self._settings, self._phases = atomic_hdf5(path), settings, phases

    def __enter__(self) -> Self:
        self._file = self._output.__enter__()
        self._file.attrs.update({"format": text(FORMAT), "format_version": VERSION})
        described = {
            "phases": json.dumps([phase.to_dict() for phase in self._phases]),
            "settings": json.dumps(self._settings.to_dict()),
        }
        for name, words in described.items():
            self._file.create_dataset(name, data=np.frombuffer(words.encode(), np.uint8))
        shape = self._settings.scan.shape
        for name, (cell, dtype, unit) in ARRAYS.items():
            array = self._file.create_dataset(
                name,
                (*shape, *cell),
                dtype,
                chunks=(1, shape[1], *cell),
                fletcher32=True,
                compression=1,
                shuffle=True,
            )
            if unit:
                array.attrs["units"] = text(unit)
        return self

    def write_rows(self, start: int, truth: ScanTruth) -> None:
        """Write the scan rows from `start` on."""
        for name in ARRAYS:
            values = getattr(truth, name)
            self._file[name][start : start + len(values)] = values
        self._file.require_written()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.__exit__(kind, error, trace)


def load_truth(path: str | PathLike[str]) -> ScanTruth:
    """Read the truth of a synthetic scan.

    Raises
    ------
    ValueError
        If the file is not one of a scan's truth.
    OSError
        If it is missing or damaged.
    """
    with Path(path).open("rb"):
        pass  # Python's own errors for a missing file, a folder and a lacking permission are the clearest
    with open_hdf5(path) as file, file:
        if stated_format(file) != FORMAT or attribute(file, "format_version", "a whole number") != VERSION:
            raise ValueError("not the truth of a synthetic scan that this version of microinfer reads")
        values: dict[str, Any] = {}
        for name in ("phases", "settings", *ARRAYS):
            item = dataset(file, name)
            require_stored(item)
            values[name] = np.asarray(item[()])
        settings = ScanSettings.from_dict(json.loads(values.pop("settings").tobytes()))
        phases = tuple(CrystalPhase.from_dict(phase) for phase in json.loads(values.pop("phases").tobytes()))
        for name, (cell, dtype, _) in ARRAYS.items():
            shape = (*settings.scan.shape, *cell)
            if values[name].dtype != dtype or values[name].shape != shape:
                raise ValueError(
                    f"{name} must be {np.dtype(dtype)} of {shape}, got {values[name].dtype} of {values[name].shape}"
                )
        return ScanTruth(**values, phases=phases, settings=settings)
