"""How far confidences can be believed: the reliability diagram and the expected calibration error."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15


class Reliability(NamedTuple):
    """Answers in bins of nearly equal number, by rising confidence; empty bins are left out."""

    size: NDArray[np.int64]
    """(bins,) answers."""
    confidence: NDArray[np.float64]
    """(bins,) mean confidence."""
    accuracy: NDArray[np.float64]
    """(bins,) share of right answers."""

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy over all answers."""
        distance = np.abs(self.confidence - self.accuracy)
        return float(np.average(distance, weights=self.size)) if len(distance) else float("nan")


def reliability(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Sort answers by confidence into bins of equal mass.

    Parameters
    ----------
    confidence : ndarray, shape (N,)
        In [0, 1]; 0 where there is no answer.
    right : ndarray of bool, shape (N,)
        Which answers were right.
    bins : int, default: 15
        Number of bins.

    Returns
    -------
    Reliability

    Raises
    ------
    ValueError
        If the shapes differ or bins is not positive.
    """
    if confidence.shape != right.shape or confidence.ndim != 1:
        raise ValueError(
            f"confidence and right must be of one shape (N,), got {confidence.shape}, {right.shape}"
        )
    if bins < 1:
        raise ValueError(f"bins must be positive, got {bins}")
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        np.array([len(part) for part in parts], np.int64),
        np.array([confidence[part].mean(dtype=np.float64) for part in parts]),
        np.array([right[part].mean() for part in parts]),
    )
