"""CIF files: what they say of a crystal's cell, atoms and symmetry."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.cif_text import DataBlock, meant_fraction, parse_cif, parse_number
from microinfer.crystals.elements import atomic_number
from microinfer.crystals.phase import lattice_basis
from microinfer.crystals.sites import Site, read_sites

_Lattice = tuple[float, float, float, float, float, float]


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
    blocks = parse_cif(path)
    named = [entry for entry in blocks if entry.name.lower() == block.lower()] if block else blocks
    if not named:
        raise ValueError(f"{path}: has no block {block!r}; its blocks are {_names(blocks)}")
    chosen = [entry for entry in named if entry.has_atoms]
    if not chosen:
        raise ValueError(
            f"{path}: no atoms with fractional coordinates (_atom_site_fract_x) in {_names(named)}"
            + ("; choose another block" if block else "")
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
    return _crystal(chosen[0])


def parse_operation(text: str, source: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation and translation of an operation as ``-y+1/2, x, z``, which may hold no other letters.

    Raises
    ------
    ValueError
        If it is none.
    """
    cleaned = text.lower().replace(" ", "")
    term = r"[xyz]|\d+/\d+|\d*\.\d+|\d+\.?"
    parts = cleaned.split(",")
    if len(parts) != 3 or not all(
        re.fullmatch(rf"[-+]?(?:{term})(?:[-+](?:{term}))*", part) for part in parts
    ):
        raise ValueError(f"{source}: {text!r} is no symmetry operation (as '-y+1/2, x, z')")
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    for row, part in enumerate(parts):
        for sign, value in re.findall(rf"([-+]?)({term})", part):
            factor = -1.0 if sign == "-" else 1.0
            if value in "xyz":
                rotation[row, "xyz".index(value)] += factor
            elif number := meant_fraction(value):
                translation[row] += factor * number[0]
            else:
                raise ValueError(f"{source}: {text!r} is no symmetry operation: {value!r} is no number")
    if abs(np.linalg.det(rotation)) != 1.0:
        raise ValueError(f"{source}: {text!r} is no symmetry operation: it changes the volume")
    return rotation, np.mod(translation, 1.0)


def _names(blocks: "Iterable[DataBlock]") -> str:
    return ", ".join(repr(block.name) for block in blocks)


def _crystal(block: DataBlock) -> CrystalBlock:
    for tag in sorted(block.tags):
        if tag.startswith(_BEYOND):
            raise ValueError(
                f"{block.source}: {tag} makes it a magnetic or modulated structure, which is not read: export the "
                "average nuclear structure as a plain CIF file"
            )
    lattice, differing_volume = _lattice(block)
    formula = _formula(block.text("_chemical_formula_sum"))
    sites, decimals, notes = read_sites(block, lattice, set(formula))
    numbers = {
        int(block.number(text, tag))
        for tag in ("_space_group_it_number", "_symmetry_int_tables_number")
        if (text := block.text(tag))
    }
    if len(numbers) > 1:
        raise ValueError(
            f"{block.source}: the space group is numbered {min(numbers)} and {max(numbers)}: keep one"
        )
    density = parse_number(block.text("_exptl_crystal_density_diffrn"))
    symbol, hall = (
        block.text(*_SYMBOLS),
        block.text("_space_group_name_hall", "_symmetry_space_group_name_hall"),
    )
    operations = block.column("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
    if not (symbol or hall or numbers or operations):
        for tag in block.tags:
            if re.match(r"_(space_group|symmetry)\w*(name|symop|equiv_pos|number)", tag) and block.text(tag):
                raise ValueError(
                    f"{block.source}: its symmetry is given by {tag} alone, which is not read: give the operations "
                    "(_space_group_symop_operation_xyz), the symbol (_space_group_name_H-M_alt) or the number "
                    "(_space_group_IT_number) of the space group"
                )
    return CrystalBlock(
        source=block.source,
        lattice=lattice,
        sites=sites,
        decimals=decimals,
        operations=tuple(filter(None, operations)),
        symbol=symbol,
        hall=hall,
        number=max(numbers, default=0),
        formula=formula,
        density=math.nan if density is None else density,
        notes=differing_volume + notes,
    )


def _lattice(block: DataBlock) -> tuple[_Lattice, tuple[str, ...]]:
    """The lattice parameters, and a word where the stated volume is another."""
    values = []
    for key in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
        text = block.text(f"_cell_{key}")
        if not text:
            raise ValueError(f"{block.source}: the cell is not complete: give _cell_{key} a value")
        values.append(block.number(text, f"_cell_{key}"))
    if not (
        min(values[:3]) > 0.1 and max(values[:3]) < 1e4 and min(values[3:]) > 0 and max(values[3:]) < 180
    ):
        raise ValueError(f"{block.source}: no unit cell has the lattice parameters {tuple(values)}")
    try:
        volume = float(np.linalg.det(lattice_basis(tuple(values))))
    except ValueError as error:
        raise ValueError(f"{block.source}: {error}") from None
    stated = parse_number(block.text("_cell_volume"))
    a, b, c, alpha, beta, gamma = values
    lattice = a, b, c, alpha, beta, gamma
    if stated is None or 0.99 < stated / volume < 1.01:
        return lattice, ()
    return lattice, (f"the file's _cell_volume is {stated:g} Å³, its lengths and angles make {volume:.5g}",)


def _formula(text: str) -> dict[int, float]:
    """Composition by atomic number; empty where the formula cannot be read."""
    part = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+|)[\s,]*")
    if part.sub("", text):
        return {}
    formula: dict[int, float] = {}
    for symbol, count in part.findall(text):
        if not (number := 1 if symbol in ("D", "T") else atomic_number(symbol)):
            return {}
        formula[number] = formula.get(number, 0.0) + (float(count) if count else 1.0)
    return formula


_SYMBOLS = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m",
    "_space_group_name_h-m_ref",
    "_space_group_name_h-m_full",
)
_BEYOND = (
    "_space_group_magn_name",
    "_space_group_magn_number",
    "_space_group_symop_magn",
    "_cell_modulation_dimension",
    "_space_group_symop_ssg",
    "_cell_wave_vector",
)
