"""What the values of a configuration may be, and the error for those that are not."""

import math
from collections.abc import Callable
from typing import Any

Range = tuple[str, Callable[[Any], bool]]
"""In words, and as a test."""

POSITIVE: Range = ("above 0", lambda value: 0 < value < math.inf)
NOT_NEGATIVE: Range = ("0 or more", lambda value: 0 <= value < math.inf)
SHARE: Range = ("between 0 and 1", lambda value: 0 <= value <= 1)
INNER_SHARE: Range = ("above 0 and below 1", lambda value: 0 < value < 1)
SPACING: Range = ("between 0.1 and 30 degrees", lambda value: 0.1 <= value <= 30)
RISING: Range = (
    "two numbers from 0 on that do not fall",
    lambda value: len(value) == 2 and 0 <= value[0] <= value[1] < math.inf,
)
RISING_ABOVE_0: Range = (
    "two numbers above 0 that do not fall",
    lambda value: RISING[1](value) and value[0] > 0,
)


def at_least(least: int) -> Range:
    """Numbers from one on."""
    return f"at least {least}", lambda value: value >= least


def one_of(*choices: str) -> Range:
    """These words."""
    return " or ".join(map(repr, choices)), choices.__contains__


def require(config: Any, section: str, wanted: Range, *names: str) -> None:
    """Raise a ValueError for the first of a configuration's fields that is out of range."""
    words, holds = wanted
    for name in names:
        value = getattr(config, name)
        if not holds(value):
            raise ValueError(f"{section}.{name} must be {words}, got {value!r}")
