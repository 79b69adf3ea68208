"""Hundreds of damages of each kind of HDF5 file: no hang, no nameless error, and our own never read as another."""

from pathlib import Path

import numpy as np
import pytest

from helpers.damage import outcomes
from helpers.example_phases import PHASES
from helpers.scans import random_points, save_point_lists
from microinfer.peaks import BraggPeaks, Scan
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.settings import SimulationConfig

DEMO = Path(__file__).parents[2] / "python/microinfer/data/demo/polycrystal.h5"
RNG = np.random.default_rng(3)


def patterns(count: int, most: int) -> list[np.ndarray]:
    return [RNG.uniform(-1, 1, (n % most, 3)) for n in range(count)]


def demo(folder: Path) -> Path:
    return DEMO


def contiguous(folder: Path) -> Path:
    return save_point_lists(folder / "lists.h5", (20, 20), random_points(RNG, 400, 20))


def compressed(folder: Path) -> Path:
    layout = {"chunks": (8, 8), "compression": "gzip", "shuffle": True}
    return save_point_lists(folder / "lists.h5", (20, 20), random_points(RNG, 400, 20), **layout)


def native(folder: Path) -> Path:
    peaks = BraggPeaks.from_patterns(patterns(350, 60), Scan((5, 70), 2.5, "nm", True))
    peaks.save(folder / "peaks.h5")
    return folder / "peaks.h5"


def library(folder: Path) -> Path:
    count = 60
    PatternLibrary(
        BraggPeaks.from_patterns(patterns(count, 20), (count, 1)),
        orientation=np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
        phase=np.zeros(count, np.int64),
        zone=np.arange(count),
        thickness=RNG.uniform(1, 9, count).astype(np.float32),
        phases=(PHASES["Cu"],),
        simulation=SimulationConfig(),
        in_plane_bound=np.ones(count, np.float32),
    ).save(folder / "library.h5")
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
