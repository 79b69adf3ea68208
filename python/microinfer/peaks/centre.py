"""Where the direct beam lies: from its own peaks, or from the pairs of opposite disks where it is missing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microinfer.peaks.scan import PeakSource

Way = Literal["direct beam", "Friedel pairs", "unknown"]

ROWS, POSITIONS = 48, 3000  # of a scan, at most, that are looked at
STRONGEST = 40  # peaks of a position that are looked at
RICH = 0.3  # positions with fewer peaks, of what the richest tenth has, are background
SHARE = 0.5  # of the positions, at least, must have a direct beam
SCATTER = 0.2  # of the reach, standard deviation: direct beams scatter less, other peaks more
PAIRS = 30  # at least
CONTRAST = 2.0  # of the pairs' density at the centre, over their mean density within the reach
FOLLOWS = 0.5  # of a direct beam's deviation: the pairs of its position deviate by more where it is real


@dataclass(frozen=True, eq=False)
class Sample:
    """The peaks of some positions of a scan.

    Attributes
    ----------
    q : ndarray, shape (P, 2)
        In the units of the source; of each position the brightest first.
    pattern : ndarray of int64, shape (P,)
        Which of the positions.
    position : ndarray of int64, shape (N, 2)
        Scan rows and columns of the positions.
    """

    q: NDArray[np.float64]
    pattern: NDArray[np.int64]
    position: NDArray[np.int64]

    def moved(self, origin: NDArray[np.float64]) -> "Sample":
        """Measured from an origin, shape (2,), or (N, 2) for each position."""
        return Sample(
            self.q - (origin[self.pattern] if origin.ndim == 2 else origin), self.pattern, self.position
        )

    def of(self, kept: NDArray[np.bool_]) -> "Sample":
        """Some of its peaks."""
        return Sample(self.q[kept], self.pattern[kept], self.position)


def take_sample(source: PeakSource, selected: NDArray[np.bool_] | None = None) -> Sample:
    """Return the strongest peaks of positions spread over a scan.

    Positions with far fewer peaks than others are left out: what lies there is background.

    Parameters
    ----------
    source : BraggPeaks or reader
        A few of its rows are read.
    selected : ndarray of bool, shape (Rx, Ry), optional
        Positions that count, all by default.
    """
    wanted = np.ones(source.scan_shape, np.bool_) if selected is None else selected
    rows = np.flatnonzero(wanted.any(axis=1))
    if len(rows):
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, ROWS).round().astype(np.int64))]
    step = max(1, -(-int(wanted[rows].sum()) // POSITIONS))
    found = []
    for row in rows.tolist():
        peaks = source.read_rows(row, row + 1)
        for column in np.flatnonzero(wanted[row])[::step].tolist():
            pattern = peaks.pattern(0, column).astype(np.float64)
            order = np.argsort(-pattern[:, 2], kind="stable")
            found.append(((row, column), pattern[order[: STRONGEST + 1], :2]))
    rich = np.quantile([len(pattern) for _, pattern in found], 0.9) if found else 0
    found = [(place, pattern) for place, pattern in found if len(pattern) >= max(1, RICH * rich)]
    return Sample(
        np.concatenate([np.zeros((0, 2)), *(pattern for _, pattern in found)]),
        np.repeat(np.arange(len(found)), [len(pattern) for _, pattern in found]),
        np.array([place for place, _ in found], np.int64).reshape(-1, 2),
    )


@dataclass(frozen=True, eq=False)
class Centre:
    """Where the direct beam lies.

    Attributes
    ----------
    way : str
        ``"direct beam"``, ``"Friedel pairs"``, or ``"unknown"``: neither is there.
    plane : ndarray, shape (3, 2)
        Position at row and column 0, and its change with each row and each column.
    error : float
        Standard error of its mean along either axis.
    scatter : float
        Standard deviation of what it was fitted to, about the plane.
    each : ndarray, shape (N, 2), or None
        Of each position, where the direct beam moves from one to the next by more than its peaks' noise.
    reach : float
        Within which it was looked for.
    """

    way: Way
    plane: NDArray[np.float64]
    error: float
    scatter: float
    each: NDArray[np.float64] | None = None
    reach: float = 0.0

    def at(self, position: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The plane at scan positions (N, 2), shape (N, 2)."""
        return np.asarray(np.column_stack([np.ones(len(position)), position]) @ self.plane)

    def shifted(self, by: NDArray[np.float64]) -> "Centre":
        """The same, moved by a vector (2,)."""
        plane = self.plane + np.array([[1.0], [0.0], [0.0]]) * by
        return replace(self, plane=plane, each=None if self.each is None else self.each + by)


