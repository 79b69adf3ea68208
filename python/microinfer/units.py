"""Accelerating voltages in either of the units that people write them in."""

import re

LOWEST, HIGHEST = 10e3, 3e6
"""Voltages of electron microscopes, in V: as numbers of volts and of kilovolts they never overlap."""

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
