"""Crystal structures to simulate: from CIF files, or built in."""

import contextlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals import atoms as _atoms
from microinfer.crystals.atoms import Atoms
from microinfer.crystals.cif import CrystalBlock, read_cif, split_source
from microinfer.crystals.elements import element_symbol
from microinfer.crystals.index_grid import complete_k_max
from microinfer.crystals.phase import CellAtoms, CrystalPhase, lattice_basis
from microinfer.crystals.space_group import (
    SpaceGroup,
    found_group,
    other_settings,
    stated_groups,
    unknown_symbols,
)
from microinfer.crystals.symmetry import proper_operators
from microinfer.extras import require_packages

SYMMETRIES = ("laue", "point_group", "as_written")


@dataclass(frozen=True, eq=False)
class Structure:
    """A crystal structure with its symmetry, ready to be simulated.

    Attributes
    ----------
    name : str
        Name of the phase.
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees.
    positions : ndarray of float64, shape (A, 3)
        Fractional coordinates of all atoms of the unit cell.
    numbers : ndarray of int64, shape (A,)
        Atomic numbers.
    occupancy : ndarray of float64, shape (A,)
        Occupancies in (0, 1]; they weigh the structure factors, dynamical and kinematic.
    displacement : ndarray of float64, shape (A,)
        Mean square displacements U in Angstrom^2; NaN where the file gives none.
    group : SpaceGroup
        The space group: the file's, or the one found in the atoms where the file says P1 or nothing.
    written : SpaceGroup
        The file's space group.
    source : str
        File and block, or ``"built in"``.
    notes : tuple of str
        What of the file was ignored or taken as something else, and what was found.
    """

    name: str
    lattice: tuple[float, float, float, float, float, float]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    occupancy: NDArray[np.float64]
    displacement: NDArray[np.float64]
    group: SpaceGroup
    written: SpaceGroup
    source: str = "built in"
    notes: tuple[str, ...] = ()

    @property
    def space_group(self) -> str:
        """Hermann-Mauguin symbol of the space group."""
        return self.group.symbol

    @property
    def point_group(self) -> str:
        """Hermann-Mauguin symbol of the point group."""
        return self.group.point_group

    @property
    def rotations(self) -> NDArray[np.float64]:
        """Rotational parts of the space group's operations on fractional coordinates, shape (G, 3, 3)."""
        return self.group.rotations

    @property
    def centring(self) -> NDArray[np.float64]:
        """The lattice's centring translations in fractional coordinates, zero included, shape (T, 3)."""
        return self.group.centring

    @property
    def volume(self) -> float:
        """Volume of the unit cell in Angstrom^3."""
        return float(np.linalg.det(lattice_basis(self.lattice)))

    @property
    def density(self) -> float:
        """Density in g/cm^3."""
        return _atoms.density(self.numbers, self.occupancy, self.volume)

    def operators(self, symmetry: str = "laue") -> NDArray[np.float64]:
        """Proper operators in the crystal's Cartesian frame.

        Parameters
        ----------
        symmetry : str
            ``"laue"``: of the Laue class; ``"point_group"``: the crystal's own proper rotations alone;
            ``"as_written"``: of the Laue class of the operations that the file states, where that is P1, too.

        Returns
        -------
        ndarray of float64, shape (G, 3, 3)
        """
        if symmetry not in SYMMETRIES:
            raise ValueError(f"symmetry must be one of {', '.join(map(repr, SYMMETRIES))}, got {symmetry!r}")
        group = self.written if symmetry == "as_written" else self.group
        return proper_operators(group.rotations, lattice_basis(self.lattice), laue=symmetry != "point_group")

    def thermal_sigma(self, default: float) -> dict[int, float]:
        """Root-mean-square displacement of each element in Angstrom.

        Parameters
        ----------
        default : float
            For elements without displacement factors.

        Returns
        -------
        dict of int to float
            By atomic number: the root of the mean U of the element's atoms that have one.
        """
        return {int(number): default for number in np.unique(self.numbers)} | self._measured_sigma()

    def _measured_sigma(self) -> dict[int, float]:
        sigma = {}
        for number in np.unique(self.numbers):
            given = (self.numbers == number) & np.isfinite(self.displacement)
            if given.any():
                mean = np.average(self.displacement[given], weights=self.occupancy[given])
                sigma[int(number)] = math.sqrt(mean)
        return sigma

    def to_py4dstem(self) -> Any:
        """Return the structure as a `py4DSTEM.process.diffraction.Crystal`."""
        require_packages("simulation", "py4DSTEM")
        from py4DSTEM.process.diffraction import Crystal

        return Crystal(self.positions, self.numbers, self.lattice, occupancy=self.occupancy)

    def phase(self, k_max: float, symmetry: str = "laue") -> CrystalPhase:
        """Return what prediction needs of this structure, reflections up to k_max (1/Angstrom) included."""
        crystal = self.to_py4dstem()
        reach = complete_k_max(lattice_basis(self.lattice), k_max)
        crystal.calculate_structure_factors(reach, tol_structure_factor=1e-4)
        amplitude = np.abs(crystal.struct_factors)
        keep = (crystal.g_vec_leng > 1e-9) & (crystal.g_vec_leng <= k_max)
        reflections = np.column_stack([crystal.hkl.T[keep], amplitude[keep]])
        group = self.written if symmetry == "as_written" else self.group
        return CrystalPhase(
            self.name,
            self.lattice,
            group.symbol,
            group.point_group,
            self.operators(symmetry),
            reflections,
            CellAtoms.of(self.numbers, self.positions, self.occupancy),
        )

    def summary(self, symmetry: str = "laue") -> str:
        """One line that says what was read: space group, cell, atoms, density, displacements, what was ignored.

        Parameters
        ----------
        symmetry : str
            As of `operators`: ``"as_written"`` is said where it makes a difference.
        """
        a, b, c, *angles = (f"{value:g}" for value in np.round(self.lattice, 4))
        atoms = CellAtoms.of(self.numbers, self.positions, self.occupancy)
        sigma = self._measured_sigma()
        given = ", ".join(f"{element_symbol(number)} {value:.3f}" for number, value in sigma.items())
        thermal = "the simulation's thermal_sigma, as no displacement factors are known"
        if sigma:
            others = (
                ""
                if set(sigma) == set(self.numbers.tolist())
                else ", the simulation's thermal_sigma for the others"
            )
            thermal = f"displacements of the file: {given} Å{others}"
        setting = f"{self.group.setting}, " if self.group.setting.replace(" ", "") != self.space_group else ""
        return "; ".join(
            [
                f"{self.name} ({self.source}): {self.space_group} ({setting}number {self.group.number})",
                f"cell {a} {b} {c} Å, {' '.join(angles)}°",
                f"{atoms.formula} in the cell",
                f"{self.density:.3g} g/cm³",
                f"{self.volume / self.occupancy.sum():.4g} Å³ per atom",
                thermal,
                *self.notes,
                *([f"used as written: {self.written.symbol}"] if symmetry == "as_written" else []),
            ]
        )


