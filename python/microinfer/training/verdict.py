"""Whether a trained model is good enough to map with: its answers to held-out patterns beside what is usual."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.errors import RIGHT, orientation_errors
from microinfer.mapping.inference import Answered, Inference
from microinfer.models import Model
from microinfer.training.augmentation import Batch
from microinfer.training.calibration import BATCH

USUAL = ((2, 0.50), (5, 0.77), (9, 0.90), (14, 0.98), (22, 1.00))
"""Of clean patterns with this many disks or more, the share that the shipped model `cu` answers rightly."""
ENOUGH = 0.75
"""A model that reaches less than this share of what is usual is not good enough to map with."""


@dataclass(frozen=True)
class Verdict:
    """A model's answers to clean patterns of zone axes that it was not trained on.

    Attributes
    ----------
    patterns : int
        How many were answered.
    within_3_deg, median_error_deg : float
        As the network answers: the share that is right, and the median error in degrees.
    refined_within_3_deg, refined_median_error_deg : float
        As a map has them, refined.
    usual_within_3_deg : float
        The share that is usual for patterns with as many disks: `USUAL`.
    """

    patterns: int
    within_3_deg: float
    median_error_deg: float
    refined_within_3_deg: float
    refined_median_error_deg: float
    usual_within_3_deg: float

    @property
    def good_enough(self) -> bool:
        """Whether to map with the model."""
        return self.refined_within_3_deg >= ENOUGH * self.usual_within_3_deg

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `good_enough`, for a model's card."""
        return {**asdict(self), "good_enough": self.good_enough}


def judge(model: Model, batch: Batch, device: str, advance: Callable[[int], None]) -> Verdict:
    """Judge a model by labelled patterns.

    Parameters
    ----------
    model : Model
        The model.
    batch : Batch
        Clean patterns that it was not trained on.
    device : str
        Where the network runs.
    advance : callable
        Told how many more answers there are; each pattern is answered twice.

    Returns
    -------
    Verdict
    """
    plain, refined = (
        Inference(model, device, refine, model.spec.min_disks, BATCH)(batch.peaks(), advance=advance)
        for refine in (None, "kinematic")
    )
    error, refined_error = (_errors(model, answered, batch) for answered in (plain, refined))
    share = np.array([0.0, *(share for _, share in USUAL)])
    usual = share[np.searchsorted([disks for disks, _ in USUAL], refined.disks, side="right")]
    return Verdict(
        len(error),
        float((error < RIGHT).mean()),
        float(np.median(error)),
        float((refined_error < RIGHT).mean()),
        float(np.median(refined_error)),
        float(usual.mean()),
    )


def _errors(model: Model, answered: Answered, batch: Batch) -> NDArray[np.float64]:
    arrays = answered.arrays
    phase = np.where(arrays["valid"], arrays["phase"][:, 0], -1)
    return orientation_errors(
        arrays["matrix"][:, 0], phase, batch.orientation.numpy(), batch.phase.numpy(), model.phases
    )
