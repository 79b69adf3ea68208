"""Calibration: how often answers of a given probability are right, on patterns that were not trained on."""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.errors import RIGHT, orientation_errors
from microinfer.mapping.inference import Inference
from microinfer.models import Model
from microinfer.models.checkpoint import UNCALIBRATED
from microinfer.simulation.library import PatternLibrary
from microinfer.training.augmentation import Batch, augmented, joined, turned
from microinfer.training.config import Config

PATTERNS = 6000
"""Draws from the held-out patterns, each once clean, once augmented and once on a camera of its own."""
EDGES, NOISE = (0.4, 1.0), 0.01
"""Of these cameras: where they end, as a share of k_max, and the largest standard deviation of a disk's position in
1/Angstrom."""
ITERATIONS = 100
NO_GAIN = 1e-8
"""Twice the gain in log-likelihood, in nats, that a last Newton step promises."""
CERTAIN = 1e-6
"""Probabilities nearer to 0 or 1 than this have the log-odds of this one."""


BATCH = 128
"""Patterns that are answered at a time: few enough for an interruption to be heard soon."""


def calibration_patterns(library: PatternLibrary, held_out: NDArray[np.int64], config: Config) -> Batch:
    """Patterns to calibrate a model's confidence with.

    Parameters
    ----------
    library : PatternLibrary
        Where they are drawn from.
    held_out : ndarray of int64
        Its patterns that were not trained on.
    config : Config
        The model's.

    Returns
    -------
    Batch
        Each drawn pattern three times: clean; augmented as in training; and augmented on a camera that ends at 0.4 to 1
        of k_max, with a noise of up to 0.01 1/Angstrom.
    """
    seed = config.training.seed
    rng = np.random.default_rng([seed, 2])
    drawn = rng.choice(held_out, PATTERNS)
    first, last = (share * config.simulation.k_max for share in EDGES)
    camera = dataclasses.replace(
        config.augmentation, cropped=1.0, edge_range=(first, last), position_jitter=NOISE
    )
    noisy, short = (
        augmented(library, drawn, config.tokens, augmentation, rng)
        for augmentation in (config.augmentation, camera)
    )
    return joined(joined(turned(library, drawn, config.tokens, seed), noisy), short)


def calibrate(
    model: Model, batch: Batch, device: str = "cpu", advance: Callable[[int], None] = lambda done: None
) -> tuple[float, float, float]:
    """Find the calibration that a model's confidence needs, on labelled patterns.

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
    a, b, c : float
        `Model.calibration`; 1, 1 and 0, which change nothing, for a model that gives no probabilities.

    Warns
    -----
    UserWarning
        Where the probabilities do not rise with being right; then 1, 1 and 0 too.
    """
    plain = replace(model, calibration=UNCALIBRATED)
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
        return fit_beta(answers["probability"][valid, 0], error < RIGHT)
    except ValueError as problem:
        warnings.warn(f"the confidence stays uncalibrated: {problem}", UserWarning, stacklevel=2)
        return UNCALIBRATED


def fit_beta(probability: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Beta calibration of a probability (Kull, Silva Filho and Flach, AISTATS 2017).

    Parameters
    ----------
    probability : ndarray, shape (N,)
        In [0, 1]; answers of probability 0 are left out, as their confidence stays 0.
    right : ndarray of bool, shape (N,)
        Whether the answer was right.

    Returns
    -------
    a, b, c : float
        Of the log-odds ``a ln p - b ln(1 - p) + c`` with the largest likelihood, drawn to 1, 1 and 0 as by one
        pattern's worth of evidence; a and b are not negative.

    Raises
    ------
    ValueError
        If neither a nor b is positive: the more probable answers are not right more often.
    RuntimeError
        If the fit does not converge.
    """
    positive = probability > 0.0
    bounded = probability[positive].astype(np.float64).clip(CERTAIN, 1.0 - CERTAIN)
    features = np.stack([np.log(bounded), -np.log(1.0 - bounded), np.ones(len(bounded))], axis=-1)
    start = np.array(UNCALIBRATED)
    found = _logistic_regression(features, right[positive], start)
    if found[:2].min() < 0.0:  # the other one alone, then
        negative = int(found[:2].argmin())
        features[:, negative] = start[negative] = 0.0
        found = _logistic_regression(features, right[positive], start)
    if found[:2].min() < 0.0 or not found[:2].any():
        raise ValueError(
            f"more probable answers are not right more often (a {found[0]:.3g}, b {found[1]:.3g})"
        )
    return float(found[0]), float(found[1]), float(found[2])


def _logistic_regression(
    features: NDArray[np.float64], right: NDArray[np.bool_], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    def log_likelihood(at: NDArray[np.float64]) -> float:
        logit = features @ at
        return float((right * logit - np.logaddexp(0.0, logit)).sum() - 0.5 * ((at - start) ** 2).sum())

    found = start
    for _ in range(ITERATIONS):
        share = np.exp(-np.logaddexp(0.0, -features @ found))
        slope = features.T @ (right - share) - (found - start)
        curvature = (features * (share * (1.0 - share))[:, None]).T @ features + np.eye(3)
        step = np.linalg.solve(curvature, slope)
        if step @ slope < NO_GAIN:
            return found
        # a whole step overshoots where nearly all answers are certain: the curvature is that of one point
        while log_likelihood(found + step) < log_likelihood(found):
            step = 0.5 * step
        found = found + step
    raise RuntimeError(f"the calibration did not converge in {ITERATIONS} steps, it stands at {found}")
