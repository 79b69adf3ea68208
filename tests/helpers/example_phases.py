"""Crystal phases in several settings; the amplitudes of their reflections have their operators' symmetry."""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from microinfer.crystals.phase import CrystalPhase, lattice_basis

RHOMBOHEDRAL = (5.5, 5.5, 5.5, 55, 55, 55)
PRIMITIVE = (2.556, 2.556, 2.556, 60, 60, 60)


def turn(axis, order: int) -> NDArray[np.float64]:
    """Rotation of an order about an axis."""
    axis = np.asarray(axis, float)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * 2 * np.pi / order).as_matrix()


def group(*generators) -> NDArray[np.float64]:
    """All products of the generators."""
    elements = [np.eye(3)]
    for element in elements:
        for generator in generators:
            product_ = generator @ element
            if not any(np.allclose(product_, known) for known in elements):
                elements.append(product_)
    return np.array(elements)


def make_phase(name, lattice, space_group, point_group, *generators, centring=lambda *hkl: True):
    operators = group(*generators)
    reciprocal = np.linalg.inv(lattice_basis(lattice)).T
    bound = int(1.6 * max(lattice[:3])) + 1
    hkl = np.array([x for x in product(range(-bound, bound + 1), repeat=3) if any(x) and centring(*x)])
    g = hkl @ reciprocal
    hkl, g = hkl[np.linalg.norm(g, axis=1) < 1.6], g[np.linalg.norm(g, axis=1) < 1.6]
    wave = np.array([0.9, 0.4, -1.3])
    amplitude = sum(1.5 + np.cos(2 * np.pi * (g @ operator.T) @ wave) for operator in operators) / len(
        operators
    )
    amplitude *= 20 * np.exp(-np.sum(g**2, axis=1))
    return CrystalPhase(name, lattice, space_group, point_group, operators, np.column_stack([hkl, amplitude]))


def _face_centred(*hkl):
    return len({index % 2 for index in hkl}) == 1


_RHOMB, _PRIM = lattice_basis(RHOMBOHEDRAL), lattice_basis(PRIMITIVE)
_HEXAGONAL = (4.9, 4.9, 5.4, 90, 90, 120)

_CUBIC = (turn([0, 0, 1], 4), turn([1, 1, 1], 3))

PHASES = {
    phase.name: phase
    for phase in (
        make_phase("Cu", (3.61, 3.61, 3.61, 90, 90, 90), "Fm-3m", "m-3m", *_CUBIC, centring=_face_centred),
        make_phase("Cu primitive", PRIMITIVE, "Fm-3m", "m-3m",
                   turn(_PRIM.sum(0), 3), turn(_PRIM[0] + _PRIM[1] - _PRIM[2], 4)),
        make_phase("ZnS", (5.41, 5.41, 5.41, 90, 90, 90), "F-43m", "-43m", *_CUBIC, centring=_face_centred),
        make_phase("Ti", (2.95, 2.95, 4.68, 90, 90, 120), "P6_3/mmc", "6/mmm",
                   turn([0, 0, 1], 6), turn([1, 0, 0], 2)),
        make_phase("quartz", _HEXAGONAL, "P3_121", "321", turn([0, 0, 1], 3), turn([1, 0, 0], 2)),
        make_phase("P-31m", _HEXAGONAL, "P-31m", "-3m", turn([0, 0, 1], 3), turn([0, 1, 0], 2)),
        make_phase("calcite", RHOMBOHEDRAL, "R-3c", "-3m",
                   turn(_RHOMB.sum(0), 3), turn(_RHOMB[0] - _RHOMB[1], 2)),
        make_phase("Li2MnO3", (4.93, 8.53, 5.03, 90, 109.2, 90), "C2/m", "2/m", turn([0, 1, 0], 2),
                   centring=lambda *hkl: (hkl[0] + hkl[1]) % 2 == 0),
        make_phase("forsterite", (4.76, 10.2, 5.98, 90, 90, 90), "Pbnm", "mmm",
                   turn([0, 0, 1], 2), turn([1, 0, 0], 2)),
        make_phase("triclinic", (4.1, 6.4, 3.6, 94, 117, 88), "C-1", "-1"),
    )
}  # fmt: skip
