"""The map file: an orientation map in HDF5, written row by row as the mapper goes."""

import json
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike

from microinfer import __version__
from microinfer.crystals.phase import CrystalPhase
from microinfer.file_kinds import UNFINISHED_MAP, FileKind, require_kind
from microinfer.files import OutputFile, atomic_hdf5
from microinfer.hdf5 import InputFile, dataset
from microinfer.maps.arrays import FIELDS, NEEDED, Arrays, checked_arrays
from microinfer.maps.orientation_map import MapDescription, OrientationMap
from microinfer.peaks.metadata import stated_step
from microinfer.peaks.scan import Scan

FORMAT = "microinfer orientation map"
UNFINISHED_KIND = f"{UNFINISHED_MAP.decode()}1"  # and the version of its format
FORMAT_VERSION = (
    5  # 1 had one candidate and no score, 2 three in arrays of two kinds, 3 no checksums, 4 no warnings
)
ATTRIBUTES = ("microinfer_version", "scan_step", "scan_units", "qr_calibrated", "voltage", "dtype")
TEXTS = ("phases", "model_card", "warnings")  # datasets, as JSON
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
        self._about = _about(description)  # before any file is there
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
        file.attrs.update(
            format=np.bytes_(FORMAT), format_version=FORMAT_VERSION, checksum=_checksum(self._about)
        )
        for name, value in self._about.items():
            (file if name in TEXTS else file.attrs)[name] = value
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
                fletcher32=True,
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
    if not path.exists():
        raise FileNotFoundError(f"no orientation map at {path}")
    require_kind(path, FileKind.MAP, FileKind.HDF5)
    try:
        with InputFile(path) as file:
            if _text(file.attrs.get("format")) != FORMAT:
                raise ValueError("it is an HDF5 file, but not one that microinfer's map() or save() wrote")
            version = int(file.attrs["format_version"])
            if version > FORMAT_VERSION:
                raise ValueError(
                    f"its format version {version} is newer than {FORMAT_VERSION}, the last that microinfer "
                    f"{__version__} reads"
                )
            description = _description(_read_about(file, version), dataset(file, "valid").shape)
            return OrientationMap.from_arrays(_arrays(file, version), description)
    except Exception as error:  # of a damaged file h5py and whoever reads its values raise what they meet
        raise ValueError(f"{path} cannot be opened as an orientation map: {error}") from error


def _about(description: MapDescription) -> dict[str, Any]:
    """What a map says beside its arrays, as it stands in the file.

    Text is of fixed length: HDF5 keeps what is of variable length in a heap, whose damage it does not survive.
    """
    about = {
        "microinfer_version": description.version,
        "scan_units": description.scan_units,
        "dtype": description.dtype,
        "phases": json.dumps([phase.to_dict() for phase in description.phases]),
        "model_card": json.dumps(description.model_card),
        "warnings": json.dumps(description.warnings),
    }
    numbers = {"scan_step": float(description.scan_step), "qr_calibrated": bool(description.qr_calibrated)}
    if description.voltage is not None:
        numbers["voltage"] = float(description.voltage)
    return {name: np.bytes_(text.encode()) for name, text in about.items()} | numbers


def _checksum(about: dict[str, Any]) -> int:
    """CRC-32 of what a map says."""
    return zlib.crc32(json.dumps({name: str(about[name]) for name in sorted(about)}).encode())


def _read_about(file: h5py.File, version: int) -> dict[str, Any]:
    texts = {name: dataset(file, name)[()] for name in TEXTS if version > 4 or name != "warnings"}
    if version < 4:
        return dict(file.attrs) | texts
    about = {name: file.attrs[name] for name in ATTRIBUTES if name in file.attrs} | texts
    if _checksum(about) != file.attrs["checksum"]:
        raise ValueError("its checksum says that what it says of itself is damaged")
    return about


def _description(about: dict[str, Any], scan_shape: tuple[int, int]) -> MapDescription:
    return MapDescription(
        tuple(CrystalPhase.from_dict(values) for values in json.loads(about["phases"])),
        Scan(
            scan_shape,
            *stated_step(float(about["scan_step"]), _text(about["scan_units"]), "scan_units"),
            bool(about["qr_calibrated"]),
            about.get("voltage"),
        ),
        json.loads(about["model_card"]),
        _text(about["microinfer_version"]),
        _text(about.get("dtype", "unknown")),
        tuple(json.loads(about.get("warnings", "[]"))),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _arrays(file: h5py.File, version: int) -> Arrays:
    """The arrays of a file; a field that it does not have is left out."""
    if version > 2:
        return {name: dataset(file, name)[...] for name in FIELDS if name in file or name in NEEDED}
    arrays = {name: dataset(file, name)[...] for name in ("valid", "matrix", "phase")}
    arrays["probability"] = dataset(file, "confidence")[...]
    if version == 1:
        return arrays
    for name in ("matrix", "phase", "probability"):
        others = dataset(file, f"alternative_{name}")[...]
        arrays[name] = np.concatenate([arrays[name][:, :, None], others], axis=2)
    arrays["score"] = np.full(arrays["phase"].shape, np.nan, np.float32)
    arrays["score"][..., 0] = dataset(file, "score")[...]
    return arrays
