"""CIF files: their text becomes sites, cell and what they say of the symmetry. Nothing of a file is ever evaluated."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import lattice_basis


@dataclass(frozen=True)
class Site:
    """One row of a CIF file's atoms.

    Attributes
    ----------
    label : str
        As in the file.
    kind : str
        The file's type symbol, charge included; the element's where it gives none.
    number : int
        Atomic number.
    position : tuple of float
        Fractional coordinates.
    occupancy : float
        In (0, 1].
    displacement : float
        Mean square displacement U in Angstrom^2; NaN where the file gives none.
    """

    label: str
    kind: str
    number: int
    position: tuple[float, float, float]
    occupancy: float
    displacement: float


@dataclass(frozen=True)
class CrystalBlock:
    """What one block of a CIF file says of a crystal.

    Attributes
    ----------
    source : str
        File and block, for messages.
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees.
    sites : tuple of Site
        The atoms listed.
    decimals : int
        Most decimals of any coordinate; 99 where all coordinates are whole numbers or fractions.
    operations : tuple of str
        Symmetry operations; empty where the file lists none.
    symbol, hall : str
        Hermann-Mauguin and Hall symbol; empty where there is none.
    number : int
        Number of the space group; 0 where there is none.
    formula : dict of int to float
        The stated composition by atomic number; empty where there is none.
    density : float
        As stated, in g/cm^3; NaN where it is not.
    notes : tuple of str
        What was ignored or taken as something else.
    """

    source: str
    lattice: tuple[float, float, float, float, float, float]
    sites: tuple[Site, ...]
    decimals: int
    operations: tuple[str, ...]
    symbol: str
    hall: str
    number: int
    formula: dict[int, float]
    density: float
    notes: tuple[str, ...]


def split_source(source: str | Path) -> tuple[Path, str]:
    """Path and block of ``FILE.cif#BLOCK``; the block is empty where none is named."""
    path = Path(source)
    if "#" not in path.name or path.is_file():
        return path, ""
    name, _, block = str(source).rpartition("#")
    return Path(name), block


def read_cif(path: Path, block: str = "") -> CrystalBlock:
    """Read the crystal in a CIF file.

    Parameters
    ----------
    path : Path
        The file: UTF-8, UTF-16 or Latin-1, with any line ends.
    block : str
        The data block; needed where several hold atoms.

    Raises
    ------
    ValueError
        If the file is no CIF file, holds no crystal or several, or holds values that cannot be right.
    """
    blocks = _parse(path)
    if block:
        chosen = [entry for entry in blocks if entry.name.lower() == block.lower()]
        if not chosen:
            raise ValueError(f"{path}: has no block {block!r}; its blocks are {_names(blocks)}")
    else:
        chosen = [entry for entry in blocks if entry.has_atoms]
    if not chosen:
        raise ValueError(
            f"{path}: no block holds atoms with fractional coordinates (_atom_site_fract_x); blocks: {_names(blocks)}"
        )
    if len(chosen) > 1:
        raise ValueError(
            f"{path}: several blocks hold crystals, {_names(chosen)}: choose one as {path}#{chosen[0].name}"
            + (
                ""
                if len({entry.name for entry in chosen}) == len(chosen)
                else ", after giving each its own name"
            )
        )
    return chosen[0].crystal()


def _parse(path: Path) -> "list[_Block]":
    import gemmi

    text = _decode(path.read_bytes())
    if not text.strip():
        raise ValueError(f"{path}: the file is empty")
    try:
        document = gemmi.cif.read_string(text, 0)
    except (ValueError, RuntimeError) as error:
        found = re.match(r"\w+:(\d+):\d+(?:\(\d+\))?: *(.*)", str(error), re.DOTALL)
        where = f"line {found[1]}: {found[2]}" if found else str(error)
        raise ValueError(f"{path}: not a readable CIF file (cut off?): {where}") from None
    blocks = [_Block(path, block) for block in document]
    if not blocks:
        raise ValueError(f"{path}: not a CIF file: it has no data_ block")
    return blocks


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _names(blocks: "Iterable[_Block]") -> str:
    return ", ".join(repr(block.name) for block in blocks)


