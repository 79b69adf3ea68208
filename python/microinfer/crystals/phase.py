"""The crystal phase a model knows: lattice, proper symmetry operators, reflections."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class CellAtoms(NamedTuple):
    """All atoms of a unit cell."""

    numbers: NDArray[np.int64]
    """(A,), atomic numbers."""
    positions: NDArray[np.float64]
    """(A, 3), fractional coordinates."""
    occupancy: NDArray[np.float64]
    """(A,), in (0, 1]."""

    @classmethod
    def of(cls, numbers: ArrayLike, positions: ArrayLike, occupancy: ArrayLike) -> "CellAtoms":
        """Make them of array-likes; ValueError where their lengths differ."""
        atoms = cls(
            np.asarray(numbers, np.int64),
            np.asarray(positions, np.float64).reshape(-1, 3),
            np.asarray(occupancy, np.float64),
        )
        if not len(atoms.numbers) == len(atoms.positions) == len(atoms.occupancy):
            raise ValueError(
                f"atoms must have as many numbers as positions and occupancies, got {len(atoms.numbers)}, "
                f"{len(atoms.positions)} and {len(atoms.occupancy)}"
            )
        return atoms

    def __repr__(self) -> str:
        return f"CellAtoms({self.formula}, {len(self.numbers)} in the unit cell)"

    @property
    def formula(self) -> str:
        """Atoms of the unit cell by element, e.g. ``"Cu4 O2"``, each counted with its occupancy."""
        counts = {number: self.occupancy[self.numbers == number].sum() for number in self.numbers.tolist()}
        return " ".join(f"{ELEMENTS[number - 1]}{count:.4g}" for number, count in counts.items())


ELEMENTS = (  # noqa: SIM905
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
    "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf"
).split()
"""Symbols by atomic number, hydrogen first."""


@dataclass(frozen=True, eq=False)
class CrystalPhase:
    """A crystal phase, as far as prediction and maps need it.

    The crystal's Cartesian frame has a along x and b in the xy plane, hence c* along z.

    Attributes
    ----------
    name : str
        Name shown in maps and files, e.g. ``"Cu"``.
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees.
    space_group : str
        Hermann-Mauguin symbol, e.g. ``"Fm-3m"``; empty where unknown.
    point_group : str
        Point group of the crystal, e.g. ``"m-3m"``.
    operators : ndarray of float64, shape (G, 3, 3)
        Proper rotations under which two orientations count as the same, in the crystal's Cartesian frame.
    reflections : ndarray of float64, shape (M, 4)
        h, k, l and the kinematic structure-factor amplitude of the reflections; may be empty.
    atoms : CellAtoms, optional
        Of the unit cell, for exports; models and maps of older versions have none.
    """

    name: str
    lattice: tuple[float, float, float, float, float, float]
    space_group: str
    point_group: str
    operators: NDArray[np.float64]
    reflections: NDArray[np.float64]
    atoms: CellAtoms | None = None

    def __post_init__(self) -> None:
        operators = np.asarray(self.operators, np.float64)
        if operators.ndim != 3 or operators.shape[1:] != (3, 3) or len(operators) == 0:
            raise ValueError(f"operators must have the shape (G, 3, 3) with G >= 1, got {operators.shape}")
        identity = np.einsum("gij,gkj->gik", operators, operators)
        if not np.allclose(identity, np.eye(3), atol=1e-6) or not np.allclose(np.linalg.det(operators), 1.0):
            raise ValueError(f"operators of phase {self.name!r} must be proper rotations")
        if len(self.lattice) != 6 or min(self.lattice) <= 0:
            raise ValueError(
                f"lattice must be six positive numbers (a, b, c, alpha, beta, gamma), got {self.lattice}"
            )
        object.__setattr__(self, "operators", operators)
        object.__setattr__(self, "reflections", np.asarray(self.reflections, np.float64).reshape(-1, 4))
        object.__setattr__(self, "lattice", tuple(float(x) for x in self.lattice))

    def __repr__(self) -> str:
        groups = f"{self.space_group} ({self.point_group})" if self.space_group else self.point_group
        lengths, angles = (
            " ".join(f"{x:.6g}" for x in half) for half in (self.lattice[:3], self.lattice[3:])
        )
        formula = "" if self.atoms is None else f", {self.atoms.formula} in the cell"
        reach = np.linalg.norm(self.reflections[:, :3] @ self.reciprocal, axis=1).max(initial=0.0)
        reflections = f"{len(self.reflections)} reflections" + (f" to {reach:.2f} 1/Å" if reach else "")
        return f"CrystalPhase({self.name!r}: {groups}, {lengths} Å, {angles}°{formula}, {reflections})"

    @property
    def basis(self) -> NDArray[np.float64]:
        """Lattice vectors a, b, c as rows, in Angstrom, shape (3, 3)."""
        return lattice_basis(self.lattice)

    @property
    def hexagonal_axes(self) -> bool:
        """Whether the cell is a hexagonal one, a = b and gamma = 120 degrees: directions then have four indices."""
        a, b, _, *angles = self.lattice
        return bool(np.isclose(a, b, rtol=1e-3) and np.allclose(angles, (90.0, 90.0, 120.0), atol=0.05))

    @property
    def reciprocal(self) -> NDArray[np.float64]:
        """Reciprocal lattice vectors a*, b*, c* as rows, in 1/Angstrom without 2 pi, shape (3, 3)."""
        a, b, c = self.basis
        # not by np.linalg.inv, after which LAPACK's threads spin for a while, beside a mapping's
        products: NDArray[np.float64] = np.cross([b, c, a], [c, a, b])
        volume: float = np.dot(a, products[0])
        return products / volume

    def to_dict(self) -> dict[str, Any]:
        """Return the phase as JSON-able values."""
        return {
            "name": self.name,
            "lattice": list(self.lattice),
            "space_group": self.space_group,
            "point_group": self.point_group,
            "operators": self.operators.tolist(),
            "reflections": self.reflections.tolist(),
            **(
                {}
                if self.atoms is None
                else {"atoms": {k: v.tolist() for k, v in self.atoms._asdict().items()}}
            ),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CrystalPhase":
        """Return the phase that `to_dict` described."""
        return cls(
            name=values["name"],
            lattice=tuple(values["lattice"]),
            space_group=values["space_group"],
            point_group=values["point_group"],
            operators=np.array(values["operators"], np.float64),
            reflections=np.array(values["reflections"], np.float64),
            atoms=CellAtoms.of(**values["atoms"]) if "atoms" in values else None,
        )


def phase_names(phases: Iterable[CrystalPhase]) -> str:
    """Names of phases with their space groups, or point groups, for a line of text."""
    return ", ".join(f"{phase.name} ({phase.space_group or phase.point_group})" for phase in phases)


def lattice_basis(lattice: tuple[float, ...]) -> NDArray[np.float64]:
    """Lattice vectors as rows in the frame with a along x and b in the xy plane.

    Parameters
    ----------
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees.

    Returns
    -------
    ndarray of float64, shape (3, 3)
        Rows a, b, c in Angstrom.
    """
    a, b, c = lattice[:3]
    alpha, beta, gamma = np.deg2rad(lattice[3:])
    cx = np.cos(beta)
    cy = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    squared = 1.0 - cx**2 - cy**2
    if not squared > 0:
        raise ValueError(f"no unit cell has the lattice parameters {tuple(lattice)}")
    return np.array(
        [
            [a, 0.0, 0.0],
            [b * np.cos(gamma), b * np.sin(gamma), 0.0],
            [c * cx, c * cy, c * np.sqrt(squared)],
        ]
    )
