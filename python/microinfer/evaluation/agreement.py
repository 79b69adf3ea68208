"""Agreement of independently trained models: spread of their zone axes, and the answer most of them share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.errors import orientation_errors
from microinfer.crystals.phase import CrystalPhase


def zone_axis_deviation(
    zone_axes: NDArray[np.floating[Any]], operators: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Angle between each model's zone axis and the mean of all (paper, Fig. S9).

    Zone axes are equivalent under the full point group of the Laue class. The mean is taken over the
    equivalents nearest to one model's axis: that model's for which they lie closest together.

    Parameters
    ----------
    zone_axes : ndarray, shape (M, N, 3)
        Unit vectors in the crystal's frame, of M models at N positions; NaN where there is no answer.
    operators : ndarray, shape (G, 3, 3)
        Proper operators of the Laue class.

    Returns
    -------
    ndarray of float64, shape (M, N)
        Radians; NaN where any model has no answer.
    """
    axes = np.asarray(zone_axes, np.float64)
    models, count = axes.shape[:2]
    best = np.full((models, count), np.nan)
    for reference in axes:
        near = np.full_like(axes, np.nan)
        height = np.full((models, count), -np.inf)
        for operator in np.concatenate([operators, -operators]):
            turned = axes @ operator.T
            along = np.einsum("mnj,nj->mn", turned, reference)
            near = np.where((along > height)[..., None], turned, near)
            height = np.fmax(height, along)
        mean = near.mean(axis=0)
        mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
        deviation = 2.0 * np.arcsin(np.clip(0.5 * np.linalg.norm(near - mean, axis=-1), 0.0, 1.0))
        closer = ~(best.mean(axis=0) <= deviation.mean(axis=0))
        best[:, closer] = deviation[:, closer]
    best[:, ~np.isfinite(axes).all(axis=(0, 2))] = np.nan
    return best


def central_answers(
    matrices: Sequence[NDArray[np.floating[Any]]],
    answered_phases: Sequence[NDArray[np.integer[Any]]],
    phases: tuple[CrystalPhase, ...],
) -> NDArray[np.int64]:
    """Choose the model whose answer lies nearest to those of all others.

    Parameters
    ----------
    matrices : sequence of ndarray, each of shape (N, 3, 3)
        The models' answers; NaN where there is none.
    answered_phases : sequence of ndarray of int, each of shape (N,)
        Their phases, -1 where there is none.
    phases : tuple of CrystalPhase
        The phases.

    Returns
    -------
    ndarray of int64, shape (N,)
        Index of a model, the lowest where several are equally central.

    Raises
    ------
    ValueError
        For fewer than three models: of two, none is more central.
    """
    if len(matrices) < 3:
        raise ValueError(f"a central answer needs at least three models, got {len(matrices)}")
    total = np.zeros((len(matrices), len(matrices[0])))
    for first, (matrix, phase) in enumerate(zip(matrices, answered_phases, strict=True)):
        for other, other_phase in zip(matrices, answered_phases, strict=True):
            total[first] += orientation_errors(matrix, phase, other, other_phase, phases)
    return np.asarray(total.argmin(axis=0), np.int64)
