"""Whether a scan's Bragg peaks lie on the rings of crystal phases: they do, they would at another scale, or not at all.

The distances of the peaks from the centre are drawn, so the model, from the rings of the phases and from anywhere, in
shares that are fitted at every scale. A ring counts by how far it stands out of its surroundings: rings that are as
dense as the noise is wide give no evidence. What the same peaks reach at scales that are far off says what chance does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.peaks.scan import PeakSource

Verdict = Literal["fits", "scale", "other", "unknown"]

ROWS, POSITIONS = 24, 1500  # of a scan, at most, that are looked at
STRONGEST = 40  # peaks of a position that are looked at
RICH = 0.3  # positions with fewer peaks, of what the richest tenth has, are background
SPOT = 0.03  # 1/Angstrom: nearer peaks of several positions are one spot, seen again
REPEATED = 0.75  # a spot seen k times counts as k to this power: false peaks are hardly ever seen again
FEWEST, MANY = 6.0, 40.0  # spots: nothing can be said of fewer; with more, few spots are not the reason

GRID = 1e-3  # 1/Angstrom
BIN = 3e-3  # of the logarithm of the radius, and of the scale
SMALLEST, LARGEST = 0.03, 12.0  # 1/Angstrom
SURROUNDINGS = 0.08  # 1/Angstrom, standard deviation: what a ring is set against
WIDTHS = (0.002, 0.004, 0.007, 0.011, 0.016, 0.022)  # 1/Angstrom, of the rings: noise of the positions
USUAL_WIDTH = 0.011  # of a scan that is well calibrated
ELLIPSE = 0.004  # of the radius: what an ellipse and a drift of the camera length add to the width
ROUNDS = 15  # of expectation and maximisation
EXPECTED_SHARE, LEAST_SHARE = 0.8, 0.5  # of the peaks on the rings of a crystal that is there

SHIFTS = np.arange(-167, 168)  # in bins
SCALES = np.exp(SHIFTS * BIN)
FARTHEST = 0.15
NEAR = np.abs(SCALES - 1) <= FARTHEST  # where a scale is looked for; beyond it is chance
HERE = np.abs(SCALES - 1) <= 0.01  # the scan's own, as good as calibrations are

EVIDENCE, COUNTEREVIDENCE = 8.0, 4.0
"""Nats of log-likelihood: by which an explanation must beat chance, and another scale this one; and by which chance
must beat the least share of the peaks that a crystal which is there has on its rings."""
ELSEWHERE = 16.0
"""Nats by which scales that are far off fit better than this one only where it is wrong."""
CHANCE = 1.4
"""How many times the best evidence of scales that are far off."""
FITTING = 0.5
"""Of the evidence that a crystal which is there would give."""


@dataclass(frozen=True)
class RingAgreement:
    """How a scan's peaks agree with the rings of phases.

    Attributes
    ----------
    verdict : str
        ``"fits"``; ``"scale"``: they would fit farther in or out; ``"other"``: they fit at no scale within 15 %;
        ``"unknown"``: the peaks are too few, or the rings too dense, to tell.
    scale : float
        Radii of the peaks over those of the rings, where they agree best; more than 15 % off only where they clearly
        do there.
    shares : dict of str to float
        Of the peaks, on the rings of each phase, what chance puts there left out.
    spots : float
        How many independent peaks were looked at: those that positions share count once.
    width : float
        Of the rings that fit best, standard deviation in 1/Angstrom: noise, ellipse and drift.
    evidence, expected : float
        Log-likelihood of the peaks over that of chance, in nats, and what a crystal that is there would give.
    """

    verdict: Verdict
    scale: float
    shares: dict[str, float]
    spots: float
    width: float
    evidence: float
    expected: float

    @property
    def share(self) -> float:
        """Share of the peaks on the rings of any phase."""
        return sum(self.shares.values())

    @property
    def wrong(self) -> bool:
        """Whether the peaks contradict the phases, or the scale."""
        return self.verdict in ("scale", "other")

    def describe(self, pixel_size: float | None = None) -> str:
        """Say it in a sentence, for people.

        Parameters
        ----------
        pixel_size : float, optional
            1/Angstrom per pixel, as the scan is calibrated now.
        """
        names = " and ".join(self.shares)
        if self.verdict == "fits":
            each = ", ".join(f"{share:.0%} on the rings of {name}" for name, share in self.shares.items())
            return (
                f"the peaks fit {names}: {each} beyond chance; their radii are {self.scale:.3f} of the rings', "
                f"give or take {self.width:.3f} 1/Angstrom"
            )
        if self.verdict == "scale":
            where, size, lattice = (
                ("in", "small", "larger") if self.scale < 1 else ("out", "large", "smaller")
            )
            change = f"{abs(self.scale - 1):.1%}"
            remedy = (
                "read the peaks anew with the right one, --pixel-size"
                if pixel_size is None
                else f"give --pixel-size {pixel_size / self.scale:.5g}, not {pixel_size:.5g}"
            )
            return (
                f"the peaks lie {change} too far {where} for {names}: either the pixel size is {change} too {size} "
                f"({remedy}), or this is another crystal of the same kind, its lattice {change} {lattice}"
            )
        if self.verdict == "other":
            far = abs(self.scale - 1) > FARTHEST
            elsewhere = f"; at {1 / self.scale:.3g} times the pixel size they would" if far else ""
            return (
                f"the peaks do not lie on the rings of {names}, nor would they at any pixel size within 15 % of this "
                f"one: it is another crystal, or the calibration (pixel size, origin) is far off{elsewhere}"
            )
        why = (
            f"{self.spots:.0f} different peaks are too few"
            if self.spots < MANY
            else "the rings are too dense for the noise of the peaks, or too few peaks are on any"
        )
        return f"whether the peaks fit {names} cannot be told: {why}"


def ring_agreement(
    source: PeakSource,
    phases: tuple[CrystalPhase, ...],
    *,
    direct_beam_radius: float = 0.05,
    selected: NDArray[np.bool_] | None = None,
) -> RingAgreement:
    """Set a scan's Bragg peaks against the rings of phases.

    Parameters
    ----------
    source : BraggPeaks or reader
        The scan; a few of its rows are read.
    phases : tuple of CrystalPhase
        The scan may hold any of them; at least one with reflections.
    direct_beam_radius : float
        Peaks nearer to the centre are the direct beam, in 1/Angstrom.
    selected : ndarray of bool, shape (Rx, Ry), optional
        Positions that count, all by default.

    Returns
    -------
    RingAgreement
    """
    return agreement_of(sample_peaks(source, direct_beam_radius, selected), phases)


Peaks = list[NDArray[np.float64]]
"""Of some positions of a scan: qx and qy in 1/Angstrom, (n, 2) each, the brightest first."""


def sample_peaks(
    source: PeakSource, direct_beam_radius: float = 0.05, selected: NDArray[np.bool_] | None = None
) -> Peaks:
    """Return the peaks of positions spread over a scan, without the direct beam; parameters as of `ring_agreement`.

    Positions with far fewer peaks than others are left out: what lies there is background.
    """
    wanted = np.ones(source.scan_shape, np.bool_) if selected is None else selected
    rows = np.flatnonzero(wanted.any(axis=1))
    rows = (
        rows[np.unique(np.linspace(0, len(rows) - 1, ROWS).round().astype(np.int64))] if len(rows) else rows
    )
    step = max(1, -(-int(wanted[rows].sum()) // POSITIONS))
    patterns = []
    for row in rows:
        try:
            peaks = source.read_rows(int(row), int(row) + 1)
        except (OSError, ValueError):  # said by whoever needs that row
            continue
        for column in np.flatnonzero(wanted[row])[::step]:
            pattern = peaks.pattern(0, int(column)).astype(np.float64)
            pattern = pattern[np.hypot(pattern[:, 0], pattern[:, 1]) >= direct_beam_radius]
            patterns.append(pattern[np.argsort(-pattern[:, 2], kind="stable"), :2])
    rich = np.quantile([len(pattern) for pattern in patterns], 0.9) if patterns else 0
    return [pattern for pattern in patterns if len(pattern) >= RICH * rich]


def agreement_of(peaks: Peaks, phases: tuple[CrystalPhase, ...]) -> RingAgreement:
    """Set some peaks against the rings of phases, as `ring_agreement` does."""
    spots = Spots(peaks)
    if spots.number < FEWEST or not all(len(phase.reflections) for phase in phases):
        return RingAgreement("unknown", 1.0, _shares(phases), spots.number, 0.0, 0.0, 0.0)
    found = [_judged(spots, phases)]
    if len(phases) > 1:  # a scan that holds one of them alone has clearer rings than all of them
        alone = [_judged(spots, (phase,)) for phase in phases]
        found += [replace(agreement, shares=_shares(phases) | agreement.shares) for agreement in alone]
    for verdict in ("fits", "scale"):
        agreeing = [agreement for agreement in found if agreement.verdict == verdict]
        if agreeing:
            return max(agreeing, key=lambda agreement: agreement.evidence)
    return found[0]


def _shares(phases: tuple[CrystalPhase, ...], shares: Sequence[float] = ()) -> dict[str, float]:
    return dict(zip((phase.name for phase in phases), shares or [0.0] * len(phases), strict=True))


def _judged(spots: "Spots", phases: tuple[CrystalPhase, ...]) -> RingAgreement:
    """Set spots against the rings of phases that may all be there."""
    fits = [_Fit(spots, phases, width) for width in WIDTHS]
    best = max(fits, key=lambda fit: fit.evidence[NEAR].max())
    at = int(np.where(NEAR, best.evidence, -np.inf).argmax())
    here = max(fits, key=lambda fit: fit.evidence[HERE].max())
    at_here = int(np.where(HERE, here.evidence, -np.inf).argmax())
    far = max(fits, key=lambda fit: fit.evidence[~NEAR].max())
    at_far = int(np.where(NEAR, -np.inf, far.evidence).argmax())
    chance = float(far.evidence[at_far])

    def holds(fit: _Fit, index: int) -> bool:
        expected = fit.expected(index)
        enough = EVIDENCE if fit.width <= USUAL_WIDTH else 2 * EVIDENCE
        least = max(enough, CHANCE * chance, FITTING * expected)
        return bool(fit.evidence[index] > least and expected > EVIDENCE)

    usual = [fit for fit in fits if fit.width <= USUAL_WIDTH]
    against = max(float(fit.evidence_of_least[HERE].max()) for fit in usual)
    verdict: Verdict = "unknown"
    if holds(here, at_here) and best.evidence[at] - here.evidence[at_here] < EVIDENCE:
        verdict, best, at = "fits", here, at_here
    elif holds(best, at) and best.evidence[at] - here.evidence[at_here] > EVIDENCE:
        verdict = "scale"
    elif against < -COUNTEREVIDENCE or chance - here.evidence[at_here] > ELSEWHERE:
        verdict = "other"
        if chance - best.evidence[at] > ELSEWHERE and chance > FITTING * far.expected(at_far) > EVIDENCE:
            best, at = far, at_far
    return RingAgreement(
        verdict,
        _scale(best.evidence, at),
        _shares(phases, best.shares[at].tolist()),
        spots.number,
        best.width,
        float(best.evidence[at]),
        best.expected(at),
    )


def _scale(evidence: NDArray[np.float32], at: int) -> float:
    """Scale of a maximum, between the bins."""
    before, top, after = (
        float(evidence[min(max(0, near), len(evidence) - 1)]) for near in (at - 1, at, at + 1)
    )
    bend = 2 * top - before - after
    between = float(np.clip((after - before) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0
    return float(SCALES[at] * np.exp(between * BIN))


class Spots:
    """The strongest peaks of some positions.

    Attributes
    ----------
    radius, weight : ndarray, shape (n,)
        In 1/Angstrom; of spots that positions share, and of single peaks, see `REPEATED`.
    number : float
        Of independent spots.
    """

    def __init__(self, peaks: Peaks) -> None:
        q = np.concatenate([np.zeros((0, 2)), *(pattern[:STRONGEST] for pattern in peaks)])
        self.radius = np.hypot(q[:, 0], q[:, 1])
        self.weight, self.number = spot_weights(q)


def spot_weights(q: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Weight of each peak, by how often its spot is seen, and how many independent spots there are."""
    cells = np.rint(q / SPOT).astype(np.int64)
    _, spot, seen = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    weight = seen**REPEATED
    number = float(weight.sum() ** 2 / (weight**2).sum()) if len(q) else 0.0
    return (weight / seen)[spot.ravel()], number


