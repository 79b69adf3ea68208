"""Centre, pixel size and ellipse that put a scan's Bragg peaks on the rings of phases: robust, with standard errors."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.peaks.agreement import SPOT, SURROUNDINGS, contrast_at, mixture
from microinfer.peaks.ring_search import Candidate

ROUNDS = 40
SHARES = (0.3, 0.97)  # of the peaks, on rings, at least and at most
STEPS = 10  # of a profile of the rings, in one standard deviation
NARROWEST = 5e-4  # 1/Angstrom, of a ring
EXCITATION = (4e-4, 8e-4)  # 1/Angstrom^2: usual mean square of the excitation errors, and how much it varies


@dataclass(frozen=True, eq=False)
class RingFit:
    """How a scan's peaks are put on rings.

    Attributes
    ----------
    phases : tuple of CrystalPhase
        Whose rings they are.
    values, covariance : ndarray, shapes (6,), (6, 6)
        Centre along qx and qy, logarithm of the scale, e1 and e2 of `microinfer.peaks.ring_search.strained`, and the
        mean square of the excitation errors: a disk lies nearer to the centre than its reflection is long.
    width : float
        Standard deviation of the peaks about the rings, in 1/Angstrom.
    spots : float
        Number of independent peaks on rings.
    shares : ndarray, shape (phases,)
        Of the peaks, on the rings of each phase, beyond chance.
    evidence : float
        In nats over chance.
    """

    phases: tuple[CrystalPhase, ...]
    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    width: float
    spots: float
    shares: NDArray[np.float64]
    evidence: float


def fit_rings(
    q: NDArray[np.float64],
    weight: NDArray[np.float64],
    candidate: Candidate,
    centre_error: float,
    *,
    wavelength: float = 0.025,
    with_ellipse: bool = True,
) -> RingFit:
    """Fit centre, scale and ellipse, beginning with a candidate.

    Each peak belongs to either of the rings next to it or to none, with probabilities that follow from its distances.
    The standard errors are those of a robust fit whose spots (peaks at one place, of however many positions) are drawn
    independently.

    Parameters
    ----------
    q : ndarray, shape (P, 2)
        Positions from the centre as it is known, in 1/Angstrom as they are scaled.
    weight : ndarray, shape (P,)
        Of each peak; their sum is the number of independent ones.
    candidate : Candidate
        From `microinfer.peaks.ring_search.search`.
    centre_error : float
        Standard error of that centre, in the same unit.
    wavelength : float
        Of the electrons, in Angstrom.
    with_ellipse : bool
        Whether to fit the ellipse, or to leave the peaks without.
    """
    rings, strength = _rings(candidate.phases)
    rings = rings - wavelength**2 * rings**3 / 8  # the Ewald sphere's curvature takes a disk out of the plane
    strain = candidate.strain if with_ellipse else (0.0, 0.0)
    expected = np.array([0.0, 0.0, candidate.log_scale, *strain, EXCITATION[0]])
    values = expected.copy()
    free = np.array([True, True, True, with_ellipse, with_ellipse, True])
    width, share = candidate.width, 0.7
    for _ in range(ROUNDS):
        radius, jacobian = _radii(q, values)
        profile = _profile(rings, strength, width)
        pull, _, on, squares = _pulls(radius + jacobian[:, 5] * values[5], profile, width, share)
        prior = _prior(centre_error)
        information = (jacobian * (weight * on)[:, None]).T @ jacobian / width**2 + np.diag(prior)
        slope = jacobian.T @ (weight * pull) - prior * (values - expected)
        step = np.linalg.solve(information[np.ix_(free, free)], slope[free])
        values[free] += step
        count = float(weight @ on)
        share = float(np.clip(count / weight.sum(), *SHARES))
        wide = np.sqrt(weight @ squares / max(count, 1e-9))
        width = max(NARROWEST, float(np.clip(wide, 0.7 * width, 1.1 * width)))
        if np.abs(step).max() < 1e-6 and abs(wide / width - 1) < 1e-3:
            break
    radius, jacobian = _radii(q, values)
    radius += jacobian[:, 5] * values[5]
    pull, stiffness, on, _ = _pulls(radius, _profile(rings, strength, width), width, share)
    prior = np.diag(_prior(centre_error))
    information = (jacobian * (weight * stiffness)[:, None]).T @ jacobian + prior
    scores = jacobian * (weight * pull)[:, None]
    _, spot = np.unique(np.rint(q / SPOT).astype(np.int64), axis=0, return_inverse=True)
    of_spots = np.zeros((spot.max() + 1, len(values)))
    np.add.at(of_spots, spot.ravel(), scores)
    inverse = np.linalg.pinv(information[np.ix_(free, free)])
    number = float((weight @ on) ** 2 / max(1e-9, np.sum(np.bincount(spot.ravel(), weight * on) ** 2)))
    few = number / max(1.0, number - free.sum())
    covariance = np.zeros((len(values), len(values)))
    covariance[np.ix_(free, free)] = (
        few * inverse @ (of_spots.T @ of_spots + prior)[np.ix_(free, free)] @ inverse
    )
    ratio = np.stack([contrast_at(phase, width, radius) for phase in candidate.phases])[:, None]
    shares, evidence = mixture(ratio.astype(np.float32), weight.astype(np.float32))
    return RingFit(
        candidate.phases,
        values,
        covariance,
        width,
        number,
        shares[0].astype(np.float64),
        float(evidence[0]),
    )


def _prior(centre_error: float) -> NDArray[np.float64]:
    """Inverse variances of what is known of the values before; the centre's is in the unit of the peaks, unscaled."""
    return np.array([centre_error**-2, centre_error**-2, 0.0, 0.0, 0.0, EXCITATION[1] ** -2])


