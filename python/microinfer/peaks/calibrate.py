"""Calibration from the data: direct beam, ellipse and pixel size from a scan's Bragg peaks and rings of known phases.

Nothing that a file states, or that was given, is overwritten: it is compared.
"""

from dataclasses import dataclass, replace
from os import PathLike
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import electron_wavelength
from microinfer.crystals.phase import CrystalPhase
from microinfer.peaks.agreement import FEWEST, MANY, SPOT, RingAgreement, agreement_of, spot_weights
from microinfer.peaks.centre import Centre, Sample, each_centre, find_centre, rough_centre, take_sample
from microinfer.peaks.native import PeakWriter
from microinfer.peaks.pixels import PixelCalibration
from microinfer.peaks.ring_fit import RingFit, fit_rings
from microinfer.peaks.ring_search import APART, search, strained
from microinfer.peaks.scan import PeakSource

Verdict = Literal["measured", "agrees", "disagrees", "refused"]

FAR, NEAR = float(np.log(4.0)), float(np.log(1.15))
"""Logarithm of the factors that are tried on the pixel size: at all, and first on one that is known."""
USUAL_REACH, REACHED = 1.2, 0.9  # 1/Angstrom, and the share of the peaks that lie within
USUAL_VOLTAGE = 200e3
INNER = (
    0.12  # of the radius of that share: the direct beam lies within, the innermost ring beyond twice as far
)
CANDIDATES = 6  # that are fitted
DECIDED, MARGIN = 1.4, 8.0  # times the evidence of the second-best answer, and nats over it
ORIENTATIONS = 4.0  # fewer do not decide which ring is which
AGAIN, MOST = 3, 0.6  # positions that have a spot, and the share of the peaks
SIGNIFICANT = 3.0  # standard errors, of an ellipse and of a disagreement
FLOOR = 5e-4  # of a pixel size: what the excitation errors leave uncertain
SURE_CENTRE = 0.1  # pixels: systematic errors of the direct beam's position
MOVES = 0.1  # pixels over the scan, by which the direct beam moves where it counts


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """What a scan's peaks say of their calibration.

    Attributes
    ----------
    verdict : str
        ``"measured"`` where no pixel size was known; ``"agrees"`` or ``"disagrees"`` with the one that was;
        ``"refused"``: the rings do not decide.
    reason : str
        Why it is refused; else empty.
    warnings : tuple of str
        What disagrees with what was known, beyond the error bars.
    centre, centre_error : ndarray, shape (2,)
        Direct beam in pixels, from the origin that was known, in the middle of the scan; NaN where it is not found.
    centre_way : str
        ``"direct beam"``, ``"Friedel pairs"`` or ``"unknown"``.
    pixel_size, pixel_size_error : float
        1/Angstrom per pixel once the ellipse is undone, as in `PixelCalibration`; NaN where the rings do not decide.
    mean_pixel_size : float
        Its mean over the directions of the detector, the ellipse left as it is.
    ratio, ratio_error, angle : float
        The ellipse's semi-axis a over b, 1 where it is not significant, and the angle of a from qx in radians.
    second : float or None
        Pixel size of the second-best answer, a mean over the directions.
    second_share : float
        Its evidence over that of the best.
    agreement : RingAgreement or None
        Of the peaks with the best answer.
    spots, orientations : float
        How many independent spots and orientations there are, about.
    calibration : PixelCalibration
        What is known, with what was measured where nothing was.
    measured : PixelCalibration
        The same, with what was measured in place of what was known.
    """

    verdict: Verdict
    reason: str
    warnings: tuple[str, ...]
    centre: NDArray[np.float64]
    centre_error: NDArray[np.float64]
    centre_way: str
    pixel_size: float
    pixel_size_error: float
    mean_pixel_size: float
    ratio: float
    ratio_error: float
    angle: float
    second: float | None
    second_share: float
    agreement: RingAgreement | None
    spots: float
    orientations: float
    calibration: PixelCalibration
    measured: PixelCalibration

    def facts(self) -> dict[str, str]:
        """What was found, in sentences, by what it is about."""
        x, y = self.centre
        told = {
            "Peaks": f"{self.spots:.0f} different ones, of about {self.orientations:.0f} orientations",
            "Centre": "not found: neither a direct beam nor pairs of opposite disks"
            if self.centre_way == "unknown"
            else f"{x:.2f}, {y:.2f} pixels from the origin, give or take {self.centre_error.max():.2f} "
            f"({self.centre_way})",
        }
        if np.isfinite(self.pixel_size):
            told["Ellipse"] = (
                f"a/b {self.ratio:.4f}, give or take {self.ratio_error:.4f}, a at "
                f"{np.degrees(self.angle) % 180:.1f} degrees from qx"
                if self.ratio > 1
                else f"none beyond {SIGNIFICANT * self.ratio_error:.2%}"
                if np.isfinite(self.ratio_error)
                else "not measured"
            )
            told["Pixel size"] = f"{self.pixel_size:.6g} ± {self.pixel_size_error:.2g} 1/Angstrom" + (
                "" if self.ratio == 1 else f" (mean over the directions {self.mean_pixel_size:.6g})"
            )
            told["Second best"] = (
                "none"
                if self.second is None
                else f"{self.second:.5g} 1/Angstrom, with {self.second_share:.0%} of the evidence"
            )
        told["Verdict"] = {
            "measured": "the rings decide",
            "agrees": "agrees with the pixel size that is known",
            "disagrees": "disagrees with the pixel size that is known",
            "refused": f"the rings do not decide: {self.reason}",
        }[self.verdict]
        return told


