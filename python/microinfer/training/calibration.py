"""Calibration: how often answers of a given probability are right, on patterns that were not trained on."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.errors import RIGHT, orientation_errors
from microinfer.mapping.inference import Inference
from microinfer.models import Model
from microinfer.training.augmentation import Batch

ITERATIONS = 100
NO_GAIN = 1e-8
"""Twice the gain in log-likelihood, in nats, that a last Newton step promises."""
CERTAIN = 1e-6
"""Probabilities nearer to 0 or 1 than this have the log-odds of this one."""


BATCH = 128
"""Patterns that are answered at a time: few enough for an interruption to be heard soon."""


def calibrate(
    model: Model, batch: Batch, device: str = "cpu", advance: Callable[[int], None] = lambda done: None
) -> tuple[float, float]:
    """Find the slope and offset that a model's confidence needs, on labelled patterns.

    Parameters
    ----------
    model : Model
        The model, which states its voltage: its answers are refined, as in a map by default.
    batch : Batch
        Patterns and labels; answers to patterns without a crystal are wrong.
    device : str, default: "cpu"
        Where the network runs.
    advance : callable, optional
        Told how many more patterns are answered.

    Returns
    -------
    slope, offset : float
        `Model.calibration`; 1 and 0, which change nothing, for a model that gives no probabilities.

    Warns
    -----
    UserWarning
        Where the probabilities do not rise with being right; then 1 and 0 too.
    """
    plain = replace(model, calibration=(1.0, 0.0))
    infer = Inference(plain, device, min_disks=model.spec.min_disks, batch_size=BATCH)
    answers = infer(batch.peaks(), advance=advance).arrays
    valid = answers["valid"]
    error = orientation_errors(
        answers["matrix"][valid, 0],
        answers["phase"][valid, 0],
        batch.orientation.numpy()[valid],
        batch.phase.numpy()[valid],
        model.phases,
    )
    try:
        return fit_log_odds(answers["probability"][valid, 0], error < RIGHT)
    except ValueError as problem:
        warnings.warn(f"the confidence stays uncalibrated: {problem}", UserWarning, stacklevel=2)
        return 1.0, 0.0


def fit_log_odds(probability: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Logistic regression of being right on the log-odds of a probability (Platt scaling).

    Parameters
    ----------
    probability : ndarray, shape (N,)
        In [0, 1]; answers of probability 0 are left out, as their confidence stays 0.
    right : ndarray of bool, shape (N,)
        Whether the answer was right.

    Returns
    -------
    slope, offset : float
        Those with the largest likelihood, drawn to 1 and 0 as by one pattern's worth of evidence.

    Raises
    ------
    ValueError
        If the slope is not positive: the more probable answers are not right more often.
    RuntimeError
        If the fit does not converge.
    """
    positive = probability > 0.0
    bounded = probability[positive].astype(np.float64).clip(CERTAIN, 1.0 - CERTAIN)
    odds, right = np.log(bounded / (1.0 - bounded)), right[positive]
    features = np.stack([odds, np.ones(len(odds))], axis=-1)
    start = np.array([1.0, 0.0])

    def log_likelihood(at: NDArray[np.float64]) -> float:
        logit = features @ at
        return float((right * logit - np.logaddexp(0.0, logit)).sum() - 0.5 * ((at - start) ** 2).sum())

    found: NDArray[np.float64] = start
    for _ in range(ITERATIONS):
        share = np.exp(-np.logaddexp(0.0, -features @ found))
        slope = features.T @ (right - share) - (found - start)
        curvature = (features * (share * (1.0 - share))[:, None]).T @ features + np.eye(2)
        step = np.linalg.solve(curvature, slope)
        if step @ slope < NO_GAIN:
            break
        # a whole step overshoots where nearly all answers are certain: the curvature is that of one point
        while log_likelihood(found + step) < log_likelihood(found):
            step = 0.5 * step
        found = found + step
    else:
        raise RuntimeError(f"the calibration did not converge in {ITERATIONS} steps, it stands at {found}")
    if found[0] <= 0.0:
        raise ValueError(f"more probable answers are not right more often (slope {found[0]:.3g})")
    return float(found[0]), float(found[1])
