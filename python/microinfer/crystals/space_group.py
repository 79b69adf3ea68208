"""Space groups: from what a file says of them, or found in the atoms."""

import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.cif import CrystalBlock, parse_operation
from microinfer.crystals.phase import lattice_basis

METRIC_TOLERANCE = 5e-3
"""How far, relatively, an operation may change a cell's lengths and angles and still be meant."""


@dataclass(frozen=True, eq=False)
class SpaceGroup:
    """All operations of a space group, in one setting.

    Attributes
    ----------
    symbol, point_group : str
        Hermann-Mauguin symbols, e.g. ``"P21/c"`` and ``"2/m"``.
    number : int
        Number in the International Tables.
    setting : str
        The full symbol with its origin or axes, e.g. ``"F d -3 m:2"``.
    operations : ndarray of float64, shape (N, 3, 4)
        Rotational parts, and translations in their last column, of all operations on fractional coordinates.
    """

    symbol: str
    point_group: str
    number: int
    setting: str
    operations: NDArray[np.float64]

    @property
    def rotations(self) -> NDArray[np.float64]:
        """Rotational parts, each once, shape (G, 3, 3)."""
        return np.asarray(np.unique(np.round(self.operations[:, :, :3]) + 0.0, axis=0))

    @property
    def centring(self) -> NDArray[np.float64]:
        """Translations of the lattice in fractional coordinates, zero included, shape (T, 3)."""
        pure = np.isclose(self.operations[:, :, :3], np.eye(3)).all((1, 2))
        return np.asarray(np.unique(np.mod(np.round(self.operations[pure, :, 3], 6), 1.0), axis=0))

    def strain(self, lattice: tuple[float, ...]) -> float:
        """How far the operations change the lattice's lengths and angles, relatively."""
        basis = lattice_basis(lattice)
        operators = np.linalg.inv(basis).T[None]  # to fractional
        operators = basis.T @ self.rotations @ operators
        return float(np.abs(operators @ operators.transpose(0, 2, 1) - np.eye(3)).max())


def stated_groups(block: CrystalBlock) -> list[SpaceGroup]:
    """Space groups that a file's block may mean: one, or one for each origin or setting that it leaves open.

    Raises
    ------
    ValueError
        If what it says of the symmetry contradicts itself or the cell, or is not known.
    """
    source = block.source
    named = _settings(block.symbol) if block.symbol else []
    numbers = {setting.number for setting in named}
    if block.number and not 1 <= block.number <= 230:
        raise ValueError(f"{source}: space groups have the numbers 1 to 230, got {block.number}")
    if block.number and numbers and block.number not in numbers:
        standard = _standard(block.number)[0]
        raise ValueError(
            f"{source}: the space group is named {block.symbol!r} (number {min(numbers)}) but numbered {block.number} "
            f"({standard.hm}): correct one of them"
        )
    hall = _from_hall(block.hall)
    if hall is not None:
        numbers = numbers or {block.number or hall.number}
        if hall.number not in numbers or (block.number and hall.number != block.number):
            raise ValueError(
                f"{source}: the Hall symbol {block.hall!r} is that of number {hall.number} ({hall.symbol}), but the "
                f"space group is given as {block.symbol or block.number!r}: correct one of them"
            )
    if block.operations:
        group = _from_operations(block)
        numbers = numbers or ({block.number} if block.number else {hall.number} if hall else set())
        # a list of the identity alone beside the name of the group: all atoms are listed, `structure` compares
        if numbers and group.number not in numbers and len(group.operations) > 1:
            raise ValueError(
                f"{source}: the operations listed are those of number {group.number} ({group.symbol}), but the space "
                f"group is given as {block.symbol or block.hall or block.number!r} (number {min(numbers)}): correct "
                "one of them"
            )
        candidates = [group]
    elif hall is not None:
        candidates = [hall]
    elif block.symbol or block.number:
        if block.symbol and not named and not block.number:
            raise ValueError(
                f"{source}: the space group {block.symbol!r} is not known: give its number "
                "(_space_group_IT_number), Hall symbol or operations (_space_group_symop_operation_xyz)"
            )
        entries = named or _standard(block.number)
        candidates = [
            _from_table(entry) for entry in entries if not block.number or entry.number == block.number
        ]
    else:
        if block.hall:
            raise ValueError(f"{source}: the Hall symbol {block.hall!r} is not known: give the operations")
        candidates = [trivial_group()]
    fitting = [group for group in candidates if group.strain(block.lattice) < METRIC_TOLERANCE]
    if not fitting:
        cell = ", ".join(f"{value:g}" for value in block.lattice)
        raise ValueError(
            f"{source}: the cell {cell} does not have the symmetry of {candidates[0].setting} (number "
            f"{candidates[0].number}): lattice parameters and space group disagree, correct one of them"
        )
    first = fitting[0].setting.partition(":")[0]
    return [group for group in fitting if group.setting.partition(":")[0] == first]