class _Block:
    """Tags and values of one data block, tags in lower case and with ``_`` where newer dictionaries have dots."""

    def __init__(self, path: Path, block: Any) -> None:
        import gemmi

        self.path, self.name = path, block.name
        self._values: dict[str, list[str]] = {}
        for item in block:
            if item.loop is not None:
                tags, width = item.loop.tags, item.loop.width()
                for column, tag in enumerate(tags):
                    self._add(tag, [gemmi.cif.as_string(value) for value in item.loop.values[column::width]])
            elif item.pair is not None:
                self._add(item.pair[0], [gemmi.cif.as_string(item.pair[1])])

    @property
    def source(self) -> str:
        return f"{self.path}, block {self.name!r}"

    @property
    def has_atoms(self) -> bool:
        return bool(self.column("_atom_site_fract_x"))

    def _add(self, tag: str, values: list[str]) -> None:
        tag = tag.lower().replace(".", "_")
        if self._values.setdefault(tag, values) != values and tag.startswith(_READ):
            raise ValueError(f"{self.source}: {tag} stands there twice, with different values: keep one")

    def column(self, *tags: str) -> list[str]:
        """Values of the first of these tags that says anything; unknown ones are empty."""
        for tag in tags:
            values = [
                "" if value.strip() in ("?", ".") else value.strip() for value in self._values.get(tag, [])
            ]
            if any(values):
                return values
        return []

    def text(self, *tags: str) -> str:
        values = self.column(*tags)
        return values[0] if values else ""

    def number(self, text: str, what: str) -> float:
        value = _number(text)
        if value is None:
            raise ValueError(f"{self.source}: {what} must be a number, got {text!r}")
        return value

    def crystal(self) -> CrystalBlock:
        for tag in sorted(self._values):
            if tag.startswith(_BEYOND):
                raise ValueError(
                    f"{self.source}: {tag} makes it a magnetic or modulated structure, which is not read: export the "
                    "average nuclear structure as a plain CIF file"
                )
        lattice = self._lattice()
        formula = _formula(self.text("_chemical_formula_sum"))
        sites, decimals, notes = _Sites(self, lattice, set(formula)).read()
        number = self.text("_space_group_it_number", "_symmetry_int_tables_number")
        density = _number(self.text("_exptl_crystal_density_diffrn"))
        return CrystalBlock(
            source=self.source,
            lattice=lattice,
            sites=sites,
            decimals=decimals,
            operations=tuple(
                filter(None, self.column("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz"))
            ),
            symbol=self.text(
                "_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m"
            ),
            hall=self.text("_space_group_name_hall", "_symmetry_space_group_name_hall"),
            number=int(self.number(number, "the space group's number")) if number else 0,
            formula=formula,
            density=math.nan if density is None else density,
            notes=notes,
        )

    def _lattice(self) -> tuple[float, float, float, float, float, float]:
        values = []
        for key in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
            text = self.text(f"_cell_{key}")
            if not text:
                raise ValueError(f"{self.source}: the cell is not complete: give _cell_{key} a value")
            values.append(self.number(text, f"_cell_{key}"))
        if min(values) <= 0 or max(values[3:]) >= 180:
            raise ValueError(f"{self.source}: no unit cell has the lattice parameters {tuple(values)}")
        try:
            volume = float(np.linalg.det(lattice_basis(tuple(values))))
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None
        stated = _number(self.text("_cell_volume"))
        if stated is not None and not 0.99 < stated / volume < 1.01:
            raise ValueError(
                f"{self.source}: lengths and angles make a cell of {volume:.2f} Angstrom^3, but _cell_volume says "
                f"{stated:g}: mend one of them"
            )
        a, b, c, alpha, beta, gamma = values
        return a, b, c, alpha, beta, gamma