@dataclass(frozen=True, eq=False)
class _Peaks:
    """Peaks from their direct beam, in 1/Angstrom as the pixel size is known or guessed."""

    q: NDArray[np.float64]
    pattern: NDArray[np.int64]
    weight: NDArray[np.float64]
    spots: float
    orientations: float
    unit: float
    centre: Centre


class _Ellipse(NamedTuple):
    """Pixel size and ellipse of a fit."""

    pixel_size: float
    error: float
    mean: float
    ratio: float
    ratio_error: float
    angle: float


def calibrate(
    source: PeakSource,
    phases: tuple[CrystalPhase, ...],
    known: PixelCalibration | None = None,
    *,
    selected: NDArray[np.bool_] | None = None,
) -> CalibrationResult:
    """Measure the calibration of a scan's Bragg peaks.

    Parameters
    ----------
    source : BraggPeaks or reader
        Peaks in detector pixels, as `open_peaks` reads them with ``in_pixels=True``.
    phases : tuple of CrystalPhase
        The scan holds one of them, or several.
    known : PixelCalibration, optional
        What is known of them; by default what a reader's file says, else nothing but that they are measured from the
        direct beam.
    selected : ndarray of bool, shape (Rx, Ry), optional
        Positions that count, all by default.

    Returns
    -------
    CalibrationResult
    """
    if known is None:
        known = getattr(source, "known", None) or PixelCalibration()
    peaks = _prepared(take_sample(source, selected), known, source.scan_shape)
    fits = _fits(peaks, phases, electron_wavelength(source.voltage or USUAL_VOLTAGE))
    best, second, reason, agreement = _judged(peaks, fits, phases, known)
    return _result(source, peaks, known, best, second, reason, agreement)


def write_calibrated(source: PeakSource, path: str | PathLike[str], calibration: PixelCalibration) -> None:
    """Write a scan's peaks, in pixels, with their calibration to a native file.

    Parameters
    ----------
    source : BraggPeaks or reader
        Peaks in detector pixels, as in `calibrate`.
    path : path-like
        File to write; an existing one, the source's own too, is replaced once the new one is complete.
    calibration : PixelCalibration
        From `CalibrationResult`.

    Raises
    ------
    OSError
        Where a file cannot be read or written; nothing half-written stays.
    """
    with PeakWriter(path, source.scan, calibration=calibration) as writer:
        for block in source.blocks():
            writer.write_rows(block)


