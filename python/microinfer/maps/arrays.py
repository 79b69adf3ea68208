"""The arrays of a map: one table of its fields, from which their checks, the map's attributes and its file follow."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Arrays: TypeAlias = dict[str, NDArray[Any]]
"""The arrays of `FIELDS` by name, each of the shape (Rx, Ry) and its field's own behind."""


class Field(NamedTuple):
    """One array of a map."""

    dtype: type[np.generic]
    shape: tuple[int | str, ...]
    """At one scan position; ``"K"`` is the axis of the candidates."""
    blank: float
    """What stands where there is no answer or no such candidate."""
    rule: str = ""
    """What holds for every candidate that exists; {n} is the number of phases."""
    holds: Callable[[NDArray[Any], int], NDArray[np.bool_]] | None = None
    """Where the rule holds, of values (N, ...) and the number of phases."""

    def cell(self, candidates: int) -> tuple[int, ...]:
        """The shape at one scan position, for a number of candidates."""
        return tuple(candidates if size == "K" else int(size) for size in self.shape)


def _rotations(matrix: NDArray[Any], n_phases: int) -> NDArray[np.bool_]:
    rows = np.ascontiguousarray(np.moveaxis(matrix, 0, -1))  # (3, 3, N): whole arrays at a time
    proper = np.ones(len(matrix), np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(3):
            for j in range(i, 3):
                # float32 products of three terms: a rotation is orthonormal to a few 1e-7, a wrong matrix is
                # not to 1e-3
                proper &= np.abs((rows[i] * rows[j]).sum(axis=0) - float(i == j)) < 1e-3
        proper &= (np.cross(rows[0], rows[1], axis=0) * rows[2]).sum(axis=0) > 0
    return proper


def _phases(index: NDArray[Any], n_phases: int) -> NDArray[np.bool_]:
    return (index >= 0) & (index < n_phases)


def _shares(values: NDArray[Any], n_phases: int) -> NDArray[np.bool_]:
    return (values >= 0) & (values <= 1)


def _scores(values: NDArray[Any], n_phases: int) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(values) | _shares(values, n_phases))


FIELDS: dict[str, Field] = {
    "valid": Field(np.bool_, (), False),
    "matrix": Field(np.float32, ("K", 3, 3), np.nan, "must hold proper rotations", _rotations),
    "phase": Field(np.int16, ("K",), -1, "must lie in [0, {n})", _phases),
    "probability": Field(np.float32, ("K",), 0.0, "(confidence) must lie in [0, 1]", _shares),
    "score": Field(np.float32, ("K",), np.nan, "must be NaN or lie in [0, 1]", _scores),
}
"""Every field of a map. A position has K candidates, the best first, which exists wherever ``valid`` is True; one that
does not exist has the phase -1. A further field needs a row here, and whoever fills it."""

NEEDED = ("valid", "matrix", "phase", "probability")
"""Fields that may not be left out; the others are blank then."""

CANDIDATE_FIELDS = tuple(name for name, field in FIELDS.items() if "K" in field.shape)

_KINDS = {"b": "booleans", "i": "integers", "f": "real numbers"}


def blank_arrays(shape: tuple[int, ...], candidates: int) -> Arrays:
    """Every array of a map for scan positions without an answer."""
    return {
        name: np.full((*shape, *field.cell(candidates)), field.blank, field.dtype)
        for name, field in FIELDS.items()
    }


def checked_arrays(arrays: Mapping[str, ArrayLike], n_phases: int, first_row: int = 0) -> Arrays:
    """Check the answers for a block of scan positions and blank what does not exist.

    Parameters
    ----------
    arrays : mapping of str to array-like
        Arrays of `FIELDS`, for one candidate with or without its axis.
    n_phases : int
        Number of phases.
    first_row : int, default: 0
        Scan row of the block's first row, for error messages.

    Returns
    -------
    dict of str to ndarray
        All arrays of `FIELDS`, copies. What stands at an invalid position or at a candidate of phase -1 is blank, as
        are arrays that were left out.

    Raises
    ------
    ValueError
        For shapes that do not fit, and where a rule of `FIELDS` does not hold. The message names the field and the
        first bad scan position.
    TypeError
        For values of another kind than the field's.
    """
    for name in {*arrays, *NEEDED}:
        if name not in FIELDS or name not in arrays:
            needed, fields = ", ".join(NEEDED), ", ".join(FIELDS)
            raise ValueError(
                f"arrays must have {needed}, and no others than {fields}; got {', '.join(arrays)}"
            )
    given = {name: _typed(name, values) for name, values in arrays.items()}
    valid, matrix = given["valid"], given["matrix"]
    if valid.ndim != 2:
        raise ValueError(f"valid must have the shape (Rx, Ry), got {valid.shape}")
    candidates = matrix.shape[2] if matrix.ndim == 5 else 1
    checked = blank_arrays(valid.shape, candidates)
    for name, values in given.items():
        shape = checked[name].shape
        if values.shape not in (shape, _without_axis(name, shape)):
            raise ValueError(f"{name} must have the shape {shape}, got {values.shape}")
        given[name] = values.reshape(shape)
    there = valid[..., None] & (given["phase"] != FIELDS["phase"].blank)
    there[..., 0] = valid
    for name, values in given.items():
        where = there if name in CANDIDATE_FIELDS else valid
        field, found = FIELDS[name], values[where]
        if field.holds is not None and not (holds := field.holds(found, n_phases)).all():
            row, column, *_ = np.argwhere(where)[np.argmin(holds)]
            raise ValueError(
                f"{name} {field.rule.format(n=n_phases)} at valid positions; scan position "
                f"({first_row + row}, {column}) does not"
            )
        checked[name][where] = found
    return checked


def _typed(name: str, values: ArrayLike) -> NDArray[Any]:
    array, dtype = np.asarray(values), np.dtype(FIELDS[name].dtype)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"{name} must hold {_KINDS[dtype.kind]}, got {array.dtype}")
    return (
        array.astype(dtype, copy=False) if dtype.kind == "f" else array
    )  # integers are checked as they came


def _without_axis(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a field of one candidate that came without its axis."""
    return (*shape[:2], *shape[3:]) if name in CANDIDATE_FIELDS and shape[2] == 1 else shape