def load_structure(source: str | Path, name: str = "") -> Structure:
    """Read a structure from a CIF file, or take a built-in one (``"Cu"``, ``"Cu2O"``).

    Parameters
    ----------
    source : str or Path
        A CIF file's path, with ``#BLOCK`` behind it where the file has several crystals, or a built-in name.
    name : str
        The phase's name in maps; by default the built-in name, the block's where one is chosen, or the file's
        without its ending.

    Raises
    ------
    FileNotFoundError
        If source is neither a file nor a built-in name.
    ValueError
        If the file holds no structure that can be simulated, several, or one that contradicts itself.
    """
    if str(source) in _BUILT_IN:
        lattice, group, sites = _BUILT_IN[str(source)]
        (space_group,) = stated_groups(_built_in_block(lattice, group))
        positions = np.array([site for _, site in sites])
        expanded = [
            _atoms.orbit(site, space_group.operations, lattice_basis(lattice), 0.05) for site in positions
        ]
        numbers = np.repeat([number for number, _ in sites], [len(images) for images in expanded])
        return Structure(
            name=name or str(source),
            lattice=lattice,
            positions=np.concatenate(expanded),
            numbers=numbers,
            occupancy=np.ones(len(numbers)),
            displacement=np.full(len(numbers), np.nan),
            group=space_group,
            written=space_group,
        )
    path, block = split_source(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: neither a CIF file nor a built-in phase ({', '.join(sorted(_BUILT_IN))})"
        )
    return _from_block(read_cif(path, block), name or block or path.stem)


