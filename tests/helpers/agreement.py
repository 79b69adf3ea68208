"""The rule by which engines agree: where the first answer is clear; elsewhere a jump is no error."""

import numpy as np

from microinfer.crystals.symmetry import misorientation
from microinfer.models import Model

LEAD = 0.01
"""Probability by which a clear first answer leads the second."""
CLOSE = 1e-3
"""Radians, and probability, between the clear answers of float32 engines."""
OTHER_MODE = 0.005
"""Share of all patterns that may fall to another mode, or lose or gain an answer."""


def require_agreement(model: Model, found, valid, expected, expected_valid, *, clear: float = 0.3) -> None:
    """Compare first answers (N,) with ranked candidates (N, K).

    Parameters
    ----------
    model : Model
        Whose phases they are of.
    found : dict of str to ndarray
        The first answers: ``matrix`` (N, 3, 3), ``phase`` and ``probability`` (N,).
    valid, expected_valid : ndarray of bool, shape (N,)
        Where there is an answer.
    expected : mapping of str to ndarray
        The same of another engine with all its candidates, (N, K, ...).
    clear : float
        Least share of the patterns whose answer must be clear, for the comparison to mean anything.
    """
    both = valid & expected_valid
    assert both.any()
    probability = expected["probability"]
    lead = np.ones(len(valid)) if probability.shape[1] == 1 else probability[:, 0] - probability[:, 1]
    compared = both & (lead >= LEAD)
    assert compared.mean() >= clear
    differs = (found["phase"] != expected["phase"][:, 0]) & compared
    differs |= (np.abs(found["probability"] - probability[:, 0]) > CLOSE) & compared
    for index, phase in enumerate(model.phases):
        rows = np.flatnonzero(compared & ~differs & (found["phase"] == index))
        angle = misorientation(found["matrix"][rows], expected["matrix"][rows, 0], phase.operators)
        differs[rows] = angle > CLOSE
    others = np.count_nonzero(differs) + np.count_nonzero(valid != expected_valid)
    assert others <= OTHER_MODE * len(valid), f"{others} of {len(valid)} differ"


def of_rank(candidates, rank: int) -> dict[str, np.ndarray]:
    """The answers of one rank of ranked candidates, as `require_agreement` takes them."""
    return {name: candidates[name][:, rank] for name in ("matrix", "phase", "probability")}