class _Fit:
    """The peaks at every scale against rings of one width.

    Attributes
    ----------
    width : float
    evidence, evidence_of_least : ndarray, shape (scales,)
        Log-likelihood over that of chance, in nats: of the shares, and of `LEAST_SHARE` in their proportions.
    shares : ndarray, shape (scales, phases)
        Of the peaks, on the rings of the phases.
    """

    def __init__(self, spots: Spots, phases: tuple[CrystalPhase, ...], width: float) -> None:
        self.width = width
        self._contrasts = contrasts = [_contrast(phase, width) for phase in phases]
        self._number = spots.number
        bins = _bin(spots.radius)
        counts = np.bincount(bins, spots.weight, len(contrasts[0]))
        counts *= spots.number / counts.sum()
        used = np.flatnonzero(counts)
        ratio = np.stack([contrast[used - SHIFTS[:, None]] for contrast in contrasts])
        self._smooth = _smooth(spots)
        seen = counts[used].astype(np.float32)
        self.shares, self.evidence = mixture(ratio, seen)
        total = 1.0 + LEAST_SHARE * np.einsum("psr,sp->sr", ratio - 1.0, _proportions(self.shares))
        self.evidence_of_least = np.log(total) @ seen

    def expected(self, index: int) -> float:
        """Evidence at a scale if `EXPECTED_SHARE` of the peaks lay on the rings, as smoothly as they do."""
        shares = EXPECTED_SHARE * _proportions(self.shares)[index]
        bins = np.arange(len(self._smooth)) - SHIFTS[index]
        inside = (bins >= 0) & (bins < len(self._smooth))
        ratio = np.ones(len(self._smooth))
        ratio[inside] += sum(
            share * (contrast[bins[inside]] - 1.0)
            for share, contrast in zip(shares, self._contrasts, strict=True)
        )
        density = self._smooth * ratio
        density /= density.sum()
        return self._number * float(density @ np.log(ratio))