def rough_centre(sample: Sample, reach: float) -> NDArray[np.float64]:
    """Return where the brightest peaks gather, shape (2,): for peaks whose origin nobody knows."""
    first = sample.q[np.searchsorted(sample.pattern, np.arange(len(sample.position)))]
    if not len(first):
        return np.zeros(2)
    return _mode(first, reach)


def find_centre(sample: Sample, reach: float) -> Centre:
    """Find the direct beam, at most `reach` away from 0.

    Parameters
    ----------
    sample : Sample
        Peaks, the direct beam among them or not.
    reach : float
        Less than half the radius of the innermost ring.
    """
    inside = np.flatnonzero(np.hypot(*sample.q.T) < reach)
    patterns, first = np.unique(sample.pattern[inside], return_index=True)
    pairs, owner = _midpoints(sample, reach)
    beams = sample.q[inside[first]]
    if len(patterns) >= max(3, SHARE * len(sample.position)):
        centre = _plane(beams, sample.position[patterns])
        if centre.scatter < SCATTER * reach:
            return replace(_settled(centre, beams, patterns, sample, pairs, owner), reach=reach)
    if len(pairs) >= PAIRS:
        middle, density = _densest(pairs, reach)
        if density > CONTRAST:
            return replace(_centre_of_pairs(pairs, middle, reach), reach=reach)
    return Centre("unknown", np.zeros((3, 2)), reach, reach, reach=reach)


