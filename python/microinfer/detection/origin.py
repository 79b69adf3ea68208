"""Where the direct beam is: position by position, and as a plane over the scan where it is not found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Origin:
    """The direct beam's place as a plane over the scan, and how far from it one may be.

    Attributes
    ----------
    coefficients : ndarray, shape (3, 2)
        Place in pixels, x and y, at scan position (0, 0), and its change along the scan's rows and columns.
    reach : float
        Farthest that the direct beam is from the plane, in pixels.
    """

    coefficients: NDArray[np.float64]
    reach: float

    def expected(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Place on the plane for scan positions (N, 2), in pixels, (N, 2)."""
        return _terms(positions) @ self.coefficients

    def find(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.float32],
        strength: NDArray[np.float32],
        offsets: NDArray[np.int64],
        positions: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Find the direct beam at scan positions: the strongest peak within reach, else the plane.

        Parameters
        ----------
        x, y, strength : ndarray of float32, shape (P,)
            Peaks in pixels.
        offsets : ndarray of int64, shape (N + 1,)
        positions : ndarray of int64, shape (N, 2)

        Returns
        -------
        ndarray of float64, shape (N, 2)
            In pixels.
        """
        expected = self.expected(positions)
        found = strongest_within(x, y, strength, offsets, expected, self.reach)
        return np.where(np.isnan(found), expected, found)


def fixed_origin(centre: tuple[float, float], reach: float) -> Origin:
    """Return the same place for all positions."""
    return Origin(np.array([centre, (0.0, 0.0), (0.0, 0.0)]), reach)


def strongest_within(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    strength: NDArray[np.float32],
    offsets: NDArray[np.int64],
    centre: NDArray[np.float64],
    reach: float,
) -> NDArray[np.float64]:
    """Place (N, 2) of the strongest peak within reach of each position's centre (N, 2); NaN where there is none."""
    index = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    near = np.hypot(x - centre[index, 0], y - centre[index, 1]) <= reach
    picked = np.flatnonzero(near)
    picked = picked[np.argsort(strength[picked], kind="stable")]  # of several the strongest is written last
    found = np.full((len(offsets) - 1, 2), np.nan)
    found[index[picked], 0] = x[picked]
    found[index[picked], 1] = y[picked]
    return found


def fit_origin(
    found: NDArray[np.float64], positions: NDArray[np.int64], least_reach: float, most_reach: float
) -> Origin | None:
    """Fit a plane to the direct beam's places, outliers left out; None where it was nowhere found.

    Parameters
    ----------
    found : ndarray of float64, shape (N, 2)
        In pixels; NaN where there is none.
    positions : ndarray of int64, shape (N, 2)
    least_reach, most_reach : float
        Bounds of the reach, in pixels.
    """
    kept = ~np.isnan(found[:, 0])
    if not kept.any():
        return None
    kept &= np.hypot(*(found - np.median(found[kept], axis=0)).T) <= most_reach
    for _ in range(5):
        coefficients, *_ = np.linalg.lstsq(_terms(positions[kept]), found[kept], rcond=1e-9)
        distance = np.hypot(*(found - _terms(positions) @ coefficients).T)
        spread = float(np.median(distance[kept]))
        closer = distance <= max(4.0 * spread, 0.5)  # NaN is not
        if not closer.any() or (closer == kept).all():
            break
        kept = closer
    return Origin(coefficients, float(np.clip(5.0 * spread, least_reach, most_reach)))


def _terms(positions: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.concatenate([np.ones((len(positions), 1)), positions], axis=1)
