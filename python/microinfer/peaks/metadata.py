"""What a file's own metadata say of the microscope and the sample, by the names that people and programs use."""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np

from microinfer.hdf5 import find, require_own
from microinfer.units import length_unit, volts

Entries = list[tuple[str, Any]]
"""Names and values."""

_VOLTAGE = re.compile(
    r"(accelerating|accel|acceleration|microscope|beam)?(voltage|energy|hightension)(in)?(kv|kev|v|ev)?|ht|e0"
)
_PHASE = re.compile(r"(crystal)?phases?|crystals?")
DIFFERENCE = 0.02
"""Of two voltages: the larger relative difference counts."""


def read_entries(group: h5py.Group) -> Entries:
    """Return all scalars and texts of a group's ``metadatabundle`` and ``metadata``, and attributes in them.

    py4DSTEM writes what `Metadata` objects hold there; older versions and other programs use ``metadata``.
    """
    entries: Entries = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        entries.extend(item.attrs.items())
        if isinstance(item, h5py.Dataset) and item.shape == ():
            require_own(item)
            entries.append((name.rsplit("/", 1)[-1], item[()]))

    for name in ("metadatabundle", "metadata"):
        if isinstance(bundle := find(group, name), h5py.Group):
            bundle.visititems(visit)
    return entries


def entries_of(bundles: Iterable[Mapping[str, Any]]) -> Entries:
    """The same of metadata in memory."""
    return [(str(name), value) for bundle in bundles for name, value in bundle.items()]


def find_voltage(entries: Entries) -> float | None:
    """Return the accelerating voltage in V that metadata state; None where they state none, or several."""
    found = set()
    for name, value in entries:
        match = _VOLTAGE.fullmatch(_plain(name))
        if match is None:
            continue
        unit = (match[4] or "").replace("e", "")
        text = value.decode() if isinstance(value, bytes) else value
        try:
            if isinstance(text, str):
                found.add(volts(text))
            elif isinstance(text, int | float | np.integer | np.floating):
                found.add(volts(f"{float(text)!r} {unit}"))
        except ValueError:  # another voltage, an emission's, say
            continue
    return found.pop() if len(found) == 1 else None


def find_phases(entries: Entries) -> tuple[str, ...]:
    """Return the names of the crystal phases that metadata state."""
    for name, value in entries:
        text = value.decode() if isinstance(value, bytes) else value
        if _PHASE.fullmatch(_plain(name)) and isinstance(text, str) and text != "_None":
            return tuple(part for part in re.split(r"[\s,;+/]+", text) if part)
    return ()


def settled_voltage(found: float | None, given: float | str | None) -> float | None:
    """Return the voltage that was given, else that of the file; warn where they contradict each other.

    Raises
    ------
    ValueError
        As `microinfer.units.volts`.
    """
    if given is None:
        return found
    voltage = volts(given)
    if found is not None and not same_voltage(found, voltage):
        warnings.warn(
            f"the file says that the scan was taken at {found / 1e3:g} kV; {voltage / 1e3:g} kV was given and is taken",
            UserWarning,
            stacklevel=2,
        )
    return voltage


def stated_step(step: float, units: str, what: str) -> tuple[float, str]:
    """Return the step size of a file; a warning, and 1 pixel, where its unit is none of length."""
    try:
        return step, length_unit(units)
    except ValueError as error:
        warnings.warn(f"{what}: {error}; the step is taken for 1 pixel", UserWarning, stacklevel=2)
        return 1.0, "pixels"


def same_voltage(first: float, second: float) -> bool:
    """Whether two voltages agree to 2 %."""
    return abs(first - second) <= DIFFERENCE * max(first, second)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