def _prepared(sample: Sample, known: PixelCalibration, shape: tuple[int, int]) -> _Peaks:
    """Find the direct beam, leave it out, and scale the rest."""
    if known.origin is not None:
        sample = sample.moved(_origin_at(known, sample.position, shape))
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
    return _Peaks(q, outside.pattern, weight, spots, spots / max(1.0, per_pattern), unit, centre)


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


def _fits(peaks: _Peaks, phases: tuple[CrystalPhase, ...], wavelength: float) -> list[RingFit]:
    """The answers, the best first, each of another pixel size."""
    if peaks.spots < FEWEST or not all(len(phase.reflections) for phase in phases):
        return []
    error = float(np.hypot(peaks.centre.error, SURE_CENTRE)) * peaks.unit
    with_ellipse = peaks.orientations >= ORIENTATIONS
    kept: list[RingFit] = []
    found = [
        fit_rings(peaks.q, peaks.weight, candidate, error, wavelength=wavelength, with_ellipse=with_ellipse)
        for candidate in search(peaks.q, peaks.weight, phases, FAR)[:CANDIDATES]
    ]
    for fit in sorted(found, key=lambda fit: -fit.evidence):
        if all(abs(fit.values[2] - other.values[2]) > APART for other in kept):
            kept.append(fit)
    return kept


def _judged(
    peaks: _Peaks, fits: list[RingFit], phases: tuple[CrystalPhase, ...], known: PixelCalibration
) -> tuple[RingFit | None, RingFit | None, str, RingAgreement | None]:
    """The best answer and the second, why they do not decide, and how the peaks agree with the best."""
    if not fits:
        return None, None, f"{peaks.spots:.0f} different peaks are too few", None
    names = " and ".join(phase.name for phase in phases)
    pool = fits
    if known.pixel_size is not None:
        pool = [fit for fit in fits if abs(fit.values[2]) < NEAR]
        if not pool or pool[0].evidence * DECIDED < fits[0].evidence:
            size = peaks.unit * float(np.exp(fits[0].values[2]))
            reason = f"they do not lie on the rings of {names} at any pixel size within 15 % of the one that is known"
            return fits[0], None, f"{reason}; they rather would at {size:.4g} 1/Angstrom", None
    best, *rivals = pool
    second = next((fit for fit in fits if fit is not best), None)
    agreement = agreement_of(_calibrated(peaks, best), phases)
    if agreement.verdict != "fits":
        few = peaks.spots < MANY
        why = (
            f"{peaks.spots:.0f} different peaks are too few"
            if few
            else f"they do not lie on the rings of {names}"
        )
        return best, second, f"{why}, at any pixel size", agreement
    if peaks.orientations < ORIENTATIONS:
        reason = f"about {peaks.orientations:.0f} orientations are too few to tell which ring is which"
        return best, second, f"{reason}, and to see an ellipse: calibrate on a polycrystal", agreement
    if rivals and (
        rivals[0].evidence * DECIDED > best.evidence or best.evidence - rivals[0].evidence < MARGIN
    ):
        one, other = (peaks.unit * float(np.exp(fit.values[2])) for fit in (best, rivals[0]))
        return (
            best,
            second,
            f"{one:.5g} and {other:.5g} 1/Angstrom per pixel fit {names} about as well",
            agreement,
        )
    return best, second, "", agreement


def _calibrated(peaks: _Peaks, fit: RingFit) -> list[NDArray[np.float64]]:
    """Peaks of each position in 1/Angstrom, by a fit."""
    x, y, log_scale, e1, e2, _ = fit.values
    q = np.exp(log_scale) * strained(peaks.q - (x, y), e1, e2)
    bounds = np.flatnonzero(np.diff(peaks.pattern)) + 1
    return np.split(q, bounds)


