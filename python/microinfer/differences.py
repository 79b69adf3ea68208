"""Which settings differ between work that was begun and work that is to go on with it."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(began: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the settings that differ, with both values; empty where none does.

    Parameters
    ----------
    began, now : mapping
        Settings by name, as JSON gives them back; tables and lists in them count entry by entry.

    Returns
    -------
    str
        E.g. ``"training.samples 400000, now 600000; simulation.k_max 2.1, now 1.2"``.
    """
    old, new = dict(_entries(began)), dict(_entries(now))
    return "; ".join(
        f"{name} {_text(old, name)}, now {_text(new, name)}"
        for name in {**new, **old}
        if name not in old or name not in new or old[name] != new[name]
    )


def _entries(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _entries(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list | tuple) and any(isinstance(value, Mapping) for value in values):
        yield from _entries({str(number): value for number, value in enumerate(values, 1)}, name)
    else:
        yield name, list(values) if isinstance(values, tuple) else values


def _text(entries: Mapping[str, Any], name: str) -> str:
    return repr(entries[name]) if name in entries else "not there"