_Lattice = tuple[float, float, float, float, float, float]
_BUILT_IN: dict[str, tuple[_Lattice, str, list[tuple[int, tuple[float, float, float]]]]] = {
    "Cu": ((3.615, 3.615, 3.615, 90.0, 90.0, 90.0), "F m -3 m", [(29, (0.0, 0.0, 0.0))]),
    "Cu2O": (
        (4.2696, 4.2696, 4.2696, 90.0, 90.0, 90.0),
        "P n -3 m:1",
        [(29, (0.25, 0.25, 0.25)), (8, (0.0, 0.0, 0.0))],
    ),
}


def _built_in_block(lattice: _Lattice, symbol: str) -> CrystalBlock:
    return CrystalBlock("built in", lattice, (), 99, (), symbol, "", 0, {}, math.nan, ())


def _from_block(block: CrystalBlock, name: str) -> Structure:
    groups = stated_groups(block)
    tolerance = 2.0 * 10.0**-block.decimals * max(block.lattice[:3])
    written, atoms, origin = _choose(block, groups, float(np.clip(tolerance, 0.05, 0.25)))
    lattice = _atoms.symmetric_lattice(block.lattice, written.rotations)
    group, notes = written, [*unknown_symbols(block), *origin, *block.notes, *atoms.notes]
    if (strain := written.strain(block.lattice)) > 1e-4:
        notes.append(f"the file's cell is {strain:.2%} off {written.symbol}, and made exact")
    found, precision = found_group(lattice, *atoms.points())
    if len(found.operations) > len(written.operations):
        if len(written.operations) == 1:
            group = found
            lattice = _atoms.symmetric_lattice(lattice, found.rotations)
            atoms = atoms.symmetrised(found.operations)
            said = "P1" if block.symbol or block.number or block.operations or block.hall else "nothing"
            notes.append(f"symmetry found to {precision:.3g} Å, the file says {said}")
        elif len(found.rotations) > len(written.rotations):
            notes.append(f"the atoms have more symmetry than written: {found.symbol} to {precision:.3g} Å")
    _compare_with_name(block, written, group)
    volume = float(np.linalg.det(lattice_basis(lattice)))
    notes += _check(block, written, atoms, volume)
    return Structure(
        name=name,
        lattice=lattice,
        positions=atoms.positions,
        numbers=atoms.numbers,
        occupancy=atoms.occupancy,
        displacement=atoms.displacement,
        group=group,
        written=written,
        source=block.source,
        notes=tuple(notes),
    )


def _choose(
    block: CrystalBlock, groups: list[SpaceGroup], tolerance: float
) -> tuple[SpaceGroup, Atoms, list[str]]:
    """The space group that a block means, its atoms, and how it was chosen among several origins."""
    basis = lattice_basis(block.lattice)
    tried: list[tuple[SpaceGroup, Atoms]] = []
    refusal: ValueError | None = None
    for group in groups:
        try:
            tried.append((group, _atoms.expand(block, group.operations, basis, tolerance)))
        except ValueError as error:
            refusal = error
    if not tried and refusal is not None:
        raise refusal
    if len(tried) == 1:
        return *tried[0], []
    by_formula = [entry for entry in tried if _formula_difference(block, entry[1]) == ""]
    if block.formula and len(by_formula) == 1:
        return *by_formula[0], ["origin by the formula, as the file leaves it open"]
    best, second = sorted(tried, key=lambda entry: entry[1].nearest().ratio, reverse=True)[:2]
    if best[1].nearest().ratio > 1.1 * second[1].nearest().ratio:
        return *best, ["origin by the distances of the atoms, as the file leaves it open"]
    if best[1].same_amplitudes(second[1]):
        return *tried[-1], []
    described = " or ".join(f"{atoms.composition()} with {group.setting}" for group, atoms in tried)
    raise ValueError(
        f"{block.source}: {block.symbol or block.number} has two origins and the file does not say which; it is "
        f"{described}: write that symbol into _space_group_name_H-M_alt, or list the operations"
    )


