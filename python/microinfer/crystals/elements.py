"""Chemical elements: symbols and atomic numbers."""

from microinfer.crystals.phase import ELEMENTS

HEAVIEST = 98
"""Californium: the last element with scattering factors in py4DSTEM."""


def atomic_number(symbol: str) -> int:
    """Atomic number of a symbol, in any case; 0 where it is none."""
    import gemmi

    return int(gemmi.Element(symbol).atomic_number)


def element_symbol(number: int) -> str:
    """Chemical symbol of an atomic number."""
    return ELEMENTS[number - 1]
