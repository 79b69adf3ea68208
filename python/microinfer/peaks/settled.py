"""What follows from a fit of the rings: the calibration, what of it was known already, and what disagrees."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.peaks.agreement import RingAgreement
from microinfer.peaks.calibration_result import SIGNIFICANT, CalibrationResult, Verdict
from microinfer.peaks.centre import Centre, each_centre
from microinfer.peaks.pixels import PixelCalibration
from microinfer.peaks.prepared import SpotPeaks, origin_at
from microinfer.peaks.ring_fit import RingFit
from microinfer.peaks.scan import PeakSource

FLOOR = 5e-4  # of a pixel size: what the excitation errors leave uncertain
SURE_CENTRE = 0.1  # pixels: systematic errors of the direct beam's position
MOVES = 0.1  # pixels over the scan, by which the direct beam moves where it counts


class _Shape(NamedTuple):
    """Pixel size and ellipse of a fit."""

    pixel_size: float
    error: float
    mean: float
    ratio: float
    ratio_error: float
    angle: float


def settle(
    source: PeakSource,
    peaks: SpotPeaks,
    known: PixelCalibration,
    best: RingFit | None,
    second: RingFit | None,
    reason: str,
    agreement: RingAgreement | None,
) -> CalibrationResult:
    """Make the result of the best fit and the second; a `reason` says why they do not decide."""
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
    shape = _Shape(np.nan, np.nan, np.nan, 1.0, np.nan, 0.0)
    verdict: Verdict = "refused"
    if best is not None and not reason:
        shape = _shape(best, peaks.unit)
        verdict = "measured"
        if known.pixel_size is not None:
            error = SIGNIFICANT * float(np.hypot(shape.error, known.pixel_size_error or 0.0))
            # where no ellipse was known, it is not known either along which axis the size holds
            least = shape.pixel_size / (shape.ratio if known.ellipse is None else 1.0)
            agrees = least - error < known.pixel_size < shape.pixel_size + error
            verdict = "agrees" if agrees else "disagrees"
            if not agrees:
                warnings.append(
                    f"the pixel size that was stated or given, {known.pixel_size:.6g} 1/Angstrom, is "
                    f"{known.pixel_size / shape.pixel_size - 1:+.2%} off: the rings give {shape.pixel_size:.6g} ± "
                    f"{shape.error:.2g}"
                )
        measured = _with(measured, shape, agreement)
        if known.ellipse is not None:
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
        0.0 if second is None or best is None or best.evidence <= 0 else second.evidence / best.evidence,
        agreement,
        peaks.spots,
        peaks.orientations,
        _kept(known, measured),
        measured,
    )


def _shape(fit: RingFit, unit: float) -> _Shape:
    """Pixel size and ellipse of a fit, as py4DSTEM writes them; without the ellipse where it is not significant."""
    e1, e2 = fit.values[3:5]
    strain = float(np.hypot(e1, e2))
    direction = np.array([e1, e2]) / max(strain, 1e-12)
    error = float(np.sqrt(direction @ fit.covariance[3:5, 3:5] @ direction))
    mean = unit * float(np.exp(fit.values[2])) * float(np.sqrt(1 - strain**2))
    relative = float(np.hypot(np.sqrt(fit.covariance[2, 2]), FLOOR))
    if strain < SIGNIFICANT * error:
        return _Shape(mean, mean * relative, mean, 1.0, 2 * error, 0.0)
    ratio = (1 + strain) / (1 - strain)
    size = mean * np.sqrt(ratio)
    angle = 0.5 * float(np.arctan2(e2, e1)) + np.pi / 2  # what is stretched least lay farthest out
    return _Shape(float(size), float(size * np.hypot(relative, error)), mean, ratio, 2 * error, angle % np.pi)


def _with(known: PixelCalibration, shape: _Shape, agreement: RingAgreement | None) -> PixelCalibration:
    """What is known with a pixel size and an ellipse in its place."""
    names = " and ".join(agreement.shares) if agreement is not None else ""
    note = f"on the rings of {names}: pixel size {shape.pixel_size:.6g} ± {shape.error:.2g} 1/Angstrom"
    sources = {**known.sources, "pixel_size": "measured"}
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
    if known.ellipse is not None and known.sources.get("ellipse") != "measured":
        kept = replace(kept, ellipse=known.ellipse)
        sources["ellipse"] = known.sources.get("ellipse", "file")
    if known.pixel_size is not None and known.sources.get("pixel_size") != "measured":
        size = known.pixel_size
        if known.ellipse is None and measured.ellipse is not None and measured.pixel_size is not None:
            along_b, mean = measured.pixel_size, measured.pixel_size / np.sqrt(measured.ratio)
            if abs(size - mean) < abs(size - along_b):  # of rings that were taken for circles
                size = float(size * np.sqrt(measured.ratio))
        kept = replace(kept, pixel_size=size, pixel_size_error=known.pixel_size_error)
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
        off = shift + each_centre(source, first, lambda place: origin_at(known, place, (rows, columns)))
    off += origin_at(known, position, (rows, columns)).reshape(rows, columns, 2)
    return off[..., 0].copy(), off[..., 1].copy()
