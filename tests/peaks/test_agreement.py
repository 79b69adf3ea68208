"""Peaks against the rings of phases: what fits, what would at another scale, what does not, what cannot be told."""

import os
from pathlib import Path

import numpy as np
import pytest

import microinfer as mi
from helpers.example_phases import PHASES, make_phase, turn
from helpers.kinematic import kinematic_scan
from microinfer.peaks.agreement import ring_agreement

REAL_DATA = Path(os.environ.get("MICROINFER_REAL_DATA", Path(__file__).parents[3] / "shared" / "real"))
CRYSTALS = ("Cu", "Ti", "ZnS")
SEEDS = range(6)
BIG = make_phase("big", (9.1, 11.3, 12.7, 90, 101, 90), "P2/m", "2/m", turn([0, 1, 0], 2))


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_scan_of_the_phase_fits(name: str) -> None:
    for seed in SEEDS:
        found = ring_agreement(kinematic_scan(PHASES[name], seed), (PHASES[name],))
        assert found.verdict == "fits", (seed, found)
        assert found.scale == pytest.approx(1.0, abs=0.005)
        assert found.share == found.shares[name] > 0.6


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("scale", [0.97, 1.03])
def test_a_pixel_size_that_is_off_is_told_with_its_amount(name: str, scale: float) -> None:
    for seed in SEEDS:
        found = ring_agreement(kinematic_scan(PHASES[name], seed, scale=scale), (PHASES[name],))
        assert found.verdict == "scale", (seed, found)
        assert found.scale == pytest.approx(scale, abs=0.005)
    text = found.describe(pixel_size=0.02 * scale)
    assert ("too small" if scale < 1 else "too large") in text
    assert ("larger" if scale < 1 else "smaller") in text.rsplit("its lattice", 1)[1]
    given = float(text.split("--pixel-size ")[1].split(",")[0])
    assert given == pytest.approx(0.02, rel=0.004)


@pytest.mark.parametrize(
    ("scan", "model"), [("Ti", "Cu"), ("ZnS", "Cu"), ("forsterite", "Cu"), ("Cu", "ZnS"), ("quartz", "Ti")]
)
def test_another_crystal_is_told(scan: str, model: str) -> None:
    told = [ring_agreement(kinematic_scan(PHASES[scan], seed), (PHASES[model],)).verdict for seed in SEEDS]
    assert "fits" not in told
    assert told.count("other") + told.count("scale") >= len(told) - 1


def test_noise_and_few_disks_give_no_false_alarm() -> None:
    for seed in SEEDS:
        noisy = kinematic_scan(PHASES["Cu"], seed, noise=0.01, grains=3, camera=0.9)
        assert not ring_agreement(noisy, (PHASES["Cu"],)).wrong


def test_one_of_several_phases_is_enough() -> None:
    phases = (PHASES["Cu"], PHASES["forsterite"])
    found = ring_agreement(kinematic_scan(PHASES["Cu"], 1), phases)
    assert found.verdict == "fits"
    assert found.shares["Cu"] > 0.6 > 0.2 > found.shares["forsterite"]
    assert ring_agreement(kinematic_scan(PHASES["Cu"], 1, scale=1.03), phases).verdict == "scale"


def test_a_scan_of_two_phases_fits_both() -> None:
    phases = (PHASES["Cu"], PHASES["ZnS"])
    scans = [kinematic_scan(phase, 3) for phase in phases]
    patterns = [scan.pattern(rx, ry) for scan in scans for rx in range(8) for ry in range(8)]
    found = ring_agreement(mi.BraggPeaks.from_patterns(patterns, (16, 8)), phases)
    assert found.verdict == "fits"
    assert min(found.shares.values()) > 0.05


def test_rings_that_are_too_dense_say_nothing() -> None:
    for scan in (PHASES["Cu"], PHASES["Ti"]):
        found = ring_agreement(kinematic_scan(scan, 2, noise=0.008), (BIG,))
        assert found.verdict == "unknown"
        assert "cannot be told" in found.describe()


@pytest.mark.parametrize("patterns", [[np.zeros((0, 3))] * 6, [np.array([[0.3, 0.4, 1.0]])] * 6])
def test_too_few_peaks_say_nothing(patterns: list[np.ndarray]) -> None:
    found = ring_agreement(mi.BraggPeaks.from_patterns(patterns, (2, 3)), (PHASES["Cu"],))
    assert found.verdict == "unknown"
    assert "too few" in found.describe()


def test_only_selected_positions_count_and_few_rows_are_read() -> None:
    right, wrong = (kinematic_scan(PHASES[name], 5) for name in ("Cu", "Ti"))
    patterns = [scan.pattern(rx, ry) for scan in (right, wrong) for rx in range(8) for ry in range(8)]
    scan = mi.BraggPeaks.from_patterns(patterns * 8, (128, 8))
    selected = np.zeros((128, 8), bool)
    selected[np.arange(128) % 16 < 8] = True
    rows: list[int] = []

    class Watched:
        scan_shape = scan.scan_shape

        def read_rows(self, start: int, stop: int) -> mi.BraggPeaks:
            rows.extend(range(start, stop))
            return scan.read_rows(start, stop)

    assert ring_agreement(Watched(), (PHASES["Cu"],), selected=selected).verdict == "fits"  # type: ignore[arg-type]
    assert len(rows) <= 24
    assert ring_agreement(scan, (PHASES["Cu"],), selected=~selected).wrong


def test_the_answer_depends_neither_on_intensity_units_nor_on_turning() -> None:
    scan = kinematic_scan(PHASES["Ti"], 4)
    turned = mi.BraggPeaks(scan.offsets, -scan.qy, scan.qx, 7.0 * scan.intensity, scan.scan)
    first, second = (ring_agreement(peaks, (PHASES["Ti"],)) for peaks in (scan, turned))
    assert (first.verdict, first.scale) == (second.verdict, second.scale)
    assert first.evidence == pytest.approx(second.evidence, rel=0.05)


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs the real data")
def test_silicon_is_silicon_even_uncorrected() -> None:
    def in_zincblende(*hkl: int) -> bool:
        return len({index % 2 for index in hkl}) == 1 and (hkl[0] % 2 == 1 or sum(hkl) % 4 == 0)

    cubic = (turn([0, 0, 1], 4), turn([1, 1, 1], 3))
    silicon = make_phase(
        "Si", (5.431, 5.431, 5.431, 90, 90, 90), "Fd-3m", "m-3m", *cubic, centring=in_zincblende
    )
    for name in ("si_tilt_bragg.h5", "si_tilt_bragg_uncorrected.h5"):
        with mi.open_peaks(REAL_DATA / "si-tilt" / name) as reader:
            assert ring_agreement(reader, (silicon,)).verdict == "fits"
            assert ring_agreement(reader, (PHASES["Cu"],)).verdict == "other"
