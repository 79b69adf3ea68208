"""The map file: an orientation map in HDF5, written row by row as the mapper goes."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from microinfer import __version__
from microinfer.crystals.phase import CrystalPhase
from microinfer.files import OutputFile, atomic_hdf5
from microinfer.maps.orientation_map import FIELDS, MapBlock, OrientationMap, checked_arrays

FORMAT = "microinfer orientation map"
UNFINISHED_FORMAT = f"unfinished {FORMAT}"
FORMAT_VERSION = 2  # 1 had neither score nor alternatives
VERSION_1_FIELDS = ("matrix", "valid", "phase", "confidence")
CHUNK_POSITIONS = 8192  # scan positions in an HDF5 chunk: about 300 kB of matrices


class MapWriter:
    """Write an orientation map block by block; the file appears under its name when the context ends well.

    Rows that are never written read as invalid.

    Parameters
    ----------
    path : str or Path
        The map file. An older one is replaced when the new one is complete, and kept if anything fails.
    scan_shape : tuple of int
        Scan rows and columns (Rx, Ry).
    phases : sequence of CrystalPhase
        The phases that ``phase`` counts.
    scan_step, scan_units, qr_calibrated, model_card, version, dtype
        As in `OrientationMap`.

    Raises
    ------
    OSError
        Naming the path, if it cannot be written.
    ValueError, TypeError
        For a model card that is not JSON, and for blocks as `checked_arrays` says.
    """

    def __init__(
        self,
        path: str | Path,
        scan_shape: tuple[int, int],
        phases: Sequence[CrystalPhase],
        *,
        scan_step: float = 1.0,
        scan_units: str = "pixels",
        qr_calibrated: bool = False,
        model_card: dict[str, Any] | None = None,
        version: str = __version__,
        dtype: str = "unknown",
    ) -> None:
        rows, columns = scan_shape
        if rows < 1 or columns < 1:
            raise ValueError(f"scan_shape must be two positive numbers, got {scan_shape}")
        self.path = Path(path)
        self.scan_shape = (rows, columns)
        self._n_phases = len(phases)
        self._texts = {
            "phases": json.dumps([phase.to_dict() for phase in phases]),
            "model_card": json.dumps(model_card or {}),
        }
        self._attributes = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "microinfer_version": version,
            "scan_step": float(scan_step),
            "scan_units": scan_units,
            "qr_calibrated": bool(qr_calibrated),
            "dtype": dtype,
        }
        self._stack = ExitStack()
        self._file: OutputFile | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = self._open(stack)
            self._stack = stack.pop_all()
        return self

    def _open(self, stack: ExitStack) -> OutputFile:
        """Open the file in a context that puts it under its name."""
        file = stack.enter_context(atomic_hdf5(self.path))
        self._lay_out(file)
        return file

    def _lay_out(self, file: OutputFile) -> None:
        file.attrs.update(self._attributes)
        for name, text in self._texts.items():
            file.create_dataset(name, data=text, dtype=h5py.string_dtype())
        columns = min(self.scan_shape[1], CHUNK_POSITIONS)
        rows = min(self.scan_shape[0], max(1, CHUNK_POSITIONS // columns))
        for name, (dtype, cell, fill) in FIELDS.items():
            # Rotations and probabilities hold noise: gzip takes 25 times as long as the disk to save 15 %.
            noise = dtype is np.float32
            filters = {} if noise else {"shuffle": True, "compression": "gzip", "compression_opts": 1}
            file.create_dataset(
                name,
                shape=(*self.scan_shape, *cell),
                dtype=dtype,
                chunks=(rows, columns, *cell),
                fillvalue=fill,
                **filters,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file = None
        self._stack.__exit__(kind, error, trace)

    def write_rows(self, start: int, block: MapBlock) -> None:
        """Write the scan rows from ``start`` on.

        Parameters
        ----------
        start : int
            First scan row of the block.
        block : MapBlock
            The answers.

        Raises
        ------
        ValueError, TypeError
            As `checked_arrays` says, and for rows outside the scan.
        RuntimeError
            Outside the writer's context.
        """
        if self._file is None:
            raise RuntimeError("MapWriter is not open: use it in a with statement")
        arrays = checked_arrays(block, self._n_phases, first_row=start)
        rows, columns = arrays["valid"].shape
        if columns != self.scan_shape[1] or start < 0 or start + rows > self.scan_shape[0]:
            raise ValueError(
                f"a block of {rows} x {columns} positions from row {start} on does not fit a scan of "
                f"{self.scan_shape[0]} x {self.scan_shape[1]}"
            )
        for name, values in arrays.items():
            self._file[name][start : start + rows] = values
        self._file.require_written()


def load_map(path: str | Path) -> OrientationMap:
    """Open a map file.

    Parameters
    ----------
    path : str or Path
        A file that `OrientationMap.save` or the mapper wrote.

    Returns
    -------
    OrientationMap

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        Naming the file, if it is not HDF5, not a map, damaged, or written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no orientation map at {path}")
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT:
                if attributes.get("format") == UNFINISHED_FORMAT:
                    raise ValueError("the map is unfinished: go on with microinfer map --resume")
                raise ValueError("it is an HDF5 file, but not one that microinfer's map() or save() wrote")
            version = int(attributes["format_version"])
            if version > FORMAT_VERSION:
                raise ValueError(
                    f"its format version {version} is newer than {FORMAT_VERSION}, the last that microinfer "
                    f"{__version__} reads (it was written by {attributes['microinfer_version']})"
                )
            return OrientationMap(
                **{name: file[name][...] for name in FIELDS if version > 1 or name in VERSION_1_FIELDS},
                phases=tuple(CrystalPhase.from_dict(values) for values in json.loads(file["phases"][()])),
                scan_step=float(attributes["scan_step"]),
                scan_units=str(attributes["scan_units"]),
                qr_calibrated=bool(attributes["qr_calibrated"]),
                model_card=json.loads(file["model_card"][()]),
                version=str(attributes["microinfer_version"]),
                dtype=str(attributes.get("dtype", "unknown")),
            )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be opened as an orientation map: {error}") from error
