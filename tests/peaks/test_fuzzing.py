"""Hundreds of damages of each kind of HDF5 file: no hang, no nameless error, and our own never read as another."""

from pathlib import Path

import numpy as np
import pytest

from helpers.damage import outcomes
from helpers.libraries import random_library
from helpers.scans import random_points, save_point_lists
from microinfer.peaks import BraggPeaks, Scan

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


def library(folder: Path) -> Path:
    random_library().save(folder / "library.h5")
    return folder / "library.h5"


FOREIGN = [("scan", demo, 170), ("lists", contiguous, 200), ("lists", compressed, 200)]
OWN = [("scan", native, 200), ("library", library, 200)]


@pytest.mark.parametrize(("reader", "make", "count"), FOREIGN)
def test_damages_of_foreign_files(tmp_path: Path, reader: str, make, count: int) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, range(count))
    assert found["refused"] > count // 4
    assert set(found) <= {"same", "refused", "changed"}  # their values have no checksums


@pytest.mark.parametrize(("reader", "make", "count"), OWN)
def test_damages_of_our_own_files(tmp_path: Path, reader: str, make, count: int) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, range(count))
    assert found["refused"] > count * 3 // 4
    assert set(found) <= {"same", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "make", "count"), FOREIGN)
def test_thousands_of_damages_of_foreign_files(tmp_path: Path, reader: str, make, count: int) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, range(count, 2000))
    crashes = {what for what in found if what.startswith("ended by -")}  # in HDF5's own code
    assert set(found) - crashes <= {"same", "refused", "changed"}
    assert len(crashes) < 4


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "make", "count"), OWN)
def test_thousands_of_damages_of_our_own_files(tmp_path: Path, reader: str, make, count: int) -> None:
    found = outcomes(reader, make(tmp_path), tmp_path, range(count, 2000))
    assert set(found) <= {"same", "refused"}
