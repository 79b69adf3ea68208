"""Errors, axes, densities, reliability, correlation, agreement and ambiguity, against what is known."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from helpers.example_phases import PHASES
from helpers.optional import needs_py4dstem
from helpers.patterns import scan_of
from microinfer.crystals.errors import (
    INVALID_ERROR,
    axis_misalignment,
    density,
    density_mode,
    orientation_errors,
)
from microinfer.crystals.symmetry import misorientation, zone_axis_frames
from microinfer.evaluation.agreement import central_answers, zone_axis_deviation
from microinfer.evaluation.ambiguity import AmbiguitySettings, ceiling, count_alternatives
from microinfer.evaluation.correlation import kinematic_disks, random_at_distance, sparse_correlation
from microinfer.evaluation.reliability import reliability
from microinfer.ops.token_spec import TokenSpec

CU = PHASES["Cu"]


def about(axis, degrees):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    return Rotation.from_rotvec(axis * math.radians(degrees)).as_matrix()


def orientations(count, seed=0):
    return Rotation.random(count, rng=seed).as_matrix()


def test_errors_are_misorientations_and_45_degrees_without_an_answer():
    label = orientations(4)
    answer = CU.operators[[3, 7, 11, 2]] @ label @ about([1, 2, 3], 4.0)
    answer[2] = np.nan
    phase = np.array([0, 1, -1, 1])
    label_phase = np.array([0, 0, 0, 1])
    error = orientation_errors(answer, phase, label, label_phase, (CU, CU))
    np.testing.assert_allclose(error, [4.0, INVALID_ERROR, INVALID_ERROR, 4.0], atol=1e-9)


def test_misalignment_of_known_rotations():
    label = np.eye(3)[None]
    # a turn about z moves x and y by its angle and leaves z
    np.testing.assert_allclose(
        axis_misalignment(label @ about([0, 0, 1], 3.0), label, CU.operators),
        [[math.radians(3.0), math.radians(3.0), 0.0]],
        atol=1e-7,
    )
    # 60 degrees about [111] is a twin for the error, and an equivalent for none of the axes
    twin = label @ about([1, 1, 1], 60.0)
    assert math.degrees(misorientation(twin, label, CU.operators)[0]) == pytest.approx(60.0)
    assert axis_misalignment(twin, label, CU.operators).min() > 0.2


def test_misalignment_hides_a_half_turn_about_112():
    label = zone_axis_frames(np.array([[1.0, 1.0, 2.0]]) / math.sqrt(6.0))
    turned = label @ about([0, 0, 1], 180.0)
    assert math.degrees(misorientation(turned, label, CU.operators)[0]) == pytest.approx(60.0)
    np.testing.assert_allclose(axis_misalignment(turned, label, CU.operators), 0.0, atol=1e-7)


@given(st.integers(0, 10**6), st.floats(0.0, 40.0))
@settings(max_examples=40)
def test_cubic_misalignment_is_that_of_the_directions_in_the_standard_triangle(seed, degrees):
    label = orientations(3, seed)
    answer = label @ about(np.random.default_rng(seed).standard_normal(3), degrees)

    def reduced(matrix):  # m-3m permutes and reflects the coordinates
        return np.sort(np.abs(matrix), axis=1)

    cosine = np.clip((reduced(answer) * reduced(label)).sum(axis=1), -1.0, 1.0)
    np.testing.assert_allclose(np.cos(axis_misalignment(answer, label, CU.operators)), cosine, atol=1e-9)


@pytest.mark.parametrize("name", sorted(PHASES))
def test_errors_and_misalignments_do_not_see_symmetry(name):
    operators = PHASES[name].operators
    label, answer = orientations(20, 1), orientations(20, 2)
    rng = np.random.default_rng(3)
    other = operators[rng.integers(len(operators), size=20)] @ answer
    expected = axis_misalignment(answer, label, operators)
    for pair in ((other, label), (label, other)):
        np.testing.assert_allclose(axis_misalignment(*pair, operators), expected, atol=1e-7)


def test_density_is_one_in_all_and_peaks_at_the_mode():
    rng = np.random.default_rng(0)
    values = np.concatenate([np.abs(0.5 + 0.1 * rng.standard_normal(3000)), rng.uniform(0.0, 30.0, 1000)])
    assert density_mode(values) == pytest.approx(0.5, abs=0.05)
    at = np.linspace(0.0, 40.0, 2001)
    assert density(values, at).sum() * (at[1] - at[0]) == pytest.approx(1.0, abs=2e-3)
    assert math.isnan(density_mode(np.zeros(0)))


def test_calibration_error_of_bins_made_by_hand():
    confidence = np.array([0.9, 0.1, 0.9, 0.1, 0.5, 0.5])
    right = np.array([True, False, False, False, True, False])
    bins = reliability(confidence, right, bins=3)
    np.testing.assert_allclose(bins.confidence, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(bins.accuracy, [0.0, 0.5, 0.5])
    assert bins.calibration_error == pytest.approx((0.1 + 0.0 + 0.4) / 3)
    with pytest.raises(ValueError, match="one shape"):
        reliability(confidence, right[:2])


@given(st.integers(1, 400), st.integers(0, 10**6))
@settings(max_examples=40)
def test_bins_hold_all_answers_in_equal_parts(count, seed):
    rng = np.random.default_rng(seed)
    confidence = rng.random(count).astype(np.float32)
    right = rng.random(count) < confidence
    bins = reliability(confidence, right)
    assert bins.size.sum() == count
    assert bins.size.max() - bins.size.min() <= 1
    assert np.average(bins.accuracy, weights=bins.size) == pytest.approx(right.mean())
    assert (np.diff(bins.confidence) >= 0).all()


@needs_py4dstem
def test_sparse_correlation_is_py4dstems_but_for_the_norm_of_the_reference():
    from emdfile import PointList

    from microinfer.crystals.structure import load_structure

    crystal = load_structure("Cu").to_py4dstem()
    crystal.calculate_structure_factors(1.6)
    # few zone axes, so that the same one matches all patterns, and fine steps in the plane
    crystal.orientation_plan(
        np.array([[0, 1, 1], [1, 1, 1]]), 15.0, angle_step_in_plane=1.0, progress_bar=False
    )
    phase = load_structure("Cu").phase(1.6)
    rng = np.random.default_rng(3)
    disks = kinematic_disks(phase, crystal.orientation_rotation_matrices[1], 300e3, 1.6)
    factors = []
    for kept in (1.0, 0.9, 0.7):
        pattern = disks[rng.random(len(disks)) < kept] * np.exp([0.0, 0.0, 1.0] * rng.standard_normal(3))
        pattern[:, :2] += 0.01 * rng.standard_normal((len(pattern), 2))
        table = np.array([*map(tuple, pattern)], [(name, float) for name in ("qx", "qy", "intensity")])
        found = crystal.match_single_pattern(PointList(table))
        reference = kinematic_disks(phase, found.matrix[0], 300e3, 1.6)
        factors.append(found.corr[0] / sparse_correlation(reference, pattern))
    assert 1.0 < min(factors) < max(factors) < 1.4
    np.testing.assert_allclose(factors, np.mean(factors), rtol=0.03)


def test_sparse_correlation_falls_with_distance_and_turns_with_both():
    label = orientations(1, 4)[0]
    truth = kinematic_disks(CU, label, 300e3, 1.8)
    values = [
        sparse_correlation(kinematic_disks(CU, label @ about([0, 0, 1], angle), 300e3, 1.8), truth)
        for angle in (0.0, 1.0, 3.0, 6.0)
    ]
    assert (np.diff(values) < 0).all()
    turned = about([0, 0, 1], 77.0).T
    both = [
        kinematic_disks(CU, matrix @ turned, 300e3, 1.8) for matrix in (label @ about([0, 0, 1], 3.0), label)
    ]
    assert sparse_correlation(*both) == pytest.approx(values[2])
    assert sparse_correlation(truth[:0], truth) == 0.0


@pytest.mark.parametrize("angle", [0.3, 0.7, 1.0])
def test_random_orientation_at_a_distance(angle):
    label = orientations(1, 5)[0]
    drawn = random_at_distance(label, angle, CU.operators, np.random.default_rng(1))
    assert misorientation(drawn[None], label[None], CU.operators)[0] == pytest.approx(angle, abs=1e-6)
    # 62.8 degrees is the most for the cubic group
    assert random_at_distance(label, 1.2, CU.operators, np.random.default_rng(1)) is None


def test_zone_axes_deviate_from_their_mean():
    # far from the mirror planes, so that the nearest equivalents are those meant
    axis = CU.operators[:5] @ np.array([1.0, 2.0, 4.0]) / math.sqrt(21.0)
    across = np.cross(axis, [0.3, 0.5, -0.2])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    tilt = math.radians(2.0)
    up, down = (math.cos(tilt) * axis + sign * math.sin(tilt) * across for sign in (1.0, -1.0))
    axes = np.stack([axis, -up @ CU.operators[5].T, down @ CU.operators[9].T])
    deviation = zone_axis_deviation(axes, CU.operators)
    np.testing.assert_allclose(deviation, np.broadcast_to([[0.0], [tilt], [tilt]], (3, 5)), atol=1e-6)
    axes[1, 2] = np.nan
    np.testing.assert_array_equal(np.isnan(zone_axis_deviation(axes, CU.operators)[0]), np.arange(5) == 2)


def test_the_central_answer_is_the_one_that_most_share():
    label = orientations(3, 7)
    far = label @ about([1, 0, 0], 30.0)
    near = label @ about([0, 1, 0], 0.5)
    phase = np.zeros(3, int)
    lost = np.full_like(label, np.nan)
    chosen = central_answers([far, label, near, lost], [phase, phase, phase, phase - 1], (CU,))
    with pytest.raises(ValueError, match="at least three models, got 2"):
        central_answers([far, label], [phase, phase], (CU,))
    assert set(chosen) <= {1, 2}


def alternatives_at(zone_axis, phase, phases, **settings):
    """Alternatives to an orientation 25 degrees turned about a zone axis."""
    matrix = zone_axis_frames(np.array([zone_axis]) / np.linalg.norm(zone_axis)) @ about([0, 0, 1], 25.0)
    disks = kinematic_disks(CU, matrix[0], 300e3, 2.0)
    peaks = scan_of([disks[disks[:, 2] > 4e-3 * disks[:, 2].max()], disks[:1]])
    found = count_alternatives(
        *(peaks, TokenSpec(), np.repeat(matrix, 2, 0), np.array([phase, phase]), phases, 300e3),
        AmbiguitySettings(**settings),
    )
    assert found[1] == -1  # of one disk nothing can be said
    return found[0]


@pytest.mark.parametrize(("zone_axis", "expected"), [([1, 1, 2], 1), ([0, 0, 1], 0)])
def test_ambiguity_of_known_zone_axes(zone_axis, expected):
    # a half turn in the plane gives the same pattern: another orientation at [112], the same one at [001]
    assert alternatives_at(zone_axis, 0, (CU,)) == expected


def test_another_phase_explains_as_well_when_it_is_the_same():
    twin = dataclasses.replace(CU, name="the same")
    assert alternatives_at([0, 0, 1], 1, (CU, twin), spacing=4.0) == 1


def test_ceiling():
    np.testing.assert_allclose(ceiling(np.array([-1, 0, 1, 3])), [0.0, 1.0, 0.5, 0.25])
