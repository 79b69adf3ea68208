"""The cell and Cartesian frame in which another program knows a crystal's symmetry.

microinfer writes a crystal's operators in the Cartesian frame of the CIF's own cell. Other programs look
symmetry up by a name and fix its axes themselves: in orix the two-fold axis of 2/m lies on z, those of -3m on
a. So a phase is handed over in a cell whose frame (a along x, c* along z) has the program's axes, and the
orientations turn with it: ``T @ M`` for the rotation T from our frame to that of the cell. A reflection g of
the CIF's cell is T @ g there, lands at ``(T M).T @ (T g)``, and the pattern stays the same.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase, lattice_basis

if TYPE_CHECKING:
    from orix.quaternion.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class ExportFrame:
    """A crystal phase in the cell and Cartesian frame of an orix point group.

    Attributes
    ----------
    symmetry : orix.quaternion.symmetry.Symmetry
        The point group: the crystal's own if its proper rotations are the phase's operators, otherwise its
        Laue class, otherwise the proper group of the operators.
    cell : ndarray of int64, shape (3, 3)
        Rows: the axes a, b, c of the exported cell in those of the CIF's. Indices follow, ``hkl' = cell @
        hkl``.
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees, of the exported cell.
    rotation : ndarray of float64, shape (3, 3)
        T: from the CIF cell's Cartesian frame to that of the exported cell; the identity for equal cells.
    """

    symmetry: "Symmetry"
    cell: NDArray[np.int64]
    lattice: tuple[float, ...]
    rotation: NDArray[np.float64]


def export_frame(phase: CrystalPhase, point_groups: Sequence[str] | None = None) -> ExportFrame:
    """Find the cell in which a phase's operators are those of an orix point group.

    Parameters
    ----------
    phase : CrystalPhase
        The phase.
    point_groups : sequence of str, optional
        Names to choose from, the wanted first. All of orix's by default: the crystal's own, its Laue class,
        the proper groups (so P-31m becomes 312 and keeps its cell).

    Returns
    -------
    ExportFrame
        With the smallest cell, then the most wanted point group, then the cell closest to the CIF's.

    Raises
    ------
    ValueError
        If no cell of the lattice has the axes of such a point group.
    """
    cells, volumes = _cells()
    bases = cells @ phase.basis
    lattices = _lattice_parameters(bases)
    # the CIF's own cell first, then permuted axes, then axes that keep their sense and lie near their old
    # place
    own = np.eye(3, dtype=np.int64)
    departure = np.abs(cells - own).sum(axis=(1, 2))
    order = np.lexsort(
        [departure, (cells < 0).sum(axis=(1, 2)), np.abs(cells).sum(axis=(1, 2)), departure > 0]
    )
    cells, volumes, bases, lattices = (values[order] for values in (cells, volumes, bases, lattices))
    for volume in np.unique(volumes):
        for symmetry in _point_groups(phase, point_groups):
            expected = _proper_rotations(symmetry)
            if len(expected) != len(phase.operators):
                continue
            for index in np.flatnonzero((volumes == volume) & _is_conventional(lattices, symmetry.system)):
                identical = np.array_equal(cells[index], own)
                rotation = np.eye(3) if identical else _turn(bases[index], lattice_basis(lattices[index]))
                turned = rotation @ phase.operators @ rotation.T
                difference = np.abs(turned[:, None] - expected[None]).max(axis=(2, 3))
                if (difference.min(axis=1) < 1e-3).all():
                    lattice = phase.lattice if identical else tuple(float(x) for x in lattices[index])
                    return ExportFrame(symmetry, cells[index], lattice, rotation)
    raise ValueError(
        f"phase {phase.name!r} (point group {phase.point_group!r}, {len(phase.operators)} operators): "
        f"no cell of its lattice has the axes of {point_groups or 'an orix point group'}"
    )


def bunge_angles(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Passive Bunge Euler angles phi1, Phi, phi2 of lab-to-crystal rotations.

    Parameters
    ----------
    matrix : ndarray of float64, shape (N, 3, 3)

    Returns
    -------
    ndarray of float64, shape (N, 3)
        Radians; where Phi is 0 or pi, phi2 is 0.
    """
    from scipy.spatial.transform import Rotation

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock", category=UserWarning)
        return np.asarray(Rotation.from_matrix(matrix).inv().as_euler("ZXZ"))