def _rings(phases: tuple[CrystalPhase, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii and strengths of the phases' rings, in order."""
    radii, strengths = [], []
    for phase in phases:
        g = np.linalg.norm(phase.reflections[:, :3] @ phase.reciprocal, axis=1)
        places, member = np.unique(np.rint(g * 1e4), return_inverse=True)
        power = np.bincount(member.ravel(), phase.reflections[:, 3] ** 2)
        kept = (power > 1e-3 * power[places > 0].max()) & (places > 0)
        radii.append(places[kept] / 1e4)
        strengths.append(np.sqrt(power[kept] / power[kept].max()))
    order = np.argsort(np.concatenate(radii))
    return np.concatenate(radii)[order], np.concatenate(strengths)[order]


def _radii(
    q: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii of the peaks, (P,), without excitation errors, and their derivatives by the six values, (P, 6)."""
    x, y, log_scale, e1, e2, _ = values
    scale = np.exp(log_scale)
    matrix = scale * np.array([[1.0 + e1, e2], [e2, 1.0 - e1]])
    d = q - (x, y)
    v = d @ matrix
    radius = np.maximum(np.hypot(v[:, 0], v[:, 1]), 1e-9)
    u = v / radius[:, None]
    gradient = np.column_stack(
        [
            -(u @ matrix),
            radius,
            scale * (u[:, 0] * d[:, 0] - u[:, 1] * d[:, 1]),
            scale * (u[:, 0] * d[:, 1] + u[:, 1] * d[:, 0]),
            0.5 / np.maximum(radius, SPOT),
        ]
    )
    return radius, gradient


class _Profile(NamedTuple):
    """Rings as a function of the radius, by `step` from 0 on.

    Moments of the rings' densities about a radius: their sum, and that of their distances and squared distances from
    it; and the sum blurred over the surroundings of a ring.
    """

    step: float
    moments: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    around: NDArray[np.float64]


def _profile(rings: NDArray[np.float64], strength: NDArray[np.float64], width: float) -> _Profile:
    step, reach = width / STEPS, 5 * STEPS
    bins = int((rings[-1] + 5 * SURROUNDINGS) / step)
    lower = np.floor(rings / step).astype(np.int64)
    above = rings / step - lower  # between two steps, a ring is shared by both
    comb = np.bincount(lower, strength * (1 - above), bins) + np.bincount(lower + 1, strength * above, bins)
    off = -step * np.arange(-reach, reach + 1)
    density = np.exp(-0.5 * (off / width) ** 2) / width
    count, mean, square = (
        np.convolve(comb, values, "same") for values in (density, density * off, density * off**2)
    )
    coarse = SURROUNDINGS / 8
    wide = np.hypot(width, SURROUNDINGS)
    places = np.arange(-40, 41) * coarse
    kernel = np.exp(-0.5 * (places / wide) ** 2) / wide
    summed = np.bincount(np.rint(rings / coarse).astype(np.int64), strength, int(bins * step / coarse) + 2)
    around = np.convolve(summed, kernel)[40 : 40 + len(summed)]
    around += 1e-3 * around.max()
    return _Profile(
        step,
        (count, mean, square),
        np.interp(np.arange(bins) * (step / coarse), np.arange(len(around)), around),
    )


def _pulls(
    radius: NDArray[np.float64], profile: _Profile, width: float, share: float
) -> tuple[NDArray[np.float64], ...]:
    """Of each peak: derivative of its log-likelihood by its radius, minus the second one, membership, squares.

    A `share` of the peaks is drawn from the rings, the others from anywhere about them.
    """
    at = np.minimum(np.rint(radius / profile.step).astype(np.int64), len(profile.around) - 1)
    count, off, square = (share * moment[at] for moment in profile.moments)
    total = count + (1 - share) * profile.around[at]
    on, mean, squares = count / total, off / total, square / total
    return mean / width**2, on / width**2 - (squares - mean**2) / width**4, on, squares
