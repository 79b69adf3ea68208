"""Crystal structures to simulate: from CIF files, or built in."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CellAtoms, CrystalPhase, lattice_basis
from microinfer.crystals.symmetry import proper_operators
from microinfer.extras import require_packages


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
    space_group, point_group : str
        Hermann-Mauguin symbols.
    rotations : ndarray of float64, shape (G, 3, 3)
        Rotational parts of the space group's operations on fractional coordinates.
    centring : ndarray of float64, shape (T, 3)
        The lattice's centring translations in fractional coordinates, zero included.
    """

    name: str
    lattice: tuple[float, float, float, float, float, float]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    occupancy: NDArray[np.float64]
    space_group: str
    point_group: str
    rotations: NDArray[np.float64]
    centring: NDArray[np.float64]

    def operators(self, symmetry: str = "laue") -> NDArray[np.float64]:
        """Proper operators in the crystal's Cartesian frame, shape (G, 3, 3); symmetry is laue or point_group."""
        if symmetry not in ("laue", "point_group"):
            raise ValueError(f"symmetry must be 'laue' or 'point_group', got {symmetry!r}")
        return proper_operators(self.rotations, lattice_basis(self.lattice), laue=symmetry == "laue")

    def to_py4dstem(self) -> Any:
        """Return the structure as a `py4DSTEM.process.diffraction.Crystal`."""
        require_packages("simulation", "py4DSTEM")
        from py4DSTEM.process.diffraction import Crystal

        return Crystal(self.positions, self.numbers, self.lattice, occupancy=self.occupancy)

    def phase(self, k_max: float, symmetry: str = "laue") -> CrystalPhase:
        """Return what prediction needs of this structure, reflections up to k_max (1/Angstrom) included."""
        crystal = self.to_py4dstem()
        crystal.calculate_structure_factors(k_max, tol_structure_factor=1e-4)
        amplitude = np.abs(crystal.struct_factors)
        keep = crystal.g_vec_leng > 1e-9
        reflections = np.column_stack([crystal.hkl.T[keep], amplitude[keep]])
        return CrystalPhase(
            self.name,
            self.lattice,
            self.space_group,
            self.point_group,
            self.operators(symmetry),
            reflections,
            CellAtoms.of(self.numbers, self.positions, self.occupancy),
        )


def load_structure(source: str | Path, name: str = "") -> Structure:
    """Read a structure from a CIF file, or take a built-in one (``"Cu"``, ``"Cu2O"``).

    Parameters
    ----------
    source : str or Path
        A CIF file's path, or a built-in name.
    name : str
        The phase's name in maps; by default the built-in name, or the file's without its ending.

    Raises
    ------
    FileNotFoundError
        If source is neither a file nor a built-in name.
    ValueError
        If the file holds no structure that can be simulated.
    """
    if str(source) in _BUILT_IN:
        lattice_constant, space_group, sites = _BUILT_IN[str(source)]
        return _from_space_group(name or str(source), lattice_constant, space_group, sites)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: neither a CIF file nor a built-in phase ({', '.join(sorted(_BUILT_IN))})"
        )
    return _read_cif(path, name or path.stem)


_Sites = list[tuple[int, tuple[float, float, float]]]
_BUILT_IN: dict[str, tuple[float, int, _Sites]] = {
    "Cu": (3.615, 225, [(29, (0.0, 0.0, 0.0))]),
    # diffpy has Pn-3m in origin choice 1: oxygen on 2a, copper on 4b
    "Cu2O": (4.2696, 224, [(29, (0.25, 0.25, 0.25)), (8, (0.0, 0.0, 0.0))]),
}


def _from_space_group(name: str, a: float, number: int, sites: _Sites) -> Structure:
    from diffpy.structure.spacegroups import GetSpaceGroup

    group = GetSpaceGroup(number)
    positions: list[NDArray[np.float64]] = []
    numbers: list[int] = []
    for element, site in sites:
        images = np.array([np.mod(op.R @ np.array(site) + op.t, 1.0) for op in group.symop_list])
        images = np.unique(np.mod(np.round(images, 6), 1.0), axis=0)
        positions.extend(images)
        numbers.extend([element] * len(images))
    return Structure(
        name=name,
        lattice=(a, a, a, 90.0, 90.0, 90.0),
        positions=np.array(positions),
        numbers=np.array(numbers),
        occupancy=np.ones(len(numbers)),
        space_group=group.short_name,
        point_group=_point_group(group.point_group_name),
        rotations=_unique_rotations(group.symop_list),
        centring=_centring(group.symop_list),
    )


def _read_cif(path: Path, name: str) -> Structure:
    from diffpy.structure.parsers import getParser
    from diffpy.structure.spacegroups import GetSpaceGroup
    from diffpy.structure.structureerrors import StructureFormatError

    parser = getParser("cif")
    try:
        structure = parser.parseFile(str(path))
    except (StructureFormatError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: not a readable CIF file: {error}") from error
    if not len(structure):
        raise ValueError(f"{path}: the CIF file holds no atoms")
    occupancy = np.array([float(atom.occupancy) for atom in structure])
    if not np.all((occupancy > 0) & (occupancy <= 1)):
        raise ValueError(f"{path}: occupancies must lie in (0, 1], got {sorted(set(occupancy.tolist()))}")
    group = parser.spacegroup
    symbol = re.sub(r"^H", "R", group.short_name) if group is not None else "P1"
    point_group = _point_group(group.point_group_name) if group is not None else "1"
    operations = group.symop_list if group is not None else GetSpaceGroup(1).symop_list
    return Structure(
        name=name,
        lattice=structure.lattice.abcABG(),
        positions=np.array([atom.xyz for atom in structure], np.float64),
        numbers=np.array([_atomic_number(atom.element, path) for atom in structure]),
        occupancy=occupancy,
        space_group=symbol,
        point_group=point_group,
        rotations=_unique_rotations(operations),
        centring=_centring(operations),
    )


def _unique_rotations(operations: Any) -> NDArray[np.float64]:
    return np.asarray(np.unique(np.array([np.round(op.R, 6) for op in operations], np.float64) + 0.0, axis=0))


def _centring(operations: Any) -> NDArray[np.float64]:
    shifts = [np.mod(op.t, 1.0) for op in operations if np.allclose(op.R, np.eye(3))]
    return np.asarray(np.unique(np.mod(np.round(shifts, 6), 1.0), axis=0))


def _point_group(diffpy_name: str) -> str:
    """Hermann-Mauguin symbol from diffpy's, e.g. ``PGm3barm`` to ``m-3m``."""
    return re.sub(r"(\d)bar", r"-\1", diffpy_name.removeprefix("PG"))


def _atomic_number(label: str, path: Path) -> int:
    match = re.match(r"[A-Z][a-z]?", label.strip())
    if match is None or match.group() not in _ELEMENTS:
        raise ValueError(f"{path}: {label!r} is no chemical element")
    return _ELEMENTS.index(match.group()) + 1


_ELEMENTS = (  # noqa: SIM905
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
    "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf"
).split()
