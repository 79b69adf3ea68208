"""A map's answer and its alternatives in one ranking, as other programs hold them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.maps.orientation_map import OrientationMap


class Ranking(NamedTuple):
    """Ranked answers of every scan position, R = 1 + ALTERNATIVES of them, the best first."""

    matrix: NDArray[np.float64]
    """(Rx, Ry, R, 3, 3), the identity where there is none."""
    phase: NDArray[np.int16]
    """(Rx, Ry, R), -1 where there is none."""
    probability: NDArray[np.float64]
    """(Rx, Ry, R): the confidence and the alternatives' probabilities, 0 where there is none."""


def indexed_phase(omap: OrientationMap) -> NDArray[np.int16]:
    """Phase of every scan position, -1 where `valid` says that there is no answer, whoever made it say so."""
    return np.where(omap.valid, omap.phase, np.int16(-1))


def rank_answers(omap: OrientationMap) -> Ranking:
    """Put the alternatives of a map behind its answers."""
    others = omap.alternatives
    phase = np.concatenate([omap.phase[..., None], others.phase], axis=-1)
    phase[~omap.valid] = -1
    matrix = np.concatenate([omap.matrix[..., None, :, :], others.matrix], axis=2, dtype=np.float64)
    probability = np.concatenate([omap.confidence[..., None], others.probability], axis=-1, dtype=np.float64)
    matrix[phase < 0], probability[phase < 0] = np.eye(3), 0.0
    return Ranking(matrix, phase, probability)