def _ellipse(fit: RingFit, unit: float) -> _Ellipse:
    """Pixel size and ellipse of a fit, as py4DSTEM writes them; without the ellipse where it is not significant."""
    e1, e2 = fit.values[3:5]
    strain = float(np.hypot(e1, e2))
    direction = np.array([e1, e2]) / max(strain, 1e-12)
    error = float(np.sqrt(direction @ fit.covariance[3:5, 3:5] @ direction))
    mean = unit * float(np.exp(fit.values[2])) * float(np.sqrt(1 - strain**2))
    relative = float(np.hypot(np.sqrt(fit.covariance[2, 2]), FLOOR))
    if error == 0 or strain < SIGNIFICANT * error:
        return _Ellipse(mean, mean * relative, mean, 1.0, 2 * error if error else np.nan, 0.0)
    ratio = (1 + strain) / (1 - strain)
    size = mean * np.sqrt(ratio)
    angle = 0.5 * float(np.arctan2(e2, e1)) + np.pi / 2  # what is stretched least lay farthest out
    return _Ellipse(
        float(size), float(size * np.hypot(relative, error)), mean, ratio, 2 * error, angle % np.pi
    )


def _result(
    source: PeakSource,
    peaks: _Peaks,
    known: PixelCalibration,
    best: RingFit | None,
    second: RingFit | None,
    reason: str,
    agreement: RingAgreement | None,
) -> CalibrationResult:
    centre_error, shift = np.full(2, peaks.centre.error), np.zeros(2)
    if best is not None and not reason:
        shift = best.values[:2] / peaks.unit
        centre_error = np.sqrt(np.diag(best.covariance)[:2]) / peaks.unit
    centre = peaks.centre.shifted(shift)
    found = centre.way != "unknown" or not reason
    middle = (np.array([source.scan_shape]) - 1) / 2
    where = centre.at(middle)[0] if found else np.full(2, np.nan)
    measured, warnings = known, []
    if found:
        measured = replace(
            known,
            origin=_origin(source, known, peaks.centre, shift),
            sources={**known.sources, "origin": "measured"},
        )
        if known.origin is not None and known.sources.get("origin") in ("file", "given"):
            off = np.abs(where) - SIGNIFICANT * np.hypot(centre_error, SURE_CENTRE)
            if off.max() > 0:
                warnings.append(
                    f"the direct beam lies {where[0]:.2f}, {where[1]:.2f} pixels from the origin that is known"
                )
    shape = _Ellipse(np.nan, np.nan, np.nan, 1.0, np.nan, 0.0)
    verdict: Verdict = "refused"
    if best is not None and not reason:
        shape = _ellipse(best, peaks.unit)
        verdict = "measured"
        if known.pixel_size is not None:
            error = SIGNIFICANT * float(np.hypot(shape.error, known.pixel_size_error or 0.0))
            # where no ellipse was known, it is not known either along which axis the size holds
            least = shape.pixel_size / (shape.ratio if known.ellipse is None else 1.0)
            agrees = least - error < known.pixel_size < shape.pixel_size + error
            verdict = "agrees" if agrees else "disagrees"
            if not agrees:
                warnings.append(
                    f"the pixel size that is known, {known.pixel_size:.6g} 1/Angstrom, is "
                    f"{known.pixel_size / shape.pixel_size - 1:+.2%} off: the rings give {shape.pixel_size:.6g} ± "
                    f"{shape.error:.2g}"
                )
        measured = _with(measured, shape, agreement)
        if known.ellipse is not None and np.isfinite(shape.ratio_error):
            off = _strain(known.ratio, known.ellipse[2]) - _strain(shape.ratio, shape.angle)
            if np.hypot(*off) > SIGNIFICANT * shape.ratio_error / 2 + FLOOR:
                warnings.append(
                    f"the ellipse that is known, a/b {known.ratio:.4f} at {np.degrees(known.ellipse[2]) % 180:.1f} "
                    f"degrees, is not that of the rings, {shape.ratio:.4f} at {np.degrees(shape.angle):.1f} degrees"
                )
    return CalibrationResult(
        verdict,
        reason,
        tuple(warnings),
        where,
        centre_error,
        centre.way,
        shape.pixel_size,
        shape.error,
        shape.mean,
        shape.ratio,
        shape.ratio_error,
        shape.angle,
        None if second is None else peaks.unit * float(np.exp(second.values[2])),
        0.0 if second is None or best is None else second.evidence / best.evidence,
        agreement,
        peaks.spots,
        peaks.orientations,
        _kept(known, measured),
        measured,
    )


