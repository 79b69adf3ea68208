"""A scan's peaks made ready for the rings: measured from the direct beam, scaled, and weighed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microinfer.peaks.agreement import SPOT, spot_weights
from microinfer.peaks.centre import Centre, Sample, find_centre, rough_centre
from microinfer.peaks.pixels import PixelCalibration

USUAL_REACH, REACHED = 1.2, 0.9  # 1/Angstrom, and the share of the peaks that lie within
INNER = 0.12  # of that radius in pixels: the direct beam lies within, the innermost ring beyond twice as far
AGAIN, MOST = 3, 0.6  # positions that have a spot, and the share of the peaks


@dataclass(frozen=True, eq=False)
class SpotPeaks:
    """Peaks from their direct beam, in 1/Angstrom as the pixel size is known or guessed.

    Attributes
    ----------
    q : ndarray, shape (P, 2)
    pattern : ndarray of int64, shape (P,)
        Which position each is of.
    weight : ndarray, shape (P,)
        Of each; their sum is the number of independent ones.
    spots, orientations : float
        How many independent spots and orientations there are, about.
    unit : float
        1/Angstrom per pixel, known or guessed.
    centre : Centre
        The direct beam, in pixels.
    """

    q: NDArray[np.float64]
    pattern: NDArray[np.int64]
    weight: NDArray[np.float64]
    spots: float
    orientations: float
    unit: float
    centre: Centre


def prepare(sample: Sample, known: PixelCalibration, shape: tuple[int, int]) -> SpotPeaks:
    """Find the direct beam, leave it out, and scale the rest."""
    if known.origin is not None:
        sample = sample.moved(origin_at(known, sample.position, shape))
    reach = INNER * _far_radius(sample)
    if known.origin is None:
        rough = rough_centre(sample, reach)
        sample = sample.moved(rough)
        reach = INNER * _far_radius(sample)
    centre = find_centre(sample, reach)
    moved = sample.moved(centre.at(sample.position) if centre.each is None else centre.each)
    if known.origin is None:
        centre = centre.shifted(rough)
    outside = moved.of(np.hypot(*moved.q.T) >= reach)
    unit = known.mean_pixel_size or USUAL_REACH / _far_radius(outside)
    outside = outside.of(_seen_again(outside.q * unit))
    q = outside.q * unit
    weight, spots = spot_weights(q)
    weight *= spots / max(weight.sum(), 1e-9)
    per_pattern = len(q) / max(1, len(np.unique(outside.pattern)))
    return SpotPeaks(q, outside.pattern, weight, spots, spots / max(1.0, per_pattern), unit, centre)


def _seen_again(q: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Peaks whose spots several positions have, where most peaks are such: the others are false ones, rather."""
    _, spot, seen = np.unique(
        np.rint(q / SPOT).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    again = seen[spot.ravel()] >= AGAIN
    return again if len(q) and again.mean() > MOST else np.ones(len(q), np.bool_)


def _far_radius(sample: Sample) -> float:
    radius = np.hypot(*sample.q.T)
    return float(np.quantile(radius[radius > 0], REACHED)) if np.any(radius > 0) else 1.0


def origin_at(
    known: PixelCalibration, position: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Origin that is known, 0 where none is, at scan positions (N, 2), shape (N, 2)."""
    maps = [
        np.broadcast_to(values if np.ndim(values) == 0 else values[()], shape)  # type: ignore[index]
        for values in known.origin or (0.0, 0.0)
    ]
    return np.column_stack([values[position[:, 0], position[:, 1]] for values in maps])
