"""Calibration: how often answers of a given probability are right, on patterns that were not trained on."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from microinfer.models import OrientationModel
from microinfer.refinement import Refinement
from microinfer.symmetry import misorientation
from microinfer.tokens import Tokens
from microinfer.training.augmentation import Batch

RIGHT = math.radians(3.0)
"""An answer is right within this misorientation."""
BATCH = 256
ITERATIONS = 30


def calibrate(model: OrientationModel, batch: Batch, *, voltage: float) -> tuple[float, float]:
    """Find the slope and offset of `OrientationModel.calibrated` on labelled patterns.

    Parameters
    ----------
    model : OrientationModel
        The model.
    batch : Batch
        Patterns and labels; answers to patterns without a crystal are wrong.
    voltage : float
        In V, for the refinement that maps use by default.

    Returns
    -------
    slope, offset : float
        Of the log-odds.
    """
    refine = Refinement(model.phases, voltage)
    probability, right = [], []
    for start in range(0, len(batch.phase), BATCH):
        rows = slice(start, start + BATCH)
        tokens = Tokens(*(value[rows].to(model.operators.device) for value in batch.tokens))
        with torch.inference_mode():
            answer, _ = refine(tokens, model.candidates(tokens))
        label, phase = batch.orientation[rows], batch.phase[rows]
        good = torch.zeros(len(phase), dtype=torch.bool)
        for index, crystal in enumerate(model.phases):
            same = ((answer.phase[:, 0] == index) & (phase == index)).nonzero()[:, 0]
            error = misorientation(answer.matrix[same, 0].numpy(), label[same].numpy(), crystal.operators)
            good[same] = torch.from_numpy(error < RIGHT)
        probability.append(answer.probability[answer.valid, 0].numpy())
        right.append(good[answer.valid].numpy())
    return fit_log_odds(np.concatenate(probability), np.concatenate(right))


def fit_log_odds(probability: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Logistic regression of being right on the log-odds of a probability (Platt scaling).

    Parameters
    ----------
    probability : ndarray, shape (N,)
        In [0, 1].
    right : ndarray of bool, shape (N,)
        Whether the answer was right.

    Returns
    -------
    slope, offset : float
        Those with the largest likelihood, drawn to 1 and 0 as by one pattern's worth of evidence.
    """
    clipped = np.clip(probability.astype(np.float64), 1e-6, 1.0 - 1e-6)
    features = np.stack([np.log(clipped) - np.log1p(-clipped), np.ones(len(clipped))], axis=-1)
    start = np.array([1.0, 0.0])
    found = start.copy()
    for _ in range(ITERATIONS):
        share = 1.0 / (1.0 + np.exp(-np.clip(features @ found, -30.0, 30.0)))
        slope = features.T @ (right - share) - (found - start)
        curvature = (features * (share * (1.0 - share))[:, None]).T @ features + np.eye(2)
        found = found + np.linalg.solve(curvature, slope)
    return float(found[0]), float(found[1])