def unknown_symbols(block: CrystalBlock) -> list[str]:
    """What a block says of its space group that is not known and therefore ignored, in words."""
    unknown = [block.symbol] if block.symbol and not _settings(block.symbol) else []
    unknown += [block.hall] if block.hall and _from_hall(block.hall) is None else []
    return [f"the space group's symbol {symbol!r} is not known and ignored" for symbol in unknown]


def other_settings(group: SpaceGroup, lattice: tuple[float, ...]) -> list[SpaceGroup]:
    """Other settings of the same space group that fit a lattice."""
    import gemmi

    entries = [entry for entry in gemmi.spacegroup_table() if entry.number == group.number]
    groups = [_from_table(entry) for entry in entries if entry.xhm() != group.setting]
    return [other for other in groups if other.strain(lattice) < METRIC_TOLERANCE]


def trivial_group() -> SpaceGroup:
    """P1."""
    import gemmi

    return _from_table(gemmi.find_spacegroup_by_name("P 1"))


def found_group(
    lattice: tuple[float, ...], positions: NDArray[np.float64], kinds: NDArray[np.int64]
) -> tuple[SpaceGroup, float]:
    """Find the space group of atoms with spglib.

    Atoms may lie 0.01 Angstrom from it, the lattice's lengths and angles 0.1 %; where they do not, the symmetry to
    0.003 or 0.001 Angstrom is taken.

    Parameters
    ----------
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees.
    positions : ndarray, shape (A, 3)
        Fractional coordinates.
    kinds : ndarray of int, shape (A,)
        Atoms of one kind may be mapped onto each other.

    Returns
    -------
    group : SpaceGroup
        P1 where there is no symmetry.
    tolerance : float
        In Angstrom.
    """
    import spglib

    cell = (lattice_basis(lattice), positions, kinds)
    for tolerance in (0.01, 0.003, 0.001):
        found = _asked(spglib.get_symmetry_dataset, cell, symprec=tolerance)
        if found is None:
            continue
        operations = np.concatenate([found.rotations, found.translations[:, :, None]], axis=2)
        number, symbol = int(found.number), str(found.international).replace("_", "")
        point_group = _standard(number)[0].point_group_hm()
        group = SpaceGroup(symbol, point_group, number, symbol, operations.astype(np.float64))
        if group.strain(lattice) < 1e-3:
            return group, tolerance
    return trivial_group(), tolerance


def _from_table(entry: Any) -> SpaceGroup:
    symbol = re.sub(r"^H(?=[-3])", "R", entry.short_name())
    return SpaceGroup(
        symbol, entry.point_group_hm(), entry.number, entry.xhm(), _matrices(entry.operations())
    )


def _matrices(operations: Any) -> NDArray[np.float64]:
    rows = [np.column_stack([operation.rot, operation.tran]) / operation.DEN for operation in operations]
    matrices = np.array(rows, np.float64)
    matrices[:, :, 3] %= 1.0
    return matrices


def _from_hall(hall: str) -> SpaceGroup | None:
    import gemmi

    if not hall:
        return None
    try:
        operations = gemmi.symops_from_hall(hall.replace("_", " "))
    except (RuntimeError, ValueError):
        return None
    return _identified(_matrices(operations))


def _from_operations(block: CrystalBlock) -> SpaceGroup:
    parsed = [parse_operation(text, block.source) for text in block.operations]
    matrices = np.array([np.column_stack(operation) for operation in parsed])
    again = np.tril(_same(matrices[:, None], matrices), -1).any(axis=1)
    matrices = matrices[~again]
    if not _is_group(matrices):
        raise ValueError(
            f"{block.source}: the {len(matrices)} symmetry operations listed are not a group (some are missing or "
            "wrong): complete the list, or delete it and name the space group"
        )
    group = _identified(matrices)
    if group is None:
        raise ValueError(
            f"{block.source}: the {len(matrices)} symmetry operations listed are those of no space group"
        )
    return group


def _is_group(matrices: NDArray[np.float64]) -> bool:
    """Whether the product of any two operations is one of them, modulo the lattice."""
    if len(matrices) > 192:
        return False
    rotation, shift = matrices[:, :, :3], matrices[:, :, 3:]
    return all(
        _same((turn @ matrices + [0.0, 0.0, 0.0, 1.0] * move)[:, None], matrices).any(axis=1).all()
        for turn, move in zip(rotation, shift, strict=True)
    )