def each_centre(
    source: PeakSource, centre: Centre, origin: Callable[[NDArray[np.int64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the direct beam of every scan position, shape (Rx, Ry, 2): its own, or the plane's where it has none.

    Parameters
    ----------
    source : BraggPeaks or reader
        The scan, all of which is read.
    centre : Centre
        From `find_centre`.
    origin : callable
        From scan positions (N, 2) to what was subtracted before, (N, 2).
    """
    rows, columns = source.scan_shape
    found = np.zeros((rows, columns, 2))
    row = 0
    for block in source.blocks():
        height = block.scan_shape[0]
        position = np.column_stack(
            [np.repeat(np.arange(row, row + height), columns), np.tile(np.arange(columns), height)]
        )
        place = centre.at(position)
        owner = np.repeat(np.arange(len(position)), block.counts)
        q = np.column_stack([block.qx, block.qy]) - origin(position)[owner]
        near = np.abs(q - place[owner]).max(axis=1) < 6 * centre.scatter
        order = np.flatnonzero(near)[np.argsort(block.intensity[near], kind="stable")]
        place[owner[order]] = q[order]  # the brightest comes last
        found[row : row + height] = place.reshape(height, columns, 2)
        row += height
    return found


def _plane(beams: NDArray[np.float64], position: NDArray[np.int64]) -> Centre:
    """Fit a plane to the direct beams of positions, outliers left out."""
    design = np.column_stack([np.ones(len(position)), position]).astype(np.float64)
    varies = np.ptp(position, axis=0) > 0
    design[:, 1:] *= varies
    plane = np.zeros((3, 2))
    plane[0] = np.median(beams, axis=0)
    used = np.ones(len(beams), np.bool_)
    scatter = 0.0
    for _ in range(10):
        off = np.abs(beams - design @ plane).max(axis=1)
        scatter = 1.4826 * float(np.median(np.abs(beams - design @ plane)[used]))
        used = off <= max(4 * scatter, 1e-9)
        if used.sum() < 8:
            break
        plane = np.linalg.lstsq(design[used], beams[used], rcond=None)[0]
    error = max(scatter, 1e-9) / np.sqrt(max(1, used.sum()))
    return Centre("direct beam", plane, float(error), scatter)


def _settled(
    centre: Centre,
    beams: NDArray[np.float64],
    patterns: NDArray[np.int64],
    sample: Sample,
    pairs: NDArray[np.float64],
    owner: NDArray[np.int64],
) -> Centre:
    """Find out whether the direct beam's deviations from a plane are its own, or the noise of its peaks.

    Where they are its own, the pairs of opposite disks of the same position deviate with it.
    """
    fitted = centre.at(sample.position)
    off = np.full((len(sample.position), 2), np.nan)
    off[patterns] = beams - fitted[patterns]
    off[np.abs(off).max(axis=1) > 6 * centre.scatter] = np.nan
    near = np.abs(pairs - fitted[owner]).max(axis=1) < 4 * max(centre.scatter, 1e-9)
    near &= np.isfinite(off[owner]).all(axis=1)
    beam, deviation = off[owner[near]], (pairs - fitted[owner])[near]
    if near.sum() < PAIRS or np.sum(beam * deviation) < FOLLOWS * np.sum(beam**2):
        return centre
    return replace(centre, each=np.where(np.isfinite(off), fitted + off, fitted))


def _midpoints(sample: Sample, reach: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Middles of the pairs of a position's peaks that lie within the reach, and their positions."""
    middles, owner = [np.zeros((0, 2))], [np.zeros(0, np.int64)]
    bounds = np.searchsorted(sample.pattern, np.arange(len(sample.position) + 1))
    for n, (start, stop) in enumerate(pairwise(bounds.tolist())):
        q = sample.q[start:stop]
        q = q[np.hypot(*q.T) >= reach]
        one, other = np.triu_indices(len(q), 1)
        middle = (q[one] + q[other]) / 2
        middle = middle[np.hypot(*middle.T) < reach]
        middles.append(middle)
        owner.append(np.full(len(middle), n))
    return np.concatenate(middles), np.concatenate(owner)


def _densest(points: NDArray[np.float64], reach: float) -> tuple[NDArray[np.float64], float]:
    """Where points are densest, and how many times as dense as within the reach on average."""
    bins = 80
    counts, edges, _ = np.histogram2d(points[:, 0], points[:, 1], bins, ((-reach, reach), (-reach, reach)))
    kernel = np.exp(-0.5 * (np.arange(-9, 10) / 3.0) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, "same")
    at = np.unravel_index(int(counts.argmax()), counts.shape)
    middles = (edges[:-1] + edges[1:]) / 2
    return middles[list(at)], float(counts.max() / (len(points) / (np.pi / 4 * bins**2)))


def _centre_of_pairs(pairs: NDArray[np.float64], middle: NDArray[np.float64], reach: float) -> Centre:
    """Refine the densest place of the pairs' middles; the wider background is symmetric about nothing and is cut."""
    width = 0.12 * reach
    scatter = width
    used = pairs
    for _ in range(20):
        used = pairs[np.hypot(*(pairs - middle).T) < 2.5 * width]
        if len(used) < 5:
            break
        weight = np.exp(-0.5 * np.sum((used - middle) ** 2, axis=1) / width**2)
        middle = weight @ used / weight.sum()
        scatter = float(np.sqrt(weight @ np.sum((used - middle) ** 2, axis=1) / (2 * weight.sum())))
        width = max(0.02 * reach, min(width, 1.5 * scatter))
    plane = np.zeros((3, 2))
    plane[0] = middle
    return Centre("Friedel pairs", plane, scatter / np.sqrt(max(1.0, len(used) / 2)), scatter)


def _mode(points: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Mean of the points about the one that has most others within the reach."""
    some = points[:: max(1, len(points) // 400)]
    near = np.hypot(*(some[:, None] - points[None]).transpose(2, 0, 1)) < reach
    best = near[int(near.sum(axis=1).argmax())]
    return np.asarray(points[best].mean(axis=0))
