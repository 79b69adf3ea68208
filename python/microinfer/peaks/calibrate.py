"""Calibration from the data: direct beam, ellipse and pixel size from a scan's Bragg peaks and rings of known phases.

Nothing that a file states, or that was given, is overwritten: it is compared.
"""

from os import PathLike

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import electron_wavelength
from microinfer.crystals.phase import CrystalPhase
from microinfer.peaks.agreement import FEWEST, MANY, RingAgreement, agreement_of
from microinfer.peaks.calibration_result import CalibrationResult
from microinfer.peaks.centre import take_sample
from microinfer.peaks.native import PeakWriter
from microinfer.peaks.pixels import PixelCalibration
from microinfer.peaks.prepared import SpotPeaks, prepare
from microinfer.peaks.ring_fit import RingFit, fit_rings
from microinfer.peaks.ring_search import APART, search, strained
from microinfer.peaks.scan import PeakSource
from microinfer.peaks.settled import SURE_CENTRE, settle

FAR, NEAR = float(np.log(4.0)), float(np.log(1.15))
"""Logarithm of the factors that are tried on the pixel size: at all, and on one that is known."""
USUAL_VOLTAGE = 200e3
CANDIDATES = 6  # that are fitted
DECIDED, MARGIN = 1.4, 8.0  # times the evidence of the second-best answer, and nats over it
ORIENTATIONS = 4.0  # fewer do not decide which ring is which


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
    peaks = prepare(take_sample(source, selected), known, source.scan_shape)
    fits = _fits(peaks, phases, electron_wavelength(source.voltage or USUAL_VOLTAGE))
    best, second, reason, agreement = _judged(peaks, fits, phases, known)
    return settle(source, peaks, known, best, second, reason, agreement)


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


def _fits(peaks: SpotPeaks, phases: tuple[CrystalPhase, ...], wavelength: float) -> list[RingFit]:
    """The answers, the best first, each of another pixel size."""
    if peaks.spots < FEWEST or not all(len(phase.reflections) for phase in phases):
        return []
    error = float(np.hypot(peaks.centre.error, SURE_CENTRE)) * peaks.unit
    kept: list[RingFit] = []
    found = [
        fit_rings(peaks.q, peaks.weight, candidate, error, wavelength=wavelength)
        for candidate in search(peaks.q, peaks.weight, phases, FAR)[:CANDIDATES]
    ]
    for fit in sorted(found, key=lambda fit: -fit.evidence):
        if all(abs(fit.values[2] - other.values[2]) > APART for other in kept):
            kept.append(fit)
    return kept


def _judged(
    peaks: SpotPeaks, fits: list[RingFit], phases: tuple[CrystalPhase, ...], known: PixelCalibration
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
            reason = (
                f"the peaks do not lie on the rings of {names} at a pixel size within 15 % of the known one"
            )
            return fits[0], None, f"{reason}; they rather would at {size:.4g} 1/Angstrom", None
    best, *rivals = pool
    second = next((fit for fit in fits if fit is not best), None)
    agreement = agreement_of(_calibrated(peaks, best), phases)
    if agreement.verdict != "fits":
        few = f"{peaks.spots:.0f} different peaks are too few"
        why = (
            few if peaks.spots < MANY else f"the peaks do not lie on the rings of {names}, at any pixel size"
        )
        return best, second, why, agreement
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


def _calibrated(peaks: SpotPeaks, fit: RingFit) -> list[NDArray[np.float64]]:
    """Peaks of each position in 1/Angstrom, by a fit."""
    x, y, log_scale, e1, e2, _ = fit.values
    q = np.exp(log_scale) * strained(peaks.q - (x, y), e1, e2)
    bounds = np.flatnonzero(np.diff(peaks.pattern)) + 1
    return np.split(q, bounds)
