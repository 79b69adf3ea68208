"""Accelerating voltages and step sizes in the units that people write them in."""

import re
import unicodedata

LOWEST, HIGHEST = 10e3, 3e6
"""Voltages of electron microscopes, in V: as numbers of volts and of kilovolts they never overlap."""

MICROMETRES = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "m": 1e6}
"""Units of length, in micrometres."""
_NAMES = {"A": "Å", "um": "µm", "px": "pixels", **{name: name for name in MICROMETRES}}
_WORDS = {
    "ang": "Å",
    "angstrom": "Å",
    "ångström": "Å",
    "nanometer": "nm",
    "nanometre": "nm",
    "micron": "µm",
    "micrometer": "µm",
    "micrometre": "µm",
    "pixel": "pixels",
}

_WRITTEN = re.compile(r"\s*([0-9.eE+-]+)\s*(kV|keV|V|eV)?\s*", re.IGNORECASE)
_WANTED = "expected kilovolts (10 to 3000, e.g. 200) or volts (10000 to 3000000, e.g. 200000)"


def volts(value: float | str, name: str = "voltage") -> float:
    """Return an accelerating voltage in volts, given in kilovolts or in volts.

    A bare number from 10 to 3000 can only be kilovolts, one from 10,000 to 3,000,000 only volts. A unit that is
    written out is believed: ``"200 V"`` is refused.

    Parameters
    ----------
    value : float or str
        E.g. ``200``, ``200e3``, ``"200"``, ``"200 kV"`` or ``"200000 V"``.
    name : str
        What the value is, for the message: an option, or a key and its file.

    Returns
    -------
    float
        In V.

    Raises
    ------
    ValueError
        For anything that is no voltage of an electron microscope.
    """
    number, unit = _number_and_unit(value)
    if number is not None:
        kilovolts = unit.startswith("k") if unit else number < LOWEST
        result = number * 1e3 if kilovolts else number
        if LOWEST <= result <= HIGHEST:
            return result
    raise ValueError(f"{name} must be an accelerating voltage: {_WANTED}, got {value!r}")


def _number_and_unit(value: float | str) -> tuple[float | None, str]:
    if isinstance(value, bool):
        return None, ""
    if not isinstance(value, str):
        return float(value), ""
    written = _WRITTEN.fullmatch(value)
    try:
        return (float(written[1]), (written[2] or "").lower()) if written else (None, "")
    except ValueError:
        return None, ""


def length_unit(units: str) -> str:
    """Return a unit of length, or ``"pixels"``, by the name that microinfer gives it.

    Parameters
    ----------
    units : str
        E.g. ``"nm"``, ``"A"``, ``"Angstrom"``, ``"um"``, ``"micron"`` or ``"px"``.

    Returns
    -------
    str
        One of `MICROMETRES`, or ``"pixels"``.

    Raises
    ------
    ValueError
        For anything else.
    """
    name = unicodedata.normalize("NFC", units.strip().replace("\u03bc", "µ"))  # the Greek letter for the sign
    word = name.casefold().removesuffix("s")
    found = _NAMES.get(name) or unicodedata.normalize("NFC", _WORDS.get(word, ""))
    if not found:
        raise ValueError(f"{units!r} is no unit of a step size: expected {', '.join(MICROMETRES)} or pixels")
    return found


def step_size(step: float | str, units: str = "pixels") -> tuple[float, str]:
    """Return a step size and its unit, also where one text holds both.

    Parameters
    ----------
    step : float or str
        E.g. ``2.0``, ``"2 nm"`` or ``"20 Å"``.
    units : str
        Of a bare number.

    Returns
    -------
    float, str
        The step, and its unit as `length_unit` names it.

    Raises
    ------
    ValueError
        For what is no positive number with a unit of length, and for two units that differ.
    """
    units = length_unit(units)
    number = step
    if isinstance(step, str):
        written = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(.*)", step)
        number = written[1] if written else ""
        if written and written[2]:
            own = length_unit(written[2])
            if units not in ("pixels", own):
                raise ValueError(f"step {step!r} has another unit than units={units!r}: give one of them")
            units = own
    try:
        value = float(number)
    except (TypeError, ValueError):
        value = float("nan")
    if isinstance(step, bool) or not 0 < value < float("inf"):
        raise ValueError(
            f"step must be a positive number, with a unit or without (2.0, '2 nm'), got {step!r}"
        )
    return value, units
