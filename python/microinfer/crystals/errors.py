"""How far answers lie from labels: misorientations, misaligned axes, and where their density peaks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import misorientation

RIGHT = 3.0
"""Degrees within which an answer is right, and two orientations are the same answer."""
INVALID_ERROR = 45.0
"""Degrees that an invalid answer, or one of the wrong phase, counts as wrong."""
_QUANTILES = 512


def orientation_errors(
    matrix: NDArray[np.floating[Any]],
    phase: NDArray[np.integer[Any]],
    label: NDArray[np.floating[Any]],
    label_phase: NDArray[np.integer[Any]],
    phases: tuple[CrystalPhase, ...],
) -> NDArray[np.float64]:
    """Misorientation of every answer to its label: the paper's symmetry-aware geodesic loss, in degrees.

    Parameters
    ----------
    matrix : ndarray, shape (N, 3, 3)
        Answers; NaN where there is none.
    phase : ndarray of int, shape (N,)
        Phases of the answers, as indices into `phases`; -1 where there is none.
    label : ndarray, shape (N, 3, 3)
        True orientations.
    label_phase : ndarray of int, shape (N,)
        True phases.
    phases : tuple of CrystalPhase
        The phases, with their operators.

    Returns
    -------
    ndarray of float64, shape (N,)
        Degrees; `INVALID_ERROR` where there is no answer, or one of the wrong phase.
    """
    error = np.full(len(label), INVALID_ERROR)
    for index, crystal in enumerate(phases):
        rows = answered(matrix, phase, label_phase) & (label_phase == index)
        error[rows] = np.degrees(misorientation(matrix[rows], label[rows], crystal.operators))
    return error


def answered(
    matrix: NDArray[np.floating[Any]],
    phase: NDArray[np.integer[Any]],
    label_phase: NDArray[np.integer[Any]],
) -> NDArray[np.bool_]:
    """Which patterns have an answer of the right phase, shape (N,); parameters as of `orientation_errors`."""
    return np.asarray(np.isfinite(matrix).all(axis=(1, 2)) & (phase == label_phase))


def axis_misalignment(
    matrix: NDArray[np.floating[Any]],
    label: NDArray[np.floating[Any]],
    operators: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Angles between the symmetry-reduced lab axes x, y and z of answers and labels (paper, Fig. 2f).

    Each axis, a column of the orientation, is reduced on its own by the full point group of the Laue class, as
    py4DSTEM reduces its ``family``: for groups that mirrors generate, as m-3m, the smallest angle to any
    equivalent is the angle between the reduced directions, and for the others it does not jump at the edge of
    the cell. An answer that is a rotation away can have a misalignment of zero: see `orientation_errors`.

    Parameters
    ----------
    matrix, label : ndarray, shape (N, 3, 3)
        Orientations.
    operators : ndarray, shape (G, 3, 3)
        Proper operators of the Laue class.

    Returns
    -------
    ndarray of float64, shape (N, 3)
        Radians, for x, y and z; NaN where an answer is.
    """
    answer, truth = np.asarray(matrix, np.float64), np.asarray(label, np.float64)
    chord = np.full((len(answer), 3), np.inf)
    for operator in np.concatenate([operators, -operators]):
        chord = np.minimum(chord, np.linalg.norm(answer - operator @ truth, axis=1))
    return np.asarray(2.0 * np.arcsin(np.clip(0.5 * chord, 0.0, 1.0)))


def density(
    values: NDArray[np.float64], at: NDArray[np.float64], bandwidth: float | None = None
) -> NDArray[np.float64]:
    """Gaussian kernel estimate of the density of values that cannot be negative, reflected at 0.

    Parameters
    ----------
    values : ndarray, shape (N,)
        The sample, at least 0.
    at : ndarray, shape (P,)
        Where to estimate.
    bandwidth : float, optional
        Of the kernel; by default Silverman's rule with the smallest of standard deviation, scaled
        interquartile range and median, so that a tail of wrong answers does not widen it.

    Returns
    -------
    ndarray of float64, shape (P,)
    """
    width = _silverman(values) if bandwidth is None else bandwidth
    total = np.zeros(len(at))
    for value in (values, -values):
        total += np.exp(-0.5 * ((at[:, None] - value) / width) ** 2).sum(axis=1)
    return np.asarray(total / (len(values) * width * np.sqrt(2.0 * np.pi)))


def density_mode(values: NDArray[np.float64]) -> float:
    """Where the `density` of a sample peaks, to the distance of its quantiles; NaN for an empty sample."""
    if not len(values):
        return float("nan")
    at = np.quantile(values, np.linspace(0.0, 1.0, _QUANTILES))
    return float(at[density(values, at).argmax()])


def _silverman(values: NDArray[np.float64]) -> float:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    scales = [float(scale) for scale in (values.std(), (high - low) / 1.349, middle) if scale > 0]
    return max(0.9 * min(scales, default=0.0) * float(len(values) ** -0.2), 1e-9)
