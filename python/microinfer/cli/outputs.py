"""What the commands write: refused before any work where the name is wrong or a file would be lost."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from microinfer.files import EXPORTS, HDF5, PICTURES, require_distinct, require_output

__all__ = ["EXPORTS", "GRAPHS", "HDF5", "PICTURES", "Output", "Overwrite", "check_outputs"]

GRAPHS = (".pt", ".pth", ".ts")

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
    ValueError, OSError
        As `microinfer.files.require_distinct` and `require_output`.
    """
    require_distinct({output.what: output.path for output in outputs}, inputs)
    for what, path, suffixes in outputs:
        if path is not None:
            require_output(path, what, suffixes, overwrite=overwrite, way="--overwrite")
