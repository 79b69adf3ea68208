"""What a file is, told from its content: for commands that take several kinds, and for errors about a wrong one."""

import re
import shlex
import zipfile
from enum import Enum
from os import PathLike
from pathlib import Path

import h5py

from microinfer.hdf5 import InputFile, stated_format

HEAD = 65_536  # bytes that tell text files apart
UNFINISHED_MAP = (
    b"unfinished microinfer orientation map "  # what an unfinished map begins with; its version follows
)


class FileKind(Enum):
    """A kind of file: what it is called, and what it is good for; ``{path}`` stands for its name."""

    MAP = "an orientation map", "look at it with microinfer info, plot or convert"
    UNFINISHED_MAP = "an unfinished map", "the command that began it goes on with --resume"
    PEAKS = "a scan of Bragg peaks", "map it with microinfer map {path} --model MODEL"
    PY4DSTEM = (
        "a file of py4DSTEM",
        "if it holds Bragg peaks, map them with microinfer map {path} --model MODEL",
    )
    LIBRARY = "a library of simulated patterns", "training and microinfer evaluate --test take it"
    TRUTH = (
        "the truth of a synthetic scan",
        "its scan.h5 and true_peaks.h5 are beside it; load_truth of microinfer.simulation.scan reads it",
    )
    MODEL = "a model", "map a scan with microinfer map SCAN --model {path}"
    TORCH = "a file of torch", "programs with torch take it; mapping takes the .safetensors file of the model"
    CIF = (
        "a CIF file",
        "set a scan beside its rings with microinfer info SCAN --phase {path}, or train a model of the crystal with "
        "microinfer train --cif {path}",
    )
    CONFIGURATION = "a configuration (TOML)", "train a model with microinfer train {path}"
    FRAMES = (
        "a file of camera frames",
        "map it with microinfer map {path} --model MODEL, or find its Bragg peaks with microinfer peaks {path}",
    )
    FOLDER = "a folder", "give a file in it"
    EMPTY = "an empty file", "nothing is in it"
    HDF5 = "an HDF5 file", "microinfer did not write it"
    OTHER = "a file of another kind", "microinfer did not write it"

    def __init__(self, words: str, advice: str) -> None:
        self.words, self.advice = words, advice


_FORMATS = {  # the attribute "format" of microinfer's HDF5 files
    "microinfer orientation map": FileKind.MAP,
    "microinfer-peaks": FileKind.PEAKS,
    "microinfer pattern library": FileKind.LIBRARY,
    "microinfer synthetic scan": FileKind.TRUTH,
}
_EMD = {"emd_group_type", "python_class", "py4dstem_class"}  # attributes of groups that py4DSTEM writes
_CAMERAS = {
    ".blo",
    ".dm3",
    ".dm4",
    ".hspy",
    ".mib",
    ".mrc",
    ".npy",
    ".raw",
    ".ser",
    ".tif",
    ".tiff",
    ".tvips",
    ".zspy",
}
_SAFETENSORS = re.compile(rb".{6}\0\0\{", re.DOTALL)  # the length of the header in eight bytes, and JSON
_CIF = re.compile(rb"^\s*data_\S*\s*$", re.MULTILINE | re.IGNORECASE)


def file_kind(path: str | PathLike[str]) -> FileKind:
    """Tell what a file is.

    Parameters
    ----------
    path : path-like
        A file or folder.

    Raises
    ------
    OSError
        Where there is no such file, or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return FileKind.FOLDER
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return FileKind.EMPTY
    if head.startswith(UNFINISHED_MAP):
        return FileKind.UNFINISHED_MAP
    if h5py.is_hdf5(path):
        return _hdf5_kind(path)
    if _SAFETENSORS.match(head):
        return FileKind.MODEL
    if _is_torch(path):
        return FileKind.TORCH
    suffix = path.suffix.lower()
    if suffix in _CAMERAS:
        return FileKind.FRAMES
    if suffix == ".toml":
        return FileKind.CONFIGURATION
    if suffix == ".cif" or (_CIF.search(head) and b"_cell_length_a" in head):
        return FileKind.CIF
    return FileKind.OTHER


def _is_torch(path: Path) -> bool:
    """Whether torch wrote it: a zip archive with a pickle in its folder."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _hdf5_kind(path: Path) -> FileKind:
    try:
        with InputFile(path) as file:
            format_name = stated_format(file)
            groups = [file, *(item for item in file.values() if isinstance(item, h5py.Group))]
            py4dstem = any(_EMD.intersection(group.attrs) for group in groups)
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
    ):  # h5py raises any of them for a damaged file
        return FileKind.HDF5
    if format_name in _FORMATS:
        return _FORMATS[format_name]
    if path.suffix.lower() in _CAMERAS:
        return FileKind.FRAMES
    return FileKind.PY4DSTEM if py4dstem else FileKind.HDF5


def require_kind(path: str | PathLike[str], wanted: FileKind, *possible: FileKind) -> None:
    """Refuse a file of another kind than what is wanted, before its reader meets it.

    Parameters
    ----------
    path : path-like
        A file or folder.
    wanted : FileKind
        Its name stands in the message.
    *possible : FileKind
        What passes too, as does a file whose kind cannot be told: its reader knows more.

    Raises
    ------
    ValueError
        Saying what the file is, and what it is good for.
    OSError
        As `file_kind`.
    """
    kind = file_kind(path)
    if kind in (wanted, FileKind.OTHER, *possible):
        return
    advice = kind.advice.format(path=shlex.quote(str(path)))
    if kind is FileKind.FOLDER and (models := sorted(Path(path).glob("*.safetensors"))):
        advice = f"the model in it is {models[0]}"
    raise ValueError(f"{path} is {kind.words}, not {wanted.words}: {advice}")
