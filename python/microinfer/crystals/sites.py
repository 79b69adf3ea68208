"""The atoms that a CIF file lists: elements, coordinates, occupancies, displacement factors."""

import math
import re
from dataclasses import dataclass

import numpy as np

from microinfer.crystals.cif_text import DataBlock, meant_fraction
from microinfer.crystals.elements import HEAVIEST, atomic_number, element_symbol
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


def read_sites(
    block: DataBlock, lattice: tuple[float, float, float, float, float, float], formula: set[int]
) -> tuple[tuple[Site, ...], int, tuple[str, ...]]:
    """Read the atoms of a block.

    Parameters
    ----------
    block : DataBlock
        Of the file.
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees.
    formula : set of int
        Atomic numbers in the file's formula, which tell apart labels that may mean two elements.

    Returns
    -------
    sites : tuple of Site
    decimals : int
        Most decimals of any coordinate; 99 where all are whole numbers or fractions.
    notes : tuple of str
        What was ignored or taken as something else.

    Raises
    ------
    ValueError
        If an atom has no element, an occupancy outside (0, 1], or a value that is no number.
    """
    return _Sites(block, lattice, formula).read()


class _Sites:
    """What `read_sites` knows while it reads."""

    def __init__(
        self, block: DataBlock, lattice: tuple[float, float, float, float, float, float], formula: set[int]
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
        found = meant_fraction(text)
        if found is None:
            raise ValueError(f"{self.block.source}: a coordinate of {name} must be a number, got {text!r}")
        value, decimals = found
        if decimals:
            self.decimals.append(decimals)
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
        if kind and len(word) == 2 and re.fullmatch(r"[A-Z]{2}\d+", text) and all(map(atomic_number, word)):
            raise ValueError(
                f"{self.block.source}: {text!r} is a molecule: give each of its atoms its own row"
            )
        if word.lower() in ("d", "t"):
            self.taken[f"{'deuterium' if word.lower() == 'd' else 'tritium'} taken as hydrogen"] = None
            return 1
        if word.lower() in _WATER:
            self.taken[f"{word} taken as oxygen"] = None
            return 8
        two, one = (atomic_number(word[:length]) if len(word) >= length else 0 for length in (2, 1))
        if kind and len(word) <= 2:
            number = two or one
        elif len(word) > 1 and word[1].isupper() and two and one:
            # CA1 is Ca or C: only the formula can tell
            fitting = {two, one} & self.formula
            if len(fitting) != 1:
                raise ValueError(
                    f"{self.block.source}: {text!r} may be {element_symbol(two)} or {element_symbol(one)}: give "
                    "its element as _atom_site_type_symbol"
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
        for row, (label, value) in enumerate(zip(labels, result, strict=True)):
            if value > 0.3:
                self.taken[f"U = {value:.2f} Å² of {label} is out of reason (is it B?) and not used"] = None
                result[row] = math.nan
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


_NO_ATOM = frozenset(["x", "q", "va", "vac", "vc", "vacancy", "void", "du", "dum", "dummy"])
_WATER = frozenset(["wat", "water", "wa", "ow", "oh", "hoh"])