def _compare_with_name(block: CrystalBlock, written: SpaceGroup, group: SpaceGroup) -> None:
    """Refuse a list of the identity alone beside the name of a group that the atoms do not have."""
    if len(written.operations) > 1 or not block.operations:
        return
    named = stated_groups(replace(block, operations=()))[0]
    if named.number not in (1, group.number):
        raise ValueError(
            f"{block.source}: the only operation listed is x, y, z, but the space group is given as "
            f"{named.setting} (number {named.number}), and the atoms listed have {group.symbol} (number "
            f"{group.number}): delete the operation, or name P 1"
        )


def _check(block: CrystalBlock, written: SpaceGroup, atoms: Atoms, volume: float) -> list[str]:
    """Refuse what cannot be a crystal; return what is worth saying."""
    density = _atoms.density(atoms.numbers, atoms.occupancy, volume)
    if not 0.05 < density < 30.0:
        raise ValueError(
            f"{block.source}: {atoms.composition()} in a cell of {volume:.4g} Angstrom^3 has {density:.3g} g/cm^3, and "
            "crystals have between 0.05 and 30: are the cell's lengths in Angstrom, and is the atom list complete?"
        )
    if not 2 / 3 < (block.density if math.isfinite(block.density) else density) / density < 1.5:
        raise ValueError(
            f"{block.source}: {atoms.composition()} in the cell has {density:.3g} g/cm^3, but "
            f"_exptl_crystal_density_diffrn says {block.density:g}: correct symmetry, atoms or density"
        )
    _check_distances(block, written, atoms)
    difference = _formula_difference(block, atoms)
    return [difference] if difference else []


def _check_distances(block: CrystalBlock, written: SpaceGroup, atoms: Atoms) -> None:
    """Refuse atoms inside each other, and a setting known by name alone where another makes the better crystal."""
    nearest = atoms.nearest()
    inside = nearest.distance < 0.5 or nearest.ratio < 0.5
    others: list[tuple[float, float, str]] = []
    for other in (
        other_settings(written, block.lattice) if nearest.ratio < 0.8 and not block.operations else []
    ):
        with contextlib.suppress(ValueError):
            pair = _atoms.expand(block, other.operations, lattice_basis(block.lattice), 0.05).nearest()
            others.append((pair.ratio, pair.distance, other.setting))
    better = max(others, default=(0.0, 0.0, ""))
    if not inside and better[0] < 1.05 * nearest.ratio:
        return
    hint = ""
    if better[0] > max(0.6, nearest.ratio):
        hint = (
            f"; in the setting {better[2]} of the same number the nearest are {better[1]:.2f} Angstrom apart"
        )
    raise ValueError(
        f"{block.source}: {nearest.first} and {nearest.second} are {nearest.distance:.2f} Angstrom apart in "
        f"{written.setting} (number {written.number}){hint}: correct space group, setting or coordinates, or list the "
        "operations"
    )


def _formula_difference(block: CrystalBlock, atoms: Atoms) -> str:
    """How the atoms' composition differs from the stated formula, hydrogen aside; empty where it does not."""
    counts = {
        int(number): atoms.occupancy[atoms.numbers == number].sum() for number in np.unique(atoms.numbers)
    }
    stated, listed = ({k: v for k, v in part.items() if k > 1 and v > 0} for part in (block.formula, counts))
    if not stated:
        return ""
    elements = sorted({*stated, *listed})
    shares = [np.array([part.get(key, 0.0) for key in elements]) for part in (stated, listed)]
    if not shares[1].sum() or np.abs(shares[0] / shares[0].sum() - shares[1] / shares[1].sum()).max() > 0.02:
        formula = " ".join(f"{element_symbol(number)}{count:g}" for number, count in block.formula.items())
        return f"the file's formula is {formula}"
    if 1 in block.formula and 1 not in counts:
        return "the formula's hydrogen is not in the list of atoms"
    return ""
