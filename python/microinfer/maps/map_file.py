"""The map file: an orientation map in HDF5, written row by row as the mapper goes."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import ArrayLike

from microinfer import __version__
from microinfer.crystals.phase import CrystalPhase
from microinfer.files import OutputFile, atomic_hdf5
from microinfer.maps.arrays import FIELDS, NEEDED, Arrays, checked_arrays
from microinfer.maps.orientation_map import MapDescription, OrientationMap
from microinfer.peaks.scan import Scan

FORMAT = "microinfer orientation map"
UNFINISHED_KIND = f"unfinished {FORMAT} 1"  # what an unfinished map begins with
FORMAT_VERSION = 3  # 1 had one candidate and no score, 2 had three in arrays of two kinds: see _arrays
CHUNK_POSITIONS = 2048  # scan positions in an HDF5 chunk: 440 kB of matrices of six candidates


class MapWriter:
    """Write an orientation map block by block; the file appears under its name when the context ends well.

    Rows that are never written read as invalid.

    Parameters
    ----------
    path : str or Path
        The map file. An older one is replaced when the new one is complete, and kept if anything fails.
    description : MapDescription
        What the map says beside its arrays.
    candidates : int
        How many of them there are for each position.

    Raises
    ------
    OSError
        Naming the path, if it cannot be written.
    ValueError, TypeError
        For a model card that is not JSON, and for blocks as `checked_arrays` says.
    """

    def __init__(self, path: str | Path, description: MapDescription, candidates: int) -> None:
        self.path = Path(path)
        self.scan_shape = description.scan_shape
        self._candidates = candidates
        self._description = description
        self._model_card = json.dumps(description.model_card)  # before any file is there
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
        described = self._description
        file.attrs.update(format=FORMAT, format_version=FORMAT_VERSION, microinfer_version=described.version)
        for name in ("scan_step", "scan_units", "qr_calibrated", "dtype"):
            file.attrs[name] = getattr(described, name)
        phases = json.dumps([phase.to_dict() for phase in described.phases])
        for name, text in (("phases", phases), ("model_card", self._model_card)):
            file.create_dataset(name, data=text, dtype=h5py.string_dtype())
        columns = min(self.scan_shape[1], CHUNK_POSITIONS)
        rows = min(self.scan_shape[0], max(1, CHUNK_POSITIONS // columns))
        for name, field in FIELDS.items():
            # Rotations and probabilities hold noise: gzip takes 25 times as long as the disk to save 15 %.
            noise, cell = field.dtype is np.float32, field.cell(self._candidates)
            filters = {} if noise else {"shuffle": True, "compression": "gzip", "compression_opts": 1}
            file.create_dataset(
                name,
                shape=(*self.scan_shape, *cell),
                dtype=field.dtype,
                chunks=(rows, columns, *cell),
                fillvalue=field.blank,
                **filters,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file = None
        self._stack.__exit__(kind, error, trace)

    def write_rows(self, start: int, arrays: Mapping[str, ArrayLike]) -> None:
        """Write the scan rows from ``start`` on.

        Parameters
        ----------
        start : int
            First scan row of the block.
        arrays : mapping of str to array_like
            The answers, as `checked_arrays` takes them.

        Raises
        ------
        ValueError, TypeError
            As `checked_arrays` says, and for rows outside the scan.
        RuntimeError
            Outside the writer's context.
        """
        if self._file is None:
            raise RuntimeError("MapWriter is not open: use it in a with statement")
        checked = checked_arrays(arrays, len(self._description.phases), first_row=start)
        rows, columns, candidates = checked["phase"].shape
        expected = (self.scan_shape[1], self._candidates)
        if (columns, candidates) != expected or start < 0 or start + rows > self.scan_shape[0]:
            raise ValueError(
                f"a block of {rows} x {columns} positions with {candidates} candidates from row {start} on does not "
                f"fit a scan of {self.scan_shape[0]} x {self.scan_shape[1]} with {self._candidates}"
            )
        for name, values in checked.items():
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
        with path.open("rb") as start:
            if start.read(len(UNFINISHED_KIND)) == UNFINISHED_KIND.encode():
                raise ValueError("the map is unfinished: go on with microinfer map --resume")
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT:
                raise ValueError("it is an HDF5 file, but not one that microinfer's map() or save() wrote")
            version = int(attributes["format_version"])
            if version > FORMAT_VERSION:
                raise ValueError(
                    f"its format version {version} is newer than {FORMAT_VERSION}, the last that microinfer "
                    f"{__version__} reads (it was written by {attributes['microinfer_version']})"
                )
            arrays = _arrays(file, version)
            scan = Scan(
                file["valid"].shape,
                float(attributes["scan_step"]),
                str(attributes["scan_units"]),
                bool(attributes["qr_calibrated"]),
            )
            description = MapDescription(
                tuple(CrystalPhase.from_dict(values) for values in json.loads(file["phases"][()])),
                scan,
                json.loads(file["model_card"][()]),
                str(attributes["microinfer_version"]),
                str(attributes.get("dtype", "unknown")),
            )
            return OrientationMap.from_arrays(arrays, description)
    except (
        Exception
    ) as error:  # of a damaged file HDF5, h5py and whoever reads its values raise what they meet
        raise ValueError(f"{path} cannot be opened as an orientation map: {error}") from error


def _arrays(file: h5py.File, version: int) -> Arrays:
    """The arrays of a file; a field that it does not have is left out."""
    if version > 2:
        return {name: file[name][...] for name in FIELDS if name in file or name in NEEDED}
    arrays = {name: file[name][...] for name in ("valid", "matrix", "phase")}
    arrays["probability"] = file["confidence"][...]
    if version == 1:
        return arrays
    for name in ("matrix", "phase", "probability"):
        others = file[f"alternative_{name}"][...]
        arrays[name] = np.concatenate([arrays[name][:, :, None], others], axis=2)
    arrays["score"] = np.full(arrays["phase"].shape, np.nan, np.float32)
    arrays["score"][..., 0] = file["score"][...]
    return arrays
