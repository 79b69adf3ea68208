"""Radial histogram of a scan's Bragg peaks, to set against a phase's rings: a wrong pixel size shows."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.peaks.scan import PeakSource


class Ring(NamedTuple):
    """Reflections of equal length.

    Attributes
    ----------
    radius : float
        In 1/Angstrom.
    hkl : tuple of int
        One of them, with the largest indices.
    intensity : float
        Sum of their kinematic |F|^2, over that of the strongest ring.
    """

    radius: float
    hkl: tuple[int, int, int]
    intensity: float


@dataclass(frozen=True, eq=False)
class RadialHistogram:
    """How many Bragg peaks of a scan lie how far from the centre.

    Attributes
    ----------
    counts : ndarray of int64, shape (bins,)
        Peaks in each bin; a peak on the outer edge belongs to the last one.
    radius_max : float
        Outer edge of the last bin, in 1/Angstrom; the first begins at 0.
    outside : int
        Peaks farther out.
    disks : ndarray of int64, shape (Rx * Ry,)
        Peaks at each scan position.
    """

    counts: NDArray[np.int64]
    radius_max: float
    outside: int
    disks: NDArray[np.int64]


BINS = 100
REACHED, FINEST, FARTHEST = 0.998, 0.001, 20.0
"""Share of the peaks within a histogram's reach, which is found in bins of the finest width out to the farthest, in
1/Angstrom: no camera of an electron microscope reaches that."""


def radial_histogram(source: PeakSource, radius_max: float | None = None) -> RadialHistogram:
    """Count a scan's Bragg peaks by their distance from the centre, a block of scan rows at a time.

    Parameters
    ----------
    source : BraggPeaks or reader
        The scan.
    radius_max : float, optional
        Outer edge of the last of `BINS` bins, in 1/Angstrom. By default the next tenth beyond all peaks but a few that
        lie apart.

    Returns
    -------
    RadialHistogram

    Raises
    ------
    ValueError
        If radius_max is not positive.
    """
    if radius_max is not None and not radius_max > 0:
        raise ValueError(f"radius_max (--radius-max) must be positive, in 1/Angstrom, got {radius_max}")
    bins, end = (round(FARTHEST / FINEST), FARTHEST) if radius_max is None else (BINS, radius_max)
    counts = np.zeros(bins, np.int64)
    peaks, disks = 0, []
    for block in source.blocks():
        counts += np.histogram(np.hypot(block.qx, block.qy), bins, (0.0, end))[0]
        peaks += len(block.qx)
        disks.append(block.counts)
    if radius_max is None:
        reach = int(np.searchsorted(np.cumsum(counts), REACHED * counts.sum())) + 1
        finest = -(-reach // BINS)  # in a bin: BINS of the finest are a tenth of 1/Angstrom
        counts = counts[: finest * BINS].reshape(BINS, finest).sum(axis=1)
        end = finest * BINS * FINEST
    return RadialHistogram(counts, end, peaks - int(counts.sum()), np.concatenate(disks))


def phase_rings(phase: CrystalPhase, radius_max: float) -> list[Ring]:
    """Rings of a phase's reflections, from the inside out.

    Parameters
    ----------
    phase : CrystalPhase
        Its ``reflections`` are what is drawn.
    radius_max : float
        Largest radius, in 1/Angstrom.

    Returns
    -------
    list of Ring
        Rings weaker than a thousandth of the strongest are left out.
    """
    hkl = phase.reflections[:, :3]
    radius = np.linalg.norm(hkl @ phase.reciprocal, axis=1)
    keep = (radius > 0) & (radius <= radius_max)
    hkl, radius, power = hkl[keep], radius[keep], phase.reflections[keep, 3] ** 2
    _, members = np.unique(np.rint(radius * 1e4), return_inverse=True)
    strength = np.bincount(members, power)
    rings = []
    for index in np.flatnonzero(strength > 1e-3 * strength.max(initial=0.0)):
        inside = members == index
        h, k, l_ = (int(i) for i in max(np.rint(hkl[inside]).tolist()))
        rings.append(Ring(float(radius[inside].mean()), (h, k, l_), float(strength[index] / strength.max())))
    return rings