def _with(known: PixelCalibration, shape: _Ellipse, agreement: RingAgreement | None) -> PixelCalibration:
    """What is known with a pixel size and an ellipse in its place."""
    names = " and ".join(agreement.shares) if agreement is not None else ""
    note = f"on the rings of {names}: pixel size {shape.pixel_size:.6g} ± {shape.error:.2g} 1/Angstrom"
    sources = {**known.sources, "pixel_size": "measured"}
    if not np.isfinite(shape.ratio_error):  # not measured
        size = shape.mean * float(np.sqrt(known.ratio))
        return replace(known, pixel_size=size, pixel_size_error=shape.error, sources=sources, note=note)
    ellipse = (shape.ratio, 1.0, shape.angle)
    return replace(
        known,
        pixel_size=shape.pixel_size,
        pixel_size_error=shape.error,
        ellipse=ellipse if shape.ratio > 1 else None,
        sources={**sources, "ellipse": "measured"},
        note=note + (f", ellipse a/b {shape.ratio:.4f}" if shape.ratio > 1 else ""),
    )


def _kept(known: PixelCalibration, measured: PixelCalibration) -> PixelCalibration:
    """What was measured, with what a file states or a user gave in its place."""
    kept, sources = measured, dict(measured.sources)
    if known.origin is not None and known.sources.get("origin") in ("file", "given"):
        kept = replace(kept, origin=known.origin)
        sources["origin"] = known.sources["origin"]
    if known.ellipse is not None:
        kept = replace(kept, ellipse=known.ellipse)
        sources["ellipse"] = known.sources.get("ellipse", "file")
    if known.pixel_size is not None:
        kept = replace(kept, pixel_size=known.pixel_size, pixel_size_error=known.pixel_size_error)
        sources["pixel_size"] = known.sources.get("pixel_size", "file")
    return replace(kept, sources=sources)


def _strain(ratio: float, angle: float) -> NDArray[np.float64]:
    """An ellipse as e1 and e2: half the difference of its semi-axes over their mean, at twice the angle."""
    return (ratio - 1) / (ratio + 1) * np.array([np.cos(2 * angle), np.sin(2 * angle)])


def _origin(
    source: PeakSource, known: PixelCalibration, first: Centre, shift: NDArray[np.float64]
) -> tuple[float | NDArray[np.float64], float | NDArray[np.float64]]:
    """Origin with what it is off by: numbers, or maps where the direct beam moves over the scan.

    The rings shift the centre that was found first.
    """
    rows, columns = source.scan_shape
    centre = first.shifted(shift)
    moves = np.abs(centre.plane[1:]) * [[rows], [columns]]
    fixed = known.origin is None or not any(np.ndim(values) for values in known.origin)
    if fixed and centre.each is None and moves.max() < MOVES:
        at = centre.at((np.array([[rows, columns]]) - 1) / 2)[0]
        x, y = (0.0, 0.0) if known.origin is None else known.origin
        return float(x + at[0]), float(y + at[1])
    position = np.column_stack([np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)])
    if centre.each is None:
        off = centre.at(position).reshape(rows, columns, 2)
    else:
        off = shift + each_centre(source, first, lambda place: _origin_at(known, place, (rows, columns)))
    off += _origin_at(known, position, (rows, columns)).reshape(rows, columns, 2)
    return off[..., 0].copy(), off[..., 1].copy()


def _origin_at(
    known: PixelCalibration, position: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Origin that is known, 0 where none is, at scan positions (N, 2), shape (N, 2)."""
    maps = [
        np.broadcast_to(values if np.ndim(values) == 0 else values[()], shape)  # type: ignore[index]
        for values in known.origin or (0.0, 0.0)
    ]
    return np.column_stack([values[position[:, 0], position[:, 1]] for values in maps])
