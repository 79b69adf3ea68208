"""Kinematic refinement, on patterns that py4DSTEM simulates with Bloch waves."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import microinfer as mi
from helpers.optional import import_py4dstem
from helpers.patterns import scan_of
from microinfer import _core
from microinfer.crystals.diffraction import electron_wavelength
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import misorientation, random_orientations
from microinfer.simulation import PatternSimulator
from microinfer.simulation.settings import SimulationConfig

COUNT = 60
import_py4dstem()
PHASE = load_structure("Cu").phase(SimulationConfig().k_max)


@pytest.fixture(scope="module")
def patterns():
    """Bloch-wave patterns of copper with at least five disks, and their orientations."""
    simulator = PatternSimulator(load_structure("Cu"), SimulationConfig())
    rng = np.random.default_rng(31)
    found, truth = [], []
    while len(found) < COUNT:
        matrix = random_orientations(1, rng)[0]
        (disks,) = simulator.patterns(matrix, rng.uniform(20.0, 2000.0, 1))
        if len(disks) >= 5:
            found.append(disks)
            truth.append(matrix)
    return found, np.array(truth)


def refinement(**spec):
    vectors = PHASE.reflections[:, :3] @ PHASE.reciprocal
    reflections = np.column_stack([vectors, PHASE.reflections[:, 3]])
    return _core.Refinement(reflections, np.array([0, len(reflections)]), electron_wavelength(300e3), **spec)


def disks_of(patterns, noise=0.0):
    """Radius, angle, intensity and number of the disks, their places disturbed."""
    rng = np.random.default_rng(5)
    moved = [disks + [noise, noise, 0.0] * rng.standard_normal(disks.shape) for disks in patterns]
    tokens = mi.tokenize(scan_of(moved))
    return [part.numpy() for part in (*tokens[:3], tokens.count)]


def polish(refine, disks, *starts):
    """Polish one candidate or several of every pattern: matrices, log-likelihoods, scores."""
    matrix = np.ascontiguousarray(np.stack(starts, 1), np.float32)
    return refine.polish(*disks, matrix, np.zeros(matrix.shape[:2], np.int64))


def near(truth, degrees, seed=3):
    """Orientations that lie exactly some degrees from the truth, in random directions."""
    axis = np.random.default_rng(seed).standard_normal((len(truth), 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return truth @ Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()


def errors(matrix, truth):
    return np.degrees(misorientation(matrix, truth, PHASE.operators))


def test_exact_disks_give_the_exact_orientation(patterns):
    disks, truth = patterns
    matrix, _, score = polish(refinement(), disks_of(disks), near(truth, 1.0))
    error = errors(matrix[:, 0], truth)
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.9) < 0.3
    identity = np.broadcast_to(np.eye(3), matrix.shape)
    np.testing.assert_allclose(matrix @ matrix.swapaxes(-1, -2), identity, atol=1e-6)
    assert ((score >= 0) & (score <= 1)).all()


def test_noisy_disks_pull_no_farther_than_they_may(patterns):
    disks, truth = patterns
    matrix, *_ = polish(refinement(), disks_of(disks, noise=0.008), near(truth, 1.0))
    error = errors(matrix[:, 0], truth)
    assert error.mean() < 0.8
    assert error.max() < 3.0


def test_a_smaller_tilt_error_holds_the_zone_axis(patterns):
    disks, truth = patterns
    start = near(truth, 1.0)
    matrix, *_ = polish(refinement(tilt_error=1e-6), disks_of(disks), start)
    np.testing.assert_allclose(matrix[:, 0, :, 2], start[:, :, 2], atol=1e-4)


def test_the_likelihood_tells_right_from_wrong(patterns):
    disks, truth = patterns
    matrix, likelihood, score = polish(
        refinement(), disks_of(disks, noise=0.004), near(truth, 14.0), near(truth, 0.5)
    )
    right = likelihood[:, 1] > likelihood[:, 0]
    assert right.mean() > 0.9
    assert (errors(matrix[:, 1], truth)[right] < 3.0).all()
    assert (score[right, 1] > score[right, 0]).mean() > 0.9


def test_candidates_do_not_disturb_each_other(patterns):
    rng = np.random.default_rng(8)
    # random ones explain anything from none to most of the disks
    starts = [*random_orientations(12 * COUNT, rng).reshape(12, COUNT, 3, 3)]
    order, refine, disks = rng.permutation(12), refinement(), disks_of(patterns[0], noise=0.008)
    plain, moved = polish(refine, disks, *starts), polish(refine, disks, *(starts[k] for k in order))
    for one, two in zip(plain, moved, strict=True):
        np.testing.assert_allclose(two, one[:, order], rtol=1e-9, atol=1e-9)


def test_neither_other_patterns_nor_threads_change_a_bit(patterns):
    disks, truth = patterns
    refine, start, before = refinement(), near(truth, 1.0), _core.num_threads()
    whole = polish(refine, disks_of(disks), start)
    for index in (0, 17, COUNT - 1):
        alone = polish(refine, disks_of(disks[index : index + 1]), start[index : index + 1])
        for one, two in zip(alone, whole, strict=True):
            np.testing.assert_array_equal(one[0], two[index])
    try:
        _core.set_num_threads(3)
        for one, two in zip(polish(refine, disks_of(disks), start), whole, strict=True):
            np.testing.assert_array_equal(one, two)
    finally:
        _core.set_num_threads(before)


def test_a_pattern_without_disks_keeps_its_start():
    matrix, _, score = polish(refinement(), disks_of([np.zeros((0, 3), np.float32)]), np.eye(3)[None])
    np.testing.assert_allclose(matrix[0, 0], np.eye(3), atol=1e-7)
    assert score.item() == 0.0


def test_wrong_arrays_are_named(patterns):
    refine, disks = refinement(), disks_of(patterns[0])
    matrix, phase = patterns[1][:, None].astype(np.float32), np.zeros((COUNT, 1), np.int64)
    with pytest.raises(ValueError, match=r"phase must lie in \[0, 1\)"):
        refine.polish(*disks, matrix, phase + 1)
    with pytest.raises(ValueError, match="matrix"):
        refine.polish(*disks, matrix[1:], phase)
    with pytest.raises(ValueError, match="tilt_error must be positive and finite, got 0"):
        refinement(tilt_error=0.0)


# in a map


def test_refinement_makes_a_map_more_exact(patterns):
    disks, truth = patterns
    error = {}
    for refine in (None, "kinematic"):
        omap = mi.map_orientations(scan_of(disks), "cu", device="cpu", refine=refine)
        valid = omap.valid[:, 0]
        error[refine] = np.full(COUNT, 180.0)
        error[refine][valid] = errors(omap.matrix[valid, 0], truth[valid])
        if refine:
            assert ((omap.score[valid] >= 0) & (omap.score[valid] <= 1)).all()
        else:
            assert np.isnan(omap.score).all()
    assert np.median(error["kinematic"]) < 0.1 < np.median(error[None])
    assert np.mean(error["kinematic"] < 3.0) >= np.mean(error[None] < 3.0) - 0.02


def test_what_cannot_be_refined_is_refused(scan, small_model):
    with pytest.raises(ValueError, match="refine must be 'kinematic' or None, got 'dynamical'"):
        mi.map_orientations(scan, small_model, refine="dynamical")
    bare = replace(small_model.phases[0], reflections=np.zeros((0, 4)))
    for model in (replace(small_model, phases=(bare,)), replace(small_model, card={"name": "small"})):
        with pytest.raises(ValueError, match="needs a voltage and reflections, which the model 'small' does"):
            mi.map_orientations(scan, model, device="cpu")
        assert mi.map_orientations(scan, model, device="cpu", refine=None).valid.any()
