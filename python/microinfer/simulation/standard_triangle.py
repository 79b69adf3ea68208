"""The paper's sampling of a cubic crystal (Supplementary Text S2).

Zone axes lie on the standard triangle, by spherical interpolation; thicknesses are chosen by their number of disks;
each distinguishable pattern has one label.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.symmetry import zone_axis_frames
from microinfer.simulation.bloch import PatternSimulator

CORNERS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
"""Corners of the standard triangle: [001], [011], [111]."""
CANDIDATES = 300
"""Thicknesses that are simulated, evenly spaced over the range; the most telling ones are kept."""
NEAR = 0.02
"""Disks this near, in 1/Angstrom, are on top of each other."""
ALIKE = 0.95
"""Overlap from which a turned or reflected pattern counts as the pattern itself."""


class ZoneAxisPatterns(NamedTuple):
    """The patterns of one zone axis."""

    orientation: NDArray[np.float64]
    """(3, 3)."""
    thicknesses: NDArray[np.float64]
    """(T,) in Angstrom."""
    patterns: list[NDArray[np.float32]]
    in_plane_bound: float
    """In radians."""


def interpolated_zone_axes(step: float) -> NDArray[np.float64]:
    """Zone axes on the standard triangle, (K, 3) unit vectors: 406 at a step of 2 degrees."""
    first, second, third = CORNERS / np.linalg.norm(CORNERS, axis=1, keepdims=True)
    steps = round(np.degrees(np.arccos(first @ third)) / step)
    rows = [first[None]]
    for row in range(1, steps + 1):
        left, right = _slerp(first, second, row / steps), _slerp(first, third, row / steps)
        rows.append(np.array([_slerp(left, right, column / row) for column in range(row + 1)]))
    return np.concatenate(rows)


def zone_axis_patterns(
    simulator: PatternSimulator, zone_axis: NDArray[np.float64], thicknesses: int
) -> list[ZoneAxisPatterns]:
    """Simulate a zone axis, and the opposite one where that gives other patterns.

    Parameters
    ----------
    simulator : PatternSimulator
        Of a cubic crystal.
    zone_axis : ndarray, shape (3,)
        Unit vector in the crystal's Cartesian frame.
    thicknesses : int
        How many to keep: half of them those with the fewest disks, half those with the most.

    Returns
    -------
    list of ZoneAxisPatterns
    """
    limits = simulator.config.thickness_limits(simulator.structure.lattice[0])
    candidates = np.linspace(*limits, max(CANDIDATES, thicknesses))
    found = []
    for axis in (zone_axis, -zone_axis):
        orientation = zone_axis_frames(axis[None])[0]
        patterns = simulator.patterns(orientation, candidates)
        order, mirror = projected_symmetry(patterns)
        chosen = _fewest_and_most([len(pattern) for pattern in patterns], thicknesses)
        found.append(
            ZoneAxisPatterns(
                orientation, candidates[chosen], [patterns[index] for index in chosen], 2.0 * np.pi / order
            )
        )
        if mirror:  # the opposite zone axis shows the same patterns, turned
            break
    return found


def projected_symmetry(patterns: list[NDArray[np.float32]]) -> tuple[int, bool]:
    """Symmetry of a zone axis' patterns over all thicknesses.

    Parameters
    ----------
    patterns : list of ndarray, shape (n, 3)
        qx, qy, intensity at several thicknesses.

    Returns
    -------
    order : int
        Of the (pseudo-)rotation about the beam: 6, 4, 3, 2 or 1.
    mirror : bool
        Whether a line through the beam reflects the patterns onto themselves.
    """
    disks = np.concatenate([pattern.astype(np.float64) for pattern in patterns])
    if not len(disks):
        return 1, True
    place, member = np.unique(np.round(disks[:, :2], 3), axis=0, return_inverse=True)
    q = place[:, 0] + 1j * place[:, 1]
    amplitude = np.bincount(member, np.sqrt(disks[:, 2])).astype(np.float64)
    order = next(n for n in (6, 4, 3, 2, 1) if _overlap(q, amplitude, q * np.exp(2j * np.pi / n)) > ALIKE)
    strongest = q[amplitude.argmax()]
    partners = q[np.abs(np.abs(q) - np.abs(strongest)) < NEAR]
    # twice the angle of the line between the strongest disk and its image, itself included
    lines = np.append(partners * strongest, -(strongest**2))
    mirror = any(_overlap(q, amplitude, np.conj(q) * line / abs(line)) > ALIKE for line in lines)
    return order, mirror


def _overlap(
    q: NDArray[np.complex128], amplitude: NDArray[np.float64], image: NDArray[np.complex128]
) -> float:
    """Correlation of a pattern with its image, between 0 and 1."""
    distance = np.abs(q[:, None] - image)
    nearest = distance.argmin(axis=1)
    partner = np.where(distance.min(axis=1) < NEAR, amplitude[nearest], 0.0)
    return float(amplitude @ partner / (amplitude @ amplitude))


def _fewest_and_most(counts: list[int], number: int) -> NDArray[np.int64]:
    order = np.argsort(counts, kind="stable")
    return np.concatenate([order[: number // 2], order[len(order) - (number - number // 2) :][::-1]])


def _slerp(first: NDArray[np.float64], second: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Spherical linear interpolation of two unit vectors."""
    angle = np.arccos(np.clip(first @ second, -1.0, 1.0))
    return np.asarray(
        (np.sin((1.0 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)
    )