class _Sites:
    """Reads the atoms of a block."""

    def __init__(
        self, block: _Block, lattice: tuple[float, float, float, float, float, float], formula: set[int]
    ) -> None:
        self.block, self.lattice, self.formula = block, lattice, formula
        self.decimals: list[int] = []
        self.ignored: list[str] = []
        self.taken: dict[str, None] = {}

    def read(self) -> tuple[tuple[Site, ...], int, tuple[str, ...]]:
        block = self.block
        axes = [block.column(f"_atom_site_fract_{axis}") for axis in "xyz"]
        rows = len(axes[0])
        labels = block.column("_atom_site_label") or [""] * rows
        kinds = block.column("_atom_site_type_symbol") or [""] * rows
        occupancy = block.column("_atom_site_occupancy") or [""] * rows
        flags = block.column("_atom_site_calc_flag") or [""] * rows
        lengths = {len(values) for values in (*axes, labels, kinds, occupancy, flags)}
        if rows == 0 or lengths != {rows}:
            raise ValueError(
                f"{block.source}: atoms need _atom_site_fract_x, _y and _z, and as many of each, "
                f"got {[len(values) for values in axes]}"
            )
        displacements = self._displacements(labels)
        sites = []
        for row, (label, kind, flag) in enumerate(zip(labels, kinds, flags, strict=True)):
            name = label or kind or f"atom {row + 1}"
            number = 0 if flag == "dum" else self._element(label, kind)
            if number == 0:
                self.ignored.append(f"{name} (no atom)")
                continue
            texts = [values[row] for values in axes]
            if not all(texts):
                self.ignored.append(f"{name} (no coordinates)")
                continue
            x, y, z = (self._coordinate(text, name) for text in texts)
            share = block.number(occupancy[row], f"the occupancy of {name}") if occupancy[row] else 1.0
            if not 0 < share <= 1:
                raise ValueError(
                    f"{block.source}: occupancies must lie in (0, 1], got {share:g} of {name}: "
                    + (
                        "delete the site if it is empty"
                        if share == 0
                        else "give the share of the site it fills"
                    )
                )
            sites.append(
                Site(label or kind, kind or str(number), number, (x, y, z), share, displacements[row])
            )
        if not sites:
            raise ValueError(f"{block.source}: the file holds no atoms; ignored: {', '.join(self.ignored)}")
        notes = ([f"ignored {', '.join(self.ignored)}"] if self.ignored else []) + list(self.taken)
        return tuple(sites), max(self.decimals, default=99), tuple(notes)

    def _coordinate(self, text: str, name: str) -> float:
        value = self.block.number(text, f"a coordinate of {name}")
        mantissa = re.match(r"[-+]?\d*\.(\d+)", text)
        if mantissa is None or "e" in text.lower():
            return value
        decimals = len(mantissa[1])
        self.decimals.append(decimals)
        # a rounded or cut third or sixth is meant as one: 0.3333, 0.667, 0.666
        sixth = round(value * 6) / 6
        if 2 <= decimals <= 8:
            step = 10.0**-decimals
            meant = [round(sixth, decimals)] + ([math.trunc(sixth / step) * step] if decimals > 2 else [])
            if min(abs(value - number) for number in meant) < 0.01 * step:
                return sixth
        return value

    def _element(self, label: str, kind: str) -> int:
        """Atomic number; 0 for a vacancy or a dummy."""
        text = kind or label
        letters = re.match(r"\d*([^\W\d_]+)", text)
        word = letters[1] if letters else ""
        vanadium = not kind and word.lower() == "va" and 23 in self.formula
        if not text or (word.lower() in _NO_ATOM and not vanadium):
            return 0
        if re.search(r"[^\W\d_][^,/;]*[,/;] *[^\W\d_]", text):
            raise ValueError(
                f"{self.block.source}: {text!r} names several elements: give each its own row with its occupancy"
            )
        if word.lower() in ("d", "t"):
            self.taken[f"{'deuterium' if word.lower() == 'd' else 'tritium'} taken as hydrogen"] = None
            return 1
        if word.lower() in _WATER:
            self.taken[f"{word} taken as oxygen"] = None
            return 8
        two, one = (_atomic_number(word[:length]) if len(word) >= length else 0 for length in (2, 1))
        if kind and len(word) <= 2:
            number = two or one
        elif len(word) > 1 and word[1].isupper() and two and one:
            # CA1 is Ca or C: only the formula can tell
            fitting = {two, one} & self.formula
            if len(fitting) != 1:
                raise ValueError(
                    f"{self.block.source}: {text!r} may be {_symbol(two)} or {_symbol(one)}: give its element as "
                    "_atom_site_type_symbol"
                )
            number = fitting.pop()
        else:
            number = two or one
        if number == 0 or number > HEAVIEST:
            raise ValueError(
                f"{self.block.source}: {text!r} is no chemical element that can be simulated (H to Cf); give one as "
                "_atom_site_type_symbol, or Va for a vacancy"
            )
        return number

    def _displacements(self, labels: list[str]) -> list[float]:
        """Mean square displacements U in Angstrom^2, NaN where there is none."""
        block = self.block
        result = [math.nan] * len(labels)
        anisotropic = self._anisotropic()
        for key, factor in (("u", 1.0), ("b", 8.0 * math.pi**2)):
            for row, text in enumerate(block.column(f"_atom_site_{key}_iso_or_equiv")[: len(labels)]):
                if text and math.isnan(result[row]):
                    value = block.number(text, f"the displacement factor of {labels[row]}") / factor
                    result[row] = value if value > 0 else math.nan
        result = [anisotropic.get(label, value) for label, value in zip(labels, result, strict=True)]
        for label, value in zip(labels, result, strict=True):
            if value > 0.5:
                raise ValueError(
                    f"{block.source}: {label} has U = {value:.2f} Angstrom^2, an amplitude of {math.sqrt(value):.2f} "
                    "Angstrom: is it B? Then name its column _atom_site_B_iso_or_equiv, or put '?'"
                )
        return result

    def _anisotropic(self) -> dict[str, float]:
        """U_eq = 1/3 sum_ij U_ij a*_i a*_j (a_i . a_j) of the labels that have a tensor."""
        block = self.block
        basis = lattice_basis(self.lattice)
        lengths = np.linalg.norm(np.linalg.inv(basis), axis=0)
        weight = np.outer(lengths, lengths) * (basis @ basis.T) / 3.0
        labels = block.column("_atom_site_aniso_label")
        found: dict[str, float] = {}
        for key, factor in (("u", 1.0), ("b", 8.0 * math.pi**2)):
            columns = [
                block.column(f"_atom_site_aniso_{key}_{entry}")
                for entry in ("11", "22", "33", "23", "13", "12")
            ]
            for label, *texts in zip(labels, *columns, strict=False):
                if all(texts):
                    u11, u22, u33, u23, u13, u12 = (
                        block.number(text, f"the displacement tensor of {label}") / factor for text in texts
                    )
                    tensor = np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]])
                    if (mean := float(np.sum(tensor * weight))) > 0:
                        found.setdefault(label, mean)
        return found


