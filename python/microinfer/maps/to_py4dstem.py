"""Orientation maps as py4DSTEM's, for its plots, strain maps and exports."""

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase, lattice_basis
from microinfer.maps.frames_of_reference import bunge_angles
from microinfer.maps.orientation_map import OrientationMap

if TYPE_CHECKING:
    from py4DSTEM.process.diffraction import Crystal
    from py4DSTEM.process.diffraction.utils import OrientationMap as Py4dstemMap

CELL_TOLERANCE = 0.05  # of an axis' length: measured and calculated cells of one crystal lie nearer


def to_py4dstem(omap: OrientationMap, crystal: "Crystal", phase: int = 0) -> "Py4dstemMap":
    """Convert the answers of one phase to a py4DSTEM OrientationMap.

    Match 0 is the map's answer, the further matches are its alternatives in their order. Each is the equivalent
    that py4DSTEM's own matching would give: its zone axis lies in the zone axis range of the crystal's
    orientation plan or, where ``mirror`` is set, opposite to it. ``angles`` and ``family`` belong to it as in
    py4DSTEM 0.14.18; ``inds``, which count templates of the plan, stay 0. ``Crystal.plot_orientation_maps``
    draws ``family`` where pymatgen is installed; without it, it leaves mirrored answers black.

    Parameters
    ----------
    omap : OrientationMap
        The map.
    crystal : py4DSTEM.process.diffraction.Crystal
        The phase, in the same cell, with an orientation plan: one with ``calculate_correlation_array=False`` is
        enough.
    phase : int, default: 0
        Index into the map's ``phases``.

    Returns
    -------
    py4DSTEM.process.diffraction.utils.OrientationMap
        ``corr`` holds probabilities: the confidence and those of the alternatives. Where there is no answer, or
        one of another phase, it is 0 and the matrix the identity: py4DSTEM marks missing matches so, and cannot
        export the all-zero matrices that it has for patterns of too few peaks.

    Raises
    ------
    ValueError
        For a phase that the map does not have, a crystal with other axes than the phase, and one without an
        orientation plan.
    """
    from py4DSTEM.process.diffraction.utils import OrientationMap as Py4dstemMap

    if not 0 <= phase < len(omap.phases):
        raise ValueError(f"phase must lie in [0, {len(omap.phases)}), got {phase}")
    known = omap.phases[phase]
    if not _same_axes(crystal.lat_real, known):
        raise ValueError(
            f"crystal must have the axes of phase {known.name!r}, {known.basis.round(3).tolist()} Angstrom, got "
            f"{np.round(crystal.lat_real, 3).tolist()}"
        )
    if not hasattr(crystal, "orientation_zone_axis_range"):
        raise ValueError(
            "crystal must have an orientation plan: call "
            "crystal.orientation_plan(..., calculate_correlation_array=False)"
        )
    candidates = omap.candidates
    there = candidates.phase == phase
    result = Py4dstemMap(*there.shape)
    result.corr[there] = candidates.probability[there]
    result.matrix[:] = result.family[:] = np.eye(3)
    matrix, triangle = candidates.matrix[there].astype(np.float64), crystal.orientation_zone_axis_range
    chosen, sign, zone_axis = _into_triangle(matrix[:, :, 2], known.operators, triangle)
    matrix = known.operators[chosen] @ matrix
    family = [
        *(_into_triangle(matrix[:, :, axis], known.operators, triangle)[2] for axis in (0, 1)),
        zone_axis,
    ]
    result.matrix[there] = matrix
    result.mirror[there] = sign < 0
    result.family[there] = np.stack(family, axis=-1)
    matrix[:, :, 1:] *= sign[:, None, None]  # py4DSTEM's angles are those before the mirror
    result.angles[there] = bunge_angles(matrix)[:, ::-1]
    return result


def _same_axes(basis: NDArray[np.float64], phase: CrystalPhase) -> bool:
    """Whether a cell's axes, as rows, are those of the phase: near them, and nearer than in another order."""

    def off(order: tuple[int, ...]) -> float:
        lattice = np.array(phase.lattice).reshape(2, 3)[:, list(order)]
        axes = lattice_basis(tuple(lattice.ravel()))
        return float((np.linalg.norm(basis - axes, axis=1) / lattice[0]).max())

    as_they_stand, *reordered = map(off, permutations(range(3)))
    return as_they_stand <= min(CELL_TOLERANCE, *(other + 1e-9 for other in reordered))


def _into_triangle(
    directions: NDArray[np.float64], operators: NDArray[np.float64], triangle: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Find the equivalents, up to their sign, that lie in a triangle of directions or nearest to it.

    Parameters
    ----------
    directions : ndarray of float64, shape (N, 3)
    operators : ndarray of float64, shape (G, 3, 3)
    triangle : ndarray of float64, shape (3, 3)
        Corners as rows.

    Returns
    -------
    chosen : ndarray of int64, shape (N,)
        Indices of the operators.
    sign : ndarray of float64, shape (N,)
        1 or -1.
    equivalent : ndarray of float64, shape (N, 3)
        ``sign * operators[chosen] @ directions``.
    """
    coordinates = np.linalg.inv(triangle)
    chosen, sign = np.zeros(len(directions), np.int64), np.ones(len(directions))
    equivalent, deepest = directions.copy(), np.full(len(directions), -np.inf)
    for index, operator in enumerate(operators):
        for candidate_sign in (1.0, -1.0):
            candidate = candidate_sign * directions @ operator.T
            depth = (candidate @ coordinates).min(axis=1)
            better = depth > deepest + 1e-9
            chosen[better], sign[better], deepest[better] = index, candidate_sign, depth[better]
            equivalent[better] = candidate[better]
    return chosen, sign, equivalent
