"""Calibration from the data: accuracy, error bars, what is refused, and what is known already."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import microinfer as mi
from helpers.example_phases import PHASES, make_phase, turn
from helpers.pixels import ANGLE, CENTRE, PIXEL_SIZE, RATIO, scan_in_pixels
from helpers.scans import PEAK, save_old_vectors
from microinfer.peaks import BraggPeaks
from microinfer.peaks.calibrate import calibrate, write_calibrated
from microinfer.peaks.calibration_result import CalibrationResult
from microinfer.peaks.pixels import PixelCalibration

REAL_DATA = Path(os.environ.get("MICROINFER_REAL_DATA", Path(__file__).parents[3] / "shared" / "real"))
COPPER = (PHASES["Cu"],)
STATED = PixelCalibration(1.05 * PIXEL_SIZE, sources={"pixel_size": "file", "origin": "measured"})
BIG = make_phase("big", (9.1, 11.3, 12.7, 90, 101, 90), "P2/m", "2/m", turn([0, 1, 0], 2))


def require_right(found: CalibrationResult) -> None:
    assert found.pixel_size == pytest.approx(PIXEL_SIZE, rel=0.003)
    assert found.ratio == pytest.approx(RATIO, abs=0.003)
    assert np.abs(np.sin(found.angle - ANGLE)) < 0.1
    assert np.abs(found.centre - CENTRE).max() < 0.2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beam", [True, False])
def test_pixel_size_ellipse_and_centre_are_found(seed: int, beam: bool) -> None:
    scan, _ = scan_in_pixels(COPPER, seed, beam=beam)
    found = calibrate(scan, COPPER, STATED)
    assert found.verdict == "disagrees"
    require_right(found)
    assert found.centre_way == ("direct beam" if beam else "Friedel pairs")


@pytest.mark.parametrize("name", ["Cu", "Ti", "ZnS", "quartz"])
def test_a_pixel_size_that_nobody_knows_is_found(name: str) -> None:
    phases = (PHASES[name],)
    found = calibrate(scan_in_pixels(phases, 3)[0], phases)
    assert found.verdict == "measured"
    require_right(found)
    assert found.second is not None
    assert abs(found.second / found.mean_pixel_size - 1) > 0.01
    assert found.second_share < 0.7


def test_two_phases_at_once() -> None:
    phases = (PHASES["Cu"], PHASES["ZnS"])
    require_right(calibrate(scan_in_pixels(phases, 5)[0], phases))


def test_noise_and_false_peaks() -> None:
    scan, _ = scan_in_pixels(COPPER, 6, noise=0.4, false=4.0)
    require_right(calibrate(scan, COPPER))


def test_error_bars_are_honest() -> None:
    """Errors over the error bars, 12 scans: their root mean square is about one, and none is large."""
    pulls = []
    for seed in range(12):
        found = calibrate(scan_in_pixels(COPPER, 100 + seed, noise=0.3, shape=(8, 8))[0], COPPER, STATED)
        pulls.append(
            [
                (found.pixel_size - PIXEL_SIZE) / found.pixel_size_error,
                (found.ratio - RATIO) / found.ratio_error,
                *((found.centre - CENTRE) / found.centre_error),
            ]
        )
        assert found.pixel_size_error < 0.003 * PIXEL_SIZE
    size, ratio, x, y = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert size < 1.5  # it includes what excitation errors leave uncertain
    assert 0.4 < ratio < 1.6
    assert 0.4 < np.hypot(x, y) / np.sqrt(2) < 1.6
    assert np.abs(pulls).max() < 4


def test_without_an_ellipse_none_is_found() -> None:
    found = calibrate(scan_in_pixels(COPPER, 8, ratio=1.0)[0], COPPER)
    assert found.ratio == 1.0
    assert found.measured.ellipse is None
    assert found.pixel_size == found.mean_pixel_size == pytest.approx(PIXEL_SIZE, rel=0.002)


def test_a_direct_beam_that_moves_is_followed(tmp_path: Path) -> None:
    scan, centre = scan_in_pixels(COPPER, 9, drift=(3.0, -2.0), jitter=0.6, noise=0.1)
    found = calibrate(scan, COPPER)
    x, y = (np.asarray(values) for values in found.measured.origin or (0, 0))
    off = np.stack([x, y], axis=-1) - centre
    assert np.sqrt(np.mean(off**2)) < 0.2
    # where it only drifts, a plane is fitted, and single positions do not follow the noise
    scan, centre = scan_in_pixels(COPPER, 9, drift=(3.0, -2.0), noise=0.2)
    x, y = (np.asarray(values) for values in calibrate(scan, COPPER).measured.origin or (0, 0))
    assert np.abs(np.stack([x, y], axis=-1) - centre).max() < 0.15


def test_only_selected_positions_count() -> None:
    scans = [scan_in_pixels((PHASES[name],), 3)[0] for name in ("Cu", "Ti")]
    patterns = [scan.pattern(rx, ry) for scan in scans for rx in range(12) for ry in range(12)]
    selected = np.arange(24)[:, None] < np.full(12, 12)
    require_right(calibrate(BraggPeaks.from_patterns(patterns, (24, 12)), COPPER, selected=selected))


# --- what is refused ----------------------------------------------------------------------------------------


def refusal(scan: BraggPeaks, phases: tuple, known: PixelCalibration | None = None) -> str:
    found = calibrate(scan, phases, known)
    assert found.verdict == "refused"
    assert np.isnan(found.pixel_size)
    assert found.measured.pixel_size == (None if known is None else known.pixel_size)
    assert found.reason in found.facts()["Verdict"]
    return found.reason


def test_too_few_peaks_decide_nothing() -> None:
    empty = BraggPeaks.from_patterns([np.zeros((0, 3))] * 6, (2, 3))
    assert "0 different peaks are too few" in refusal(empty, COPPER)
    few = BraggPeaks.from_patterns([np.array([[0.0, 0.0, 9.0], [30.0, 10.0, 1.0]])] * 6, (2, 3))
    assert "too few" in refusal(few, COPPER)


@pytest.mark.parametrize("known", [None, STATED])
def test_a_single_crystal_decides_nothing(known: PixelCalibration | None) -> None:
    for seed in range(3):
        reason = refusal(scan_in_pixels(COPPER, seed, grains=1)[0], COPPER, known)
        assert "orientations are too few" in reason or "too few, at any" in reason


@pytest.mark.parametrize("seed", range(6))
def test_peaks_that_mean_nothing_are_refused(seed: int) -> None:
    """Random peaks, all at one place, on a line, huge or tiny: never an answer, and never an error."""
    rng = np.random.default_rng(seed)
    shape = (4, 5)
    patterns = [rng.uniform(-1, 1, (int(rng.integers(0, 30)), 3)) for _ in range(20)]
    scale = [[50, 50, 1], [1e-6, 1e-6, 1], [1e9, 1e9, 1], [50, 0, 1], [0, 0, 1], [50, 50, 0]][seed]
    scan = BraggPeaks.from_patterns([pattern * scale for pattern in patterns], shape)
    for known in (None, STATED, PixelCalibration(origin=None)):
        assert calibrate(scan, COPPER, known).verdict == "refused"


def test_another_crystal_is_refused() -> None:
    reasons = [refusal(scan_in_pixels((PHASES["Ti"],), seed)[0], COPPER, STATED) for seed in range(3)]
    assert all("do not lie on the rings of Cu" in reason for reason in reasons)


def test_rings_that_are_too_dense_decide_nothing() -> None:
    refusal(scan_in_pixels(COPPER, 1, noise=0.4)[0], (BIG,))


# --- what is known already ----------------------------------------------------------------------------------


def test_what_a_file_states_is_kept_and_compared() -> None:
    scan, _ = scan_in_pixels(COPPER, 2)
    known = replace(STATED, ellipse=(1.03, 1.0, ANGLE + 0.8), origin=(0.0, 0.0), sources={"origin": "file"})
    found = calibrate(scan, COPPER, known)
    assert found.verdict == "disagrees"
    beam, size, ellipse = found.warnings
    assert "pixels from the origin that is known" in beam
    assert "% off: the rings give 0.0" in size
    assert "is not that of the rings" in ellipse
    assert found.calibration.pixel_size == known.pixel_size
    assert found.calibration.ellipse == known.ellipse
    assert found.calibration.origin == known.origin
    assert found.measured.pixel_size == found.pixel_size
    assert found.measured.sources == dict.fromkeys(("pixel_size", "ellipse", "origin"), "measured")


def test_a_stated_mean_pixel_size_stays_the_mean_beside_an_ellipse() -> None:
    scan, _ = scan_in_pixels(COPPER, 2)
    mean = PIXEL_SIZE / np.sqrt(RATIO)
    for stated in (mean, PIXEL_SIZE):
        known = PixelCalibration(stated, sources={"pixel_size": "file", "origin": "measured"})
        found = calibrate(scan, COPPER, known)
        assert found.verdict == "agrees"
        assert found.calibration.pixel_size == pytest.approx(PIXEL_SIZE, rel=0.002)
        assert found.calibration.ratio == pytest.approx(RATIO, abs=0.003)


def test_what_is_right_already_agrees() -> None:
    scan, _ = scan_in_pixels(COPPER, 2)
    right = PixelCalibration(
        PIXEL_SIZE, ellipse=(RATIO, 1.0, ANGLE), origin=CENTRE, sources={"origin": "file"}
    )
    found = calibrate(scan, COPPER, right)
    assert (found.verdict, found.warnings) == ("agrees", ())


def test_calibrated_peaks_are_the_true_ones(tmp_path: Path) -> None:
    scan, _ = scan_in_pixels(COPPER, 4, false=0.0)
    write_calibrated(scan, tmp_path / "peaks.h5", calibrate(scan, COPPER).calibration)
    peaks = mi.read_peaks(tmp_path / "peaks.h5")
    raw = np.column_stack([scan.qx, scan.qy]) - CENTRE
    along = np.array([np.cos(ANGLE), np.sin(ANGLE)])
    true = raw @ np.linalg.inv(np.eye(2) + (RATIO - 1) * np.outer(along, along)) * PIXEL_SIZE
    off = np.hypot(peaks.qx - true[:, 0], peaks.qy - true[:, 1])
    assert off.max() < 0.003  # 0.15 pixels, at 1.4 1/Angstrom too
    assert peaks.scan == scan.scan
    # it can be done again: the peaks themselves are as they were
    with mi.open_peaks(tmp_path / "peaks.h5", in_pixels=True) as reader:
        assert np.array_equal(reader.read_rows(0, 12).qx, scan.qx)
        again = calibrate(reader, COPPER)
    assert (again.verdict, again.warnings) == ("agrees", ())


def test_raw_vectors_of_py4dstem_become_calibrated(tmp_path: Path) -> None:
    scan, _ = scan_in_pixels(COPPER, 7)
    points = []
    for n in range(len(scan)):
        pattern = scan.pattern(*divmod(n, 12))
        peaks = np.zeros(len(pattern), PEAK)
        peaks["qx"], peaks["qy"], peaks["intensity"] = pattern.T
        peaks["qx"] += 64
        peaks["qy"] += 64
        points.append(peaks)
    calibration = {"Q_pixel_size": 1, "Q_pixel_units": "pixels", "QR_rotation": 0.3, "QR_flip": True}
    path = save_old_vectors(tmp_path / "raw.h5", (12, 12), points, calibration)
    with mi.open_peaks(path, in_pixels=True) as reader:
        found = calibrate(reader, COPPER)
        write_calibrated(reader, tmp_path / "peaks.h5", found.calibration)
    assert found.pixel_size == pytest.approx(PIXEL_SIZE, rel=0.003)
    assert np.abs(found.centre - CENTRE - 64).max() < 0.2
    right = {"qx0": 64 + CENTRE[0], "qy0": 64 + CENTRE[1], "a": RATIO, "b": 1.0, "theta": ANGLE}
    right |= {"Q_pixel_size": PIXEL_SIZE, "Q_pixel_units": "A^-1", "QR_rotation": 0.3, "QR_flip": True}
    save_old_vectors(path, (12, 12), points, right)
    expected, peaks = mi.read_peaks(path), mi.read_peaks(tmp_path / "peaks.h5")
    assert peaks.qr_calibrated
    assert np.abs(peaks.qx - expected.qx).max() < 0.004
    assert np.abs(peaks.qy - expected.qy).max() < 0.004


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs the real data")
def test_the_ellipse_of_a_real_camera_is_found() -> None:
    def in_diamond(*hkl: int) -> bool:
        return len({index % 2 for index in hkl}) == 1 and (hkl[0] % 2 == 1 or sum(hkl) % 4 == 0)

    cubic = (turn([0, 0, 1], 4), turn([1, 1, 1], 3))
    silicon = make_phase(
        "Si", (5.431, 5.431, 5.431, 90, 90, 90), "Fd-3m", "m-3m", *cubic, centring=in_diamond
    )
    with mi.open_peaks(REAL_DATA / "si-tilt" / "si_tilt_bragg_uncorrected.h5", in_pixels=True) as reader:
        found = calibrate(reader, (silicon,))
    assert found.verdict == "agrees"
    assert found.ratio == pytest.approx(1.04, abs=0.012)
    assert found.mean_pixel_size == pytest.approx(0.0056, rel=0.01)
