"""Hundreds of damages of each kind of HDF5 file: no hang, no nameless error, and our own never read as another."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.damage import outcomes
from helpers.libraries import random_library
from helpers.scans import random_points, save_point_lists
from microinfer.peaks import BraggPeaks, Scan
from microinfer.peaks.calibrate import write_calibrated
from microinfer.peaks.pixels import PixelCalibration

DEMO = Path(__file__).parents[2] / "python/microinfer/data/demo/polycrystal.h5"
RNG = np.random.default_rng(3)


def demo(folder: Path) -> Path:
    return DEMO


def contiguous(folder: Path) -> Path:
    return save_point_lists(folder / "lists.h5", (20, 20), random_points(RNG, 400, 20))


def compressed(folder: Path) -> Path:
    layout = {"chunks": (8, 8), "compression": "gzip", "shuffle": True}
    return save_point_lists(folder / "lists.h5", (20, 20), random_points(RNG, 400, 20), **layout)


def native(folder: Path) -> Path:
    patterns = [RNG.uniform(-1, 1, (n % 60, 3)) for n in range(350)]
    BraggPeaks.from_patterns(patterns, Scan((5, 70), 2.5, "nm", True)).save(folder / "peaks.h5")
    return folder / "peaks.h5"


def in_pixels(folder: Path) -> Path:
    patterns = [RNG.uniform(-60, 60, (n % 60, 3)) for n in range(350)]
    peaks = BraggPeaks.from_patterns(patterns, Scan((5, 70), 2.5, "nm"))
    origin = RNG.uniform(-1, 1, (5, 70)), RNG.uniform(-1, 1, (5, 70))
    calibration = PixelCalibration(
        0.02, 1e-5, (1.03, 1.0, 0.4), origin, 0.3, sources={"pixel_size": "measured"}
    )
    write_calibrated(peaks, folder / "peaks.h5", calibration)
    return folder / "peaks.h5"


def library(folder: Path) -> Path:
    random_library().save(folder / "library.h5")
    return folder / "library.h5"


Maker = Callable[[Path], Path]
FOREIGN = [
    ("scan", demo, range(0, 180, 2)),
    ("lists", contiguous, range(120)),
    ("lists", compressed, range(120)),
]
OWN = [("scan", native, range(160)), ("scan", in_pixels, range(160)), ("library", library, range(200))]


@pytest.mark.parametrize(("reader", "make", "seeds"), FOREIGN)
def test_damages_of_foreign_files(tmp_path: Path, reader: str, make: Maker, seeds: range) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, seeds)
    assert found["refused"] > len(seeds) // 4
    assert set(found) <= {"same", "refused", "changed"}  # their values have no checksums


@pytest.mark.parametrize(("reader", "make", "seeds"), OWN)
def test_damages_of_our_own_files(tmp_path: Path, reader: str, make: Maker, seeds: range) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, seeds)
    assert found["refused"] > len(seeds) * 3 // 4
    assert set(found) <= {"same", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "make"), [row[:2] for row in FOREIGN])
def test_thousands_of_damages_of_foreign_files(tmp_path: Path, reader: str, make: Maker) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, range(2000))
    crashes = {what for what in found if what.startswith("ended by -")}  # in HDF5's own code
    assert set(found) - crashes <= {"same", "refused", "changed"}
    assert len(crashes) < 4


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "make"), [row[:2] for row in OWN])
def test_thousands_of_damages_of_our_own_files(tmp_path: Path, reader: str, make: Maker) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, range(2000))
    assert set(found) <= {"same", "refused"}