def _proportions(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares of the phases among each other, equal where there are none."""
    some = shares + np.float32(1e-3)
    return np.asarray(some / some.sum(axis=1, keepdims=True))


def mixture(
    ratio: NDArray[np.float32], counts: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit the shares of components by expectation and maximisation.

    Parameters
    ----------
    ratio : ndarray, shape (phases, scales, bins)
        Density of each component over that of chance.
    counts : ndarray, shape (bins,)
        Spots.

    Returns
    -------
    shares : ndarray, shape (scales, phases)
    evidence : ndarray, shape (scales,)
    """
    phases, scales, _ = ratio.shape
    shares = np.full((phases, scales), 0.5 / phases, np.float32)
    for _ in range(ROUNDS):
        responsibility = counts / (1.0 + np.einsum("psr,ps->sr", ratio - 1.0, shares))
        shares *= np.einsum("psr,sr->ps", ratio, responsibility) / counts.sum()
    evidence = np.log(1.0 + np.einsum("psr,ps->sr", ratio - 1.0, shares)) @ counts
    return shares.T, evidence


def contrast_at(phase: CrystalPhase, width: float, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Density of a phase's rings over that of their surroundings, at radii in 1/Angstrom; 1 beyond the last ring."""
    steps = (np.log(np.maximum(radii, 1e-9) / SMALLEST) / BIN) + SHIFTS[-1]
    contrast = _contrast(phase, width)
    return np.interp(steps, np.arange(len(contrast)), contrast, left=1.0, right=1.0)


@lru_cache(maxsize=32)
def _contrast(phase: CrystalPhase, width: float) -> NDArray[np.float32]:
    """Density of a phase's rings over that of their surroundings, by `_bin`; 1 beyond the last ring."""
    g = np.linalg.norm(phase.reflections[:, :3] @ phase.reciprocal, axis=1)
    power = np.bincount(np.rint(g / GRID).astype(np.int64), phase.reflections[:, 3] ** 2)
    power[0] = 0.0
    # Dynamical patterns hold more of the weak reflections than their |F|^2.
    strength = np.sqrt(np.where(power > 1e-3 * power.max(), power, 0.0))
    grid = np.arange(len(power) + int(0.5 / GRID)) * GRID
    density = np.zeros(len(grid))
    for line in np.flatnonzero(strength):
        sigma = np.hypot(width, ELLIPSE * grid[line])
        near = slice(max(0, int(line - 5 * sigma / GRID)), int(line + 5 * sigma / GRID) + 2)
        density[near] += strength[line] / sigma * np.exp(-0.5 * ((grid[near] - grid[line]) / sigma) ** 2)
    inside = (np.arange(len(grid)) < len(power)).astype(np.float64)
    around = _blurred(density * inside)
    around /= np.maximum(_blurred(inside), 0.1)
    floor = 1e-3 * around.max()
    ratio = np.where(inside > 0, (density + floor) / (around + floor), 1.0)
    return np.interp(_radii(), grid, ratio, right=1.0).astype(np.float32)


def _smooth(spots: Spots) -> NDArray[np.float64]:
    """Spots by `_bin`, smoothed over the surroundings of a ring."""
    edges = np.arange(0.0, LARGEST, GRID)
    counts = np.histogram(spots.radius, edges, weights=spots.weight)[0]
    density = _blurred(counts)
    radii = _radii()
    return np.interp(radii, edges[:-1] + GRID / 2, density) * radii


def _blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values on the grid of radii, blurred over the surroundings of a ring."""
    reach = int(4 * SURROUNDINGS / GRID)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * GRID / SURROUNDINGS) ** 2)
    return np.convolve(values, kernel / kernel.sum(), "full")[reach : reach + len(values)]


def _bin(radius: NDArray[np.float64]) -> NDArray[np.int64]:
    """Logarithmic bins, a margin of the largest shift before them and after."""
    inside = np.clip(radius, SMALLEST, LARGEST)
    bins = np.rint(np.log(inside / SMALLEST) / BIN).astype(np.int64) + SHIFTS[-1]
    return np.asarray(bins, np.int64)


def _radii() -> NDArray[np.float64]:
    """Radius of each of `_bin`'s bins, in 1/Angstrom."""
    bins = int(np.log(LARGEST / SMALLEST) / BIN) + 2 + 2 * int(SHIFTS[-1])
    return np.asarray(SMALLEST * np.exp((np.arange(bins) - int(SHIFTS[-1])) * BIN))