@cache
def orix_groups() -> "dict[str, Symmetry]":
    """All of orix's point groups by name."""
    from orix.quaternion import symmetry

    return {
        group.name: group
        for group in vars(symmetry).values()
        if isinstance(group, symmetry.Symmetry) and group.name
    }


@cache
def _cells() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right-handed cells made of the CIF's axes, and their volumes in CIF cells.

    Sums and differences of the axes hold permuted cells, the conventional cell of a primitive one and the
    hexagonal cell of a rhombohedral one; the last is the triple hexagonal cell, turned by 30 degrees.
    """
    cells = np.array(list(product((-1, 0, 1), repeat=9)), np.int64).reshape(-1, 3, 3)
    cells = np.concatenate([cells, [[[2, 1, 0], [-1, 1, 0], [0, 0, 1]]]])
    volumes = np.rint(np.linalg.det(cells)).astype(np.int64)
    return cells[volumes > 0], volumes[volumes > 0]


def _lattice_parameters(bases: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(bases, axis=-1)
    cosines = [
        np.einsum("nj,nj->n", bases[:, i], bases[:, j]) / (lengths[:, i] * lengths[:, j])
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    return np.column_stack([lengths, np.rad2deg(np.arccos(np.clip(cosines, -1.0, 1.0))).T])


def _is_conventional(lattices: NDArray[np.float64], system: str | None) -> NDArray[np.bool_]:
    """Whether lattice parameters are those of a system's conventional cell (monoclinic: any unique axis)."""
    a, b, c, alpha, beta, gamma = lattices.T

    def equal(first: Any, second: Any) -> Any:
        return np.isclose(first, second, rtol=1e-3, atol=0.05 if np.isscalar(second) else 0.0)

    right = [equal(angle, 90.0) for angle in (alpha, beta, gamma)]
    rectangular = right[0] & right[1] & right[2]
    conventional = {
        "triclinic": np.ones(len(lattices), bool),
        "monoclinic": right[0].astype(int) + right[1] + right[2] >= 2,
        "orthorhombic": rectangular,
        "tetragonal": rectangular & equal(a, b),
        "trigonal": right[0] & right[1] & equal(gamma, 120.0) & equal(a, b),
        "hexagonal": right[0] & right[1] & equal(gamma, 120.0) & equal(a, b),
        "cubic": rectangular & equal(a, b) & equal(a, c),
    }
    return np.asarray(conventional["triclinic" if system is None else system])


def _turn(basis: NDArray[np.float64], standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation T with ``basis @ T.T == standard``."""
    return np.linalg.solve(basis, standard).T


def _proper_rotations(symmetry: "Symmetry") -> NDArray[np.float64]:
    return np.asarray(symmetry[~np.asarray(symmetry.improper, bool)].to_matrix())


def _point_groups(phase: CrystalPhase, names: Sequence[str] | None) -> "list[Symmetry]":
    """Candidates, the wanted first, of rotations alone or with inversion: a phase knows no mirrors."""
    groups = orix_groups()
    if names is not None:
        return [groups[name] for name in names]
    own = groups.get(phase.point_group)
    laue = None if own is None else groups.get(own.laue.name)  # orix does not name the Laue class of m
    wanted = [group for group in (own, laue) if group is not None]
    if laue is None:
        wanted += [group for group in groups.values() if group.contains_inversion]
    wanted += [group for group in groups.values() if group.is_proper]
    return [group for group in wanted if group.is_proper or group.contains_inversion]
