"""The paper's sampling of cubic crystals: its grid, its symmetry check, its labels."""

import dataclasses

import numpy as np
import pytest

from helpers.cif import write_cif
from helpers.optional import import_py4dstem, needs_py4dstem
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import misorientation, zone_axis_frames
from microinfer.ops.token_spec import TokenSpec
from microinfer.simulation import PatternSimulator, load_library, simulate_library
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.standard_triangle import (
    interpolated_zone_axes,
    projected_symmetry,
    zone_axis_patterns,
)
from microinfer.training.augmentation import turned
from microinfer.training.config import Config

SETTINGS = SimulationConfig(sampling="standard_triangle", thicknesses=10)


@pytest.fixture(scope="module")
def simulator() -> PatternSimulator:
    import_py4dstem()
    return PatternSimulator(load_structure("Cu"), SETTINGS)


def unit(*axis: float) -> np.ndarray:
    return np.array(axis) / np.linalg.norm(axis)


@needs_py4dstem
def test_grid_is_that_of_the_paper_and_of_py4dstem():
    axes = interpolated_zone_axes(2.0)
    assert len(axes) == 406
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 1.0)
    crystal = load_structure("Cu").to_py4dstem()
    crystal.calculate_structure_factors(1.0)
    crystal.orientation_plan(
        zone_axis_range=np.array([[0, 1, 1], [1, 1, 1]]), angle_step_zone_axis=2.0, progress_bar=False
    )
    distance = np.linalg.norm(axes[:, None] - crystal.orientation_vecs, axis=-1)
    assert distance.min(axis=1).max() < 1e-6
    assert distance.min(axis=0).max() < 1e-6


@pytest.mark.parametrize(
    ("axis", "order", "mirror"),
    [
        ((0, 0, 1), 4, True),
        ((1, 1, 1), 6, True),  # pseudo: the zeroth Laue zone has six equal sectors
        ((0, 1, 1), 2, True),
        ((1, 1, 2), 2, True),  # pseudo
        ((0, 1, 3.2), 1, True),
        ((1, 3, 5), 1, False),
    ],
)
def test_projected_symmetry_of_zone_axes(simulator, axis, order, mirror):
    orientation = zone_axis_frames(unit(*axis)[None])[0]
    patterns = simulator.patterns(orientation, 3.615 * np.linspace(3, 900, 20))
    assert projected_symmetry(patterns) == (order, mirror)
    turn = np.deg2rad(31.0)
    for pattern in patterns:  # a turned pattern has the same symmetry
        q = (pattern[:, 0] + 1j * pattern[:, 1]) * np.exp(1j * turn)
        pattern[:, 0], pattern[:, 1] = q.real, q.imag
    assert projected_symmetry(patterns) == (order, mirror)


def test_thicknesses_with_the_fewest_and_the_most_disks_are_kept(simulator):
    (zone,) = zone_axis_patterns(simulator, unit(0, 1, 3.2), 10)
    kept = [len(pattern) for pattern in zone.patterns]
    everything = [
        len(p)
        for p in simulator.patterns(zone.orientation, np.linspace(*SETTINGS.thickness_limits(3.615), 300))
    ]
    in_order = sorted(everything)
    assert kept == in_order[:5] + in_order[:-6:-1]


def test_opposite_zone_axis_only_where_it_shows_other_patterns(simulator):
    first, second = zone_axis_patterns(simulator, unit(1, 3, 5), 4)
    np.testing.assert_allclose(first.orientation[:, 2], -second.orientation[:, 2])
    assert first.in_plane_bound == second.in_plane_bound == pytest.approx(2 * np.pi)
    (only,) = zone_axis_patterns(simulator, unit(0, 0, 1), 4)
    assert only.in_plane_bound == pytest.approx(np.pi / 2)


@needs_py4dstem
def test_library_keeps_every_pattern_to_one_label(tmp_path):
    config = Config(
        "triangle", (PhaseConfig("Cu"),), dataclasses.replace(SETTINGS, zone_axis_step=14.0, thicknesses=4)
    )
    made = simulate_library(config, tmp_path / "library.h5", processes=1)
    library = load_library(tmp_path / "library.h5")
    np.testing.assert_array_equal(library.in_plane_bound, made.in_plane_bound)
    assert len(np.unique(library.zone)) > len(interpolated_zone_axes(14.0))  # opposite ones too
    four_fold = np.flatnonzero(np.isclose(library.in_plane_bound, np.pi / 2))
    assert len(four_fold) == 4  # the four thicknesses of [001]
    labels = turned(library, np.repeat(four_fold[:1], 50), TokenSpec(), seed=1).orientation
    angle = misorientation(
        labels.double().numpy(), np.repeat(library.orientation[four_fold[:1]], 50, axis=0), np.eye(3)[None]
    )
    assert angle.max() < np.pi / 2
    assert np.ptp(angle) > 1.0


@needs_py4dstem
def test_other_crystals_are_refused(tmp_path):
    cif = write_cif(tmp_path, "tetragonal")
    with pytest.raises(ValueError, match="m-3m; tetragonal has 8 proper operators"):
        simulate_library(Config("t", (PhaseConfig(str(cif)),), SETTINGS), processes=1)