def parse_operation(text: str, source: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation and translation of an operation as ``-y+1/2, x, z``, which may hold no other letters.

    Raises
    ------
    ValueError
        If it is none.
    """
    import gemmi

    cleaned = text.strip().lower()
    if not re.fullmatch(r"[-+xyz0-9/., ]+", cleaned):
        raise ValueError(f"{source}: {text!r} is no symmetry operation (as '-y+1/2, x, z')")
    try:
        operation = gemmi.Op(cleaned)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{source}: {text!r} is no symmetry operation: {error}") from None
    rotation = np.array(operation.rot, np.float64) / operation.DEN
    if not np.isclose(abs(np.linalg.det(rotation)), 1.0):
        raise ValueError(f"{source}: {text!r} is no symmetry operation: it changes the volume")
    return rotation, np.mod(np.array(operation.tran, np.float64) / operation.DEN, 1.0)


def element_symbol(number: int) -> str:
    """Chemical symbol of an atomic number."""
    return _symbol(number)


def _number(text: str) -> float | None:
    """A number with its standard uncertainty left out, or a fraction."""
    if found := re.fullmatch(r"([-+]?\d+)/(\d+)", text):
        return int(found[1]) / int(found[2]) if int(found[2]) else None
    found = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(\d*\)?)?", text)
    value = float(found[1]) if found else math.nan
    return value if math.isfinite(value) else None


def _formula(text: str) -> dict[int, float]:
    """Composition by atomic number; empty where the formula cannot be read."""
    part = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+|)[\s,]*")
    if part.sub("", text):
        return {}
    formula: dict[int, float] = {}
    for symbol, count in part.findall(text):
        if not (number := 1 if symbol in ("D", "T") else _atomic_number(symbol)):
            return {}
        formula[number] = formula.get(number, 0.0) + (float(count) if count else 1.0)
    return formula


def _atomic_number(symbol: str) -> int:
    import gemmi

    return int(gemmi.Element(symbol).atomic_number)


def _symbol(number: int) -> str:
    import gemmi

    return str(gemmi.Element(number).name)


HEAVIEST = 98
"""Californium: the last element with scattering factors in py4DSTEM."""

_NO_ATOM = frozenset(["x", "q", "va", "vac", "vc", "vacancy", "void", "du", "dum", "dummy"])
_WATER = frozenset(["wat", "water", "wa", "ow", "oh", "hoh"])
_READ = ("_cell_", "_symmetry_", "_space_group_", "_atom_site_")
_BEYOND = (
    "_space_group_magn_name",
    "_space_group_magn_number",
    "_space_group_symop_magn",
    "_cell_modulation_dimension",
    "_space_group_symop_ssg",
    "_cell_wave_vector",
)
