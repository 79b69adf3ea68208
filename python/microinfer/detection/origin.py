"""Where the direct beam is: position by position, and as a plane over the scan where it is not found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microinfer.detection.detector import Disks

WITHIN = 0.25  # of the frame's smaller side: farther from where most are no direct beam is looked for
LEAST_REACH = 1.5  # pixels


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
        disks: Disks,
        positions: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Find the direct beam at scan positions: the strongest disk within reach, else the plane.

        Parameters
        ----------
        disks : Disks
            Of N frames.
        positions : ndarray of int64, shape (N, 2)

        Returns
        -------
        ndarray of float64, shape (N, 2)
            In pixels.
        """
        expected = self.expected(positions)
        found = _strongest_within(disks, expected, self.reach)
        return np.where(np.isnan(found), expected, found)


def find_origin(
    disks: Disks,
    positions: NDArray[np.int64],
    frame_shape: tuple[int, int],
    radius: float,
    centre: tuple[float, float] | None,
) -> Origin:
    """Find the direct beam's plane over a scan by some of its frames.

    Parameters
    ----------
    disks : Disks
        Of N frames.
    positions : ndarray of int64, shape (N, 2)
        Their scan positions.
    frame_shape : tuple of int
        (Qx, Qy).
    radius : float
        Of the disks, in pixels.
    centre : tuple of float or None
        About where it is, in pixels. Without it, it is where the strongest disks are.

    Returns
    -------
    Origin
        `centre`, or the frame's middle, for all positions where no frame has a disk there.
    """
    reach = max(radius, LEAST_REACH)
    if centre is not None:
        around, far = np.array(centre, np.float64), 2.0 * reach
    else:
        far = WITHIN * min(frame_shape)
        around = (np.array(frame_shape) - 1.0) / 2.0
        strongest = _strongest_within(disks, np.broadcast_to(around, (len(positions), 2)), np.inf)
        if not np.isnan(strongest).all():
            around = np.nanmedian(strongest, axis=0)
    found = _strongest_within(disks, np.broadcast_to(around, (len(positions), 2)), far)
    kept = ~np.isnan(found[:, 0])
    if not kept.any():
        return Origin(np.array([around, (0.0, 0.0), (0.0, 0.0)]), reach)
    return _fitted(found, positions, reach, max(reach, far / 2.0))


def _strongest_within(disks: Disks, centre: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Place (N, 2) of the strongest disk within reach of each frame's centre (N, 2); NaN where there is none."""
    index = np.repeat(np.arange(len(centre)), np.diff(disks.offsets))
    near = np.hypot(disks.x - centre[index, 0], disks.y - centre[index, 1]) <= reach
    picked = np.flatnonzero(near)
    # of several the strongest is written last
    picked = picked[np.argsort(disks.correlation[picked], kind="stable")]
    found = np.full((len(centre), 2), np.nan)
    found[index[picked], 0] = disks.x[picked]
    found[index[picked], 1] = disks.y[picked]
    return found


def _fitted(
    found: NDArray[np.float64], positions: NDArray[np.int64], least_reach: float, most_reach: float
) -> Origin:
    """A plane through places (N, 2), NaN where there is none, outliers left out."""
    kept = ~np.isnan(found[:, 0])
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
