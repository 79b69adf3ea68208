"""Sparse correlation of two patterns, and random orientations at a given distance: the paper's Fig. S4."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import diffracted_beams
from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import misorientation

KERNEL = 0.08
"""py4DSTEM's default correlation kernel in 1/Angstrom."""
POWER_INTENSITY = 0.25
POWER_RADIAL = 1.0
_TRIES = 40
_DRAWS = 64


def kinematic_disks(
    phase: CrystalPhase, matrix: NDArray[np.floating[Any]], voltage: float, k_max: float
) -> NDArray[np.float64]:
    """Kinematic pattern of one orientation: rows of qx, qy in 1/Angstrom and intensity, shape (n, 3)."""
    beams = diffracted_beams(phase, np.asarray(matrix, np.float64), voltage, k_max=k_max)
    return np.column_stack([beams.q, beams.intensity])


def sparse_correlation(reference: NDArray[np.floating[Any]], pattern: NDArray[np.floating[Any]]) -> float:
    r"""Correlation of a pattern with a reference, as py4DSTEM's template matching has it, without a grid.

    With the radius r, the polar angle phi and the intensity I of the reference's disks i and the pattern's j,

    .. math:: \frac{\sum_{ij} w_i I_j^{1/4} \exp\left(
        -\frac{(r_i - r_j)^2 + r_i^2 (\phi_i - \phi_j)^2}{2 k^2}\right)}{\sqrt{\sum_i w_i^2}},
        \quad w_i = r_i I_i^{1/4},

    over pairs with :math:`|r_i - r_j| < k` (C. Ophus et al., Microsc. Microanal. 28, 390 (2022); the kernel k
    and the powers are py4DSTEM's defaults). py4DSTEM puts the reference on shells and 2 degree steps first, each
    disk shared out between two steps, which makes its norm smaller: its scores are ours but for a factor of each
    reference, up to 1.4.

    Parameters
    ----------
    reference, pattern : ndarray, shape (n, 3)
        qx, qy in 1/Angstrom and intensity.

    Returns
    -------
    float
        0 where either has no disks.
    """
    r, phi, s = _polar(reference)
    r_pattern, phi_pattern, s_pattern = _polar(pattern)
    weight = s * r**POWER_RADIAL
    norm = float(np.sqrt((weight**2).sum()))
    if not norm:
        return 0.0
    radial = r[:, None] - r_pattern
    turn = np.mod(phi[:, None] - phi_pattern + np.pi, 2.0 * np.pi) - np.pi
    near = np.exp(-(radial**2 + (r[:, None] * turn) ** 2) / (2.0 * KERNEL**2)) * (np.abs(radial) < KERNEL)
    return float(weight @ near @ s_pattern) / norm


def random_at_distance(
    label: NDArray[np.floating[Any]],
    angle: float,
    operators: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64] | None:
    """Draw an orientation whose symmetry-reduced misorientation to a label is given, its axis random.

    Parameters
    ----------
    label : ndarray, shape (3, 3)
        Orientation.
    angle : float
        Misorientation in radians.
    operators : ndarray, shape (G, 3, 3)
        Proper operators.
    rng : numpy.random.Generator
        Source of the axis.

    Returns
    -------
    ndarray of float64, shape (3, 3), or None
        None where no axis was found: only few axes, or none, allow angles near the group's largest.
    """
    truth = np.asarray(label, np.float64)
    for _ in range(_TRIES):
        axis = rng.standard_normal((_DRAWS, 3))
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        drawn = truth @ _rotations(axis, angle)
        reduced = misorientation(drawn, np.broadcast_to(truth, drawn.shape), operators)
        good = np.flatnonzero(np.abs(reduced - angle) < 1e-6)
        if len(good):
            return np.asarray(drawn[good[0]])
    return None


def _polar(disks: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], ...]:
    qx, qy, intensity = np.asarray(disks, np.float64).reshape(-1, 3).T
    return np.hypot(qx, qy), np.arctan2(qy, qx), np.maximum(intensity, 0.0) ** POWER_INTENSITY


def _rotations(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotations by one angle about unit vectors (N, 3), shape (N, 3, 3)."""
    x, y, z = axis.T
    zero = np.zeros_like(x)
    cross = np.moveaxis(np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]), -1, 0)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)
