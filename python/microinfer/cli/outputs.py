"""What the commands write: refused before any work where the name is wrong or a file would be lost."""

import errno
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from microinfer.files import require_distinct, require_writable

HDF5 = (".h5", ".hdf5")
PICTURES = (".png", ".svg", ".pdf", ".eps", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
GRAPHS = (".pt", ".pth", ".ts")
EXPORTS = (".ang", ".ctf")

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]


class Output(NamedTuple):
    """A file that a command is to write; `suffixes` are those that its name may have, any where there are none."""

    what: str
    path: Path | None
    suffixes: Sequence[str] = ()


def check_outputs(
    outputs: Sequence[Output], inputs: Mapping[str, str | PathLike[str] | None], *, overwrite: bool
) -> None:
    """Find out before the work whether its results can be written under their names.

    Parameters
    ----------
    outputs : sequence of Output
        What is asked for; those without a path are not.
    inputs : mapping of str to path-like or None
        As in `microinfer.files.require_distinct`.
    overwrite : bool
        Whether files that exist may be replaced.

    Raises
    ------
    ValueError
        For a suffix that does not fit, and where an output would replace an input or another output.
    OSError
        Where a file cannot be written, or exists and must not be replaced.
    """
    require_distinct({output.what: output.path for output in outputs}, inputs)
    for what, path, suffixes in outputs:
        if path is None:
            continue
        if suffixes and path.suffix.lower() not in suffixes:
            raise ValueError(
                f"{path}: the name of {what} must end in {_either(suffixes)}, got "
                + (repr(path.suffix) if path.suffix else "no suffix")
                + ("; microinfer convert gives a map that form" if path.suffix.lower() in EXPORTS else "")
            )
        require_writable(path)
        if path.exists() and not overwrite:
            raise FileExistsError(
                errno.EEXIST, f"{what} is there already; --overwrite replaces it", str(path)
            )


def _either(suffixes: Sequence[str]) -> str:
    *others, last = suffixes
    return f"{', '.join(others)} or {last}" if others else last
