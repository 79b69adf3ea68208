"""TOML configurations: tables read into dataclasses, with errors that name the file, the table and the entry."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from microinfer.file_kinds import FileKind, require_kind
from microinfer.units import volts

LONGEST = 32_768
"""Bytes of a configuration: longer ones could keep the TOML reader busy for minutes."""

_T = TypeVar("_T")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ValueError
        For what is no TOML file.
    OSError
        Where it cannot be read.
    """
    require_kind(path, FileKind.CONFIGURATION)
    with path.open("rb") as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError(f"{path}: a configuration has at most {LONGEST:,} bytes")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError, too, is a ValueError
        raise ValueError(f"{path}: not a TOML file: {error}") from error


def section(kind: type[_T], values: Any, where: str) -> _T:
    """Make a dataclass of a table's entries, which have the kinds of its defaults (a text where there is none).

    Parameters
    ----------
    kind : type
        The dataclass.
    values : Any
        The table.
    where : str
        File and table, for messages.

    Raises
    ------
    ValueError
        For an unknown or ill-typed entry, and for whatever the dataclass refuses.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a table, got {values!r}")
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown entries {unknown}; known are {sorted(fields)}")
    converted = {}
    for name, value in values.items():
        default = fields[name].default
        if name == "voltage" and isinstance(value, int | float | str):
            value = volts(value, f"{where}: voltage")
        wanted = str if default is dataclasses.MISSING else type(default)
        if wanted is float and type(value) is int and abs(value) < 1e300:
            value = float(value)
        if isinstance(value, list):
            value = tuple(value)
        if type(value) is not wanted:
            raise ValueError(f"{where}: {name} must be a {wanted.__name__}, got {value!r}")
        converted[name] = value
    try:
        return kind(**converted)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
