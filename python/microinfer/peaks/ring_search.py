"""At which pixel sizes, and under which ellipses, a scan's Bragg peaks lie on the rings of phases.

The score is that of `microinfer.peaks.agreement`: by how far the rings that peaks lie on stand out of their
surroundings, in nats. On a logarithmic scale of radii another pixel size is a shift: all of them are one correlation.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.peaks.agreement import BIN, LARGEST, SMALLEST, WIDTHS, contrast_at

SHARE = 0.5  # of the peaks on rings, while nothing is known of it
LARGEST_STRAIN = 0.035  # of the ellipses that are tried: half the difference of the semi-axes over their mean
STRAIN_STEP = 0.005
APART = 0.015  # of the logarithm of the pixel size: what lies nearer is the same answer


class Candidate(NamedTuple):
    """A pixel size and an ellipse that may be right.

    Attributes
    ----------
    phases : tuple of CrystalPhase
        Whose rings they are.
    log_scale : float
        Logarithm of the radii of the rings over those of the peaks.
    strain : tuple of float
        e1 and e2 of `strained`.
    width : float
        Of the rings, standard deviation in 1/Angstrom.
    evidence : float
        In nats over chance.
    """

    phases: tuple[CrystalPhase, ...]
    log_scale: float
    strain: tuple[float, float]
    width: float
    evidence: float


def strained(q: NDArray[np.float64], e1: float, e2: float) -> NDArray[np.float64]:
    """(P, 2) stretched by 1 + e along one direction and by 1 - e across it: [[1 + e1, e2], [e2, 1 - e1]] q."""
    return np.asarray(q @ np.array([[1.0 + e1, e2], [e2, 1.0 - e1]]))


def search(
    q: NDArray[np.float64], weight: NDArray[np.float64], phases: tuple[CrystalPhase, ...], reach: float
) -> list[Candidate]:
    """Score pixel sizes and ellipses, and return the best answers, the best first.

    Parameters
    ----------
    q : ndarray, shape (P, 2)
        Positions from the direct beam in 1/Angstrom, by the pixel size that is stated or guessed.
    weight : ndarray, shape (P,)
        Of each peak; their sum is the number of independent ones.
    phases : tuple of CrystalPhase
        The scan may hold one of them, or all.
    reach : float
        Largest logarithm of a factor on the pixel size that is tried.
    """
    steps = np.arange(-int(reach / BIN), int(reach / BIN) + 1)
    first = np.log(SMALLEST) - reach
    bins = int((np.log(LARGEST) + reach - first) / BIN) + 1
    size = 1 << int(np.ceil(np.log2(bins + len(steps))))
    radii = np.exp(first + BIN * np.arange(bins))
    strains = _strains()
    spectra = np.stack([_spectrum(strained(q, *strain), weight, first, size) for strain in strains])
    groups = [phases, *((phase,) for phase in phases if len(phases) > 1)]
    found = []
    for group, width in product(groups, WIDTHS):
        contrast = np.mean([contrast_at(phase, width, radii) for phase in group], axis=0)
        rings = np.fft.rfft(np.log(1.0 + SHARE * (contrast - 1.0)), size)
        evidence = np.fft.irfft(rings * spectra.conj(), size)[:, steps]
        best = evidence.argmax(axis=0)
        top = evidence[best, np.arange(len(steps))]
        for at in _peaks_of(top):
            strain = strains[best[at]]
            found.append(Candidate(group, float(steps[at] * BIN), strain, width, float(top[at])))
    return _apart(found)


def _strains() -> list[tuple[float, float]]:
    values = np.arange(-LARGEST_STRAIN, LARGEST_STRAIN + STRAIN_STEP / 2, STRAIN_STEP).tolist()
    return [(e1, e2) for e1, e2 in product(values, values) if np.hypot(e1, e2) <= LARGEST_STRAIN + 1e-9]


def _spectrum(
    q: NDArray[np.float64], weight: NDArray[np.float64], first: float, size: int
) -> NDArray[np.complex128]:
    radius = np.clip(np.hypot(q[:, 0], q[:, 1]), SMALLEST, LARGEST)
    bins = np.rint((np.log(radius) - first) / BIN).astype(np.int64)
    return np.fft.rfft(np.bincount(bins, weight, size))


def _peaks_of(values: NDArray[np.float64], most: int = 8) -> list[int]:
    """Local maxima, the highest first."""
    inner = np.concatenate([[-np.inf], values, [-np.inf]])
    top = np.flatnonzero((values >= inner[:-2]) & (values >= inner[2:]))
    return [int(at) for at in top[np.argsort(-values[top])][:most]]


def _apart(found: list[Candidate], most: int = 8) -> list[Candidate]:
    """The best candidates, each of another pixel size."""
    kept: list[Candidate] = []
    for candidate in sorted(found, key=lambda candidate: -candidate.evidence):
        if all(abs(candidate.log_scale - other.log_scale) > APART for other in kept):
            kept.append(candidate)
    return kept[:most]
