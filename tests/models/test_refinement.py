"""Kinematic refinement, on patterns that py4DSTEM simulates with Bloch waves."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import microinfer as mi
from microinfer import _core
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import misorientation, random_orientations
from microinfer.models import Candidates
from microinfer.models.refinement import Refinement, RefinementSettings
from microinfer.ops.tokens import tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation import PatternSimulator
from microinfer.simulation.settings import SimulationConfig

pytestmark = [  # py4DSTEM's own
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]

COUNT = 60


@pytest.fixture(scope="module")
def phase():
    return load_structure("Cu").phase(SimulationConfig().k_max)


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


def tokens_of(patterns, noise=0.0):
    rng = np.random.default_rng(5)
    moved = [
        np.column_stack([disks[:, :2] + noise * rng.standard_normal((len(disks), 2)), disks[:, 2]])
        for disks in patterns
    ]
    return tokenize(BraggPeaks.from_patterns(moved, (len(moved), 1)))


def near(truth, degrees, seed=3):
    """Orientations that lie exactly some degrees from the truth, in random directions."""
    axis = np.random.default_rng(seed).standard_normal((len(truth), 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return truth @ Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()


def candidates_of(*matrices, probability=(1.0,)):
    matrix = torch.from_numpy(np.stack(matrices, 1)).float()
    size = matrix.shape[:2]
    return Candidates(
        matrix,
        torch.zeros(size, dtype=torch.int64),
        torch.tensor(probability).expand(size),
        torch.ones(size[0], dtype=torch.bool),
    )


def errors(candidates, truth, phase):
    return np.degrees(misorientation(candidates.matrix[:, 0].numpy(), truth, phase.operators))


def test_exact_disks_give_the_exact_orientation(phase, patterns):
    disks, truth = patterns
    refine = Refinement((phase,), 300e3)
    refined, score = refine(tokens_of(disks), candidates_of(near(truth, 1.0)))
    error = errors(refined, truth, phase)
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.9) < 0.3
    identity = refined.matrix.double() @ refined.matrix.double().mT
    torch.testing.assert_close(identity, torch.eye(3).double().expand_as(identity), atol=1e-5, rtol=0)
    assert ((score >= 0) & (score <= 1)).all()


def test_noisy_disks_pull_no_farther_than_they_may(phase, patterns):
    disks, truth = patterns
    refine = Refinement((phase,), 300e3)
    refined, _ = refine(tokens_of(disks, noise=0.008), candidates_of(near(truth, 1.0)))
    error = errors(refined, truth, phase)
    assert error.mean() < 0.8
    assert error.max() < 3.0


def test_disks_decide_between_candidates(phase, patterns):
    disks, truth = patterns
    wrong = near(truth, 14.0)
    refine = Refinement((phase,), 300e3)
    refined, score = refine(
        tokens_of(disks, noise=0.004), candidates_of(wrong, near(truth, 0.5), probability=(0.6, 0.3))
    )
    right = errors(refined, truth, phase) < 3.0
    assert right.mean() > 0.9
    assert (score[right, 0] > score[right, 1]).float().mean() > 0.9
    torch.testing.assert_close(refined.probability.sum(-1), torch.full((COUNT,), 0.9))


def test_likelihoods_do_not_depend_on_the_order_of_candidates(phase, patterns):
    rng = np.random.default_rng(8)
    # random ones explain anything from none to most of the disks
    starts = candidates_of(*random_orientations(12 * COUNT, rng).reshape(12, COUNT, 3, 3))
    order = rng.permutation(12)
    refine, tokens = Refinement((phase,), 300e3), tokens_of(patterns[0], noise=0.008)
    plain = refine.polish(tokens, starts)
    moved = refine.polish(tokens, starts._replace(matrix=starts.matrix[:, order]))
    np.testing.assert_allclose(moved.log_likelihood, plain.log_likelihood[:, order], rtol=1e-9, atol=1e-9)


def test_margin_keeps_the_first_of_two_equals(phase, patterns):
    disks, truth = patterns
    # the second is a symmetry equivalent of the first: the disks cannot tell them apart
    same = phase.operators[7] @ truth
    refined, _ = Refinement((phase,), 300e3)(
        tokens_of(disks), candidates_of(truth, same, probability=(0.5, 0.5))
    )
    assert np.abs(refined.matrix[:, 0].numpy() - truth).max() < 0.05


def test_an_answer_depends_on_its_own_pattern_alone(phase, patterns):
    disks, truth = patterns
    refine, start = Refinement((phase,), 300e3), near(truth, 1.0)
    whole, score = refine(tokens_of(disks), candidates_of(start))
    for index in (0, 17, COUNT - 1):
        alone, one = refine(tokens_of(disks[index : index + 1]), candidates_of(start[index : index + 1]))
        assert torch.equal(alone.matrix[0], whole.matrix[index])
        assert torch.equal(one[0], score[index])


def test_no_thread_count_changes_a_bit(phase, patterns):
    disks, truth = patterns
    refine, before, found = Refinement((phase,), 300e3), _core.num_threads(), []
    try:
        for threads in (1, 3):
            _core.set_num_threads(threads)
            found.append(refine(tokens_of(disks), candidates_of(near(truth, 1.0)))[0].matrix)
    finally:
        _core.set_num_threads(before)
    assert torch.equal(*found)


def test_a_pattern_without_disks_keeps_its_start(phase):
    start = np.eye(3)[None]
    refined, score = Refinement((phase,), 300e3)(tokens_of([np.zeros((0, 3))]), candidates_of(start))
    np.testing.assert_allclose(refined.matrix[0, 0], start[0], atol=1e-7)
    assert score.item() == 0.0


def test_settings_reach_the_core(phase, patterns):
    disks, truth = patterns
    start = near(truth, 1.0)
    stiff = RefinementSettings(tilt_error=1e-6, in_plane_error=1e-6)
    refined, _ = Refinement((phase,), 300e3, stiff)(tokens_of(disks), candidates_of(start))
    np.testing.assert_allclose(refined.matrix[:, 0], start, atol=1e-5)


def test_what_cannot_be_refined_is_refused(phase, patterns, scan, small_model):
    bare = dataclasses.replace(phase, reflections=np.zeros((0, 4)))
    with pytest.raises(ValueError, match=r"phase 'Cu' has no reflections"):
        Refinement((bare,), 300e3)
    with pytest.raises(ValueError, match=r"refine must be 'kinematic' or None, got 'dynamical'"):
        mi.map_orientations(scan, small_model, refine="dynamical")
    with pytest.raises(ValueError, match=r"tilt_error must be positive and finite, got 0"):
        Refinement((phase,), 300e3, RefinementSettings(tilt_error=0.0))(
            tokens_of(patterns[0]), candidates_of(patterns[1])
        )
    refine = Refinement((phase,), 300e3)
    for change, message in (
        ({"phase": torch.ones(COUNT, 1, dtype=torch.int64)}, r"phase must lie in \[0, 1\)"),
        ({"matrix": torch.eye(3).expand(COUNT - 1, 1, 3, 3)}, r"matrix does not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            refine(tokens_of(patterns[0]), candidates_of(patterns[1])._replace(**change))