def _same(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether operations are the same modulo the lattice, translations to 0.002."""
    difference = first - second
    difference[..., 3] -= np.round(difference[..., 3])
    return np.asarray(np.abs(difference).max(axis=(-2, -1)) < 2e-3)


def _identified(matrices: NDArray[np.float64]) -> SpaceGroup | None:
    """The group of these operations, with its names."""
    import gemmi
    import spglib

    if np.allclose(matrices * 24, np.round(matrices * 24), atol=1e-6):
        listed = [gemmi.Op(_triplet(matrix)) for matrix in matrices]
        entry = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(listed))
        if entry is not None:
            return _from_table(entry)
    rotations = np.round(matrices[:, :, :3]).astype(np.int32)
    kind = _asked(spglib.get_spacegroup_type_from_symmetry, rotations, matrices[:, :, 3])
    if kind is None:
        return None
    symbol = kind.international_short.replace("_", "")
    point_group = _standard(kind.number)[0].point_group_hm()
    return SpaceGroup(symbol, point_group, kind.number, f"{symbol} in a setting of its own", matrices)


def _asked(question: Callable[..., Any], *values: Any, **options: Any) -> Any:
    """An answer of spglib; None where it has none, which it says by None with a warning, or by an error."""
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return question(*values, **options)
        except spglib.SpglibError:
            return None


def _triplet(matrix: NDArray[np.float64]) -> str:
    import gemmi

    operation = gemmi.Op("x,y,z")
    operation.rot = np.round(matrix[:, :3] * operation.DEN).astype(int).tolist()
    operation.tran = np.round(matrix[:, 3] * operation.DEN).astype(int).tolist()
    return str(operation.triplet())


def _standard(number: int) -> "Sequence[Any]":
    """The standard setting of a number, with both origins or both kinds of axes where it has two."""
    import gemmi

    entries = [entry for entry in gemmi.spacegroup_table() if entry.number == number]
    return [entry for entry in entries if entry.hm == entries[0].hm]


def _settings(symbol: str) -> list[Any]:
    """Settings in the tables that a Hermann-Mauguin symbol may mean, the usual one first."""
    plain = _squeeze(symbol)
    if plain in _table():
        return _table()[plain]
    # with a cell choice: C2:b1
    if cell := re.fullmatch(r"(.+):(-?[abc]\d?)", plain):
        return [entry for entry in _table().get(cell[1], []) if entry.qualifier == cell[2]]
    # with an origin or axes: F d -3 m S, F d -3 m :2, R -3 c H, P n n n (origin choice 1)
    split = re.fullmatch(r"(.+?)[:(]*(?:originchoice|origin|choice|o)?:?([12hrsz])\)?", plain)
    if split:
        choice = {"s": "1", "z": "2"}.get(split[2], split[2].upper())
        entries = _table().get(split[1]) or _full_symbols().get(split[1]) or _synonym(split[1])
        with_choice = [entry for entry in entries if entry.ext == choice]
        if with_choice or (entries and split[2] in "sz"):
            return with_choice or entries
    return _full_symbols().get(plain, []) or _synonym(plain)


def _synonym(plain: str) -> list[Any]:
    """Settings whose symbol gemmi knows by another name, as Cmce for Cmca."""
    import gemmi

    found = gemmi.find_spacegroup_by_name(plain)
    return [] if found is None else [entry for entry in gemmi.spacegroup_table() if entry.hm == found.hm]


@cache
def _full_symbols() -> dict[str, list[Any]]:
    """Settings by their full symbols, as P 2/m 2/m 2/m for P m m m."""
    import gemmi
    import spglib

    table: dict[str, dict[str, Any]] = {}
    for hall_number in range(1, 531):
        kind = _asked(spglib.get_spacegroup_type, hall_number)
        entry = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(kind.hall_symbol))
        if entry is not None:
            table.setdefault(_squeeze(kind.international_full), {})[entry.xhm()] = entry
    return {name: list(entries.values()) for name, entries in table.items()}


def _squeeze(symbol: str) -> str:
    text = unicodedata.normalize("NFKC", symbol).replace("\u2212", "-")
    text = re.sub(r"\\(?:bar|overline)\{?(\d)\}?", r"-\1", text)  # as in TeX
    text = re.sub(r"<[^>]*>|[\s_~'\"{}$]", "", text)
    return text.lower()


@cache
def _table() -> dict[str, list[Any]]:
    """Settings by their symbols in lower case, without blanks."""
    import gemmi

    table: dict[str, list[Any]] = {}
    for entry in gemmi.spacegroup_table():
        names = {entry.hm, entry.short_name()}
        if entry.number >= 195:
            names.add(entry.hm.replace("-3", "3"))  # as before 1992
        elif entry.monoclinic_unique_axis() != "\0":
            names.add(entry.hm.replace(" 1", "") if " 1 " in entry.hm else entry.hm)
        for name in {_squeeze(name) for name in names}:
            table.setdefault(name, []).append(entry)
    return table
