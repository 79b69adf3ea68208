"""The shipped models on patterns that py4DSTEM simulates here and now."""

import dataclasses
import math
from importlib.resources import files

import numpy as np
import pytest
import torch

import microinfer as mi
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import misorientation, zone_axis_frames
from microinfer.ops.tokens import tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.settings import SimulationConfig

pytestmark = [  # py4DSTEM's own
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]


@pytest.fixture(scope="module")
def cu():
    return mi.load_model("cu").eval()


def about_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def modes_at(model, zone_axis, thicknesses):
    """Ranked modes for copper seen exactly along a zone axis, and the true orientation."""
    truth = zone_axis_frames(np.array([zone_axis]) / np.linalg.norm(zone_axis))[0] @ about_z(0.4)
    patterns = PatternSimulator(load_structure("Cu"), SimulationConfig()).patterns(truth, thicknesses)
    with torch.no_grad():
        return model.modes(
            tokenize(BraggPeaks.from_patterns(patterns, (len(patterns), 1)), model.spec)
        ), truth


THICKNESSES = np.array([40.0, 100.0, 300.0, 700.0])


def test_two_orientations_share_the_probability_at_112(cu):
    modes, truth = modes_at(cu, [1, 1, 2], THICKNESSES)
    np.testing.assert_allclose(modes.probability[:, 0], modes.probability[:, 1], atol=0.02)
    assert modes.probability[:, :2].min() > 0.25
    assert modes.probability[:, 2].max() < 0.02
    operators = cu.phases[0].operators
    for answer in (truth, truth @ about_z(math.pi)):
        expected = np.tile(answer, (len(THICKNESSES), 1, 1))
        errors = [misorientation(modes.matrix[:, k].numpy(), expected, operators) for k in range(2)]
        assert np.degrees(np.min(errors, axis=0)).max() < 2.0


def test_the_map_keeps_the_other_orientation_at_112(cu):
    truth = zone_axis_frames(np.array([[1.0, 1.0, 2.0]]) / math.sqrt(6.0))[0] @ about_z(0.4)
    patterns = PatternSimulator(load_structure("Cu"), SimulationConfig()).patterns(truth, THICKNESSES)
    omap = mi.map_orientations(BraggPeaks.from_patterns(patterns, (len(patterns), 1)), cu, device="cpu")
    pair = np.stack([omap.matrix[:, 0], omap.alternatives.matrix[:, 0, 0]])
    for answer in (truth, truth @ about_z(math.pi)):
        errors = [
            misorientation(found, np.tile(answer, (len(found), 1, 1)), cu.phases[0].operators)
            for found in pair
        ]
        assert np.degrees(np.min(errors, axis=0)).max() < 2.0
    np.testing.assert_allclose(omap.confidence[:, 0], omap.alternatives.probability[:, 0, 0], atol=0.15)


def test_one_answer_at_001(cu):
    modes, truth = modes_at(cu, [0, 0, 1], THICKNESSES)
    assert modes.probability[:, 0].min() > 0.5
    assert modes.probability[:, 1].max() < 0.02
    expected = np.tile(truth, (len(THICKNESSES), 1, 1))
    assert (
        np.degrees(misorientation(modes.matrix[:, 0].numpy(), expected, cu.phases[0].operators)).max() < 2.0
    )


@pytest.mark.parametrize("angle", [0.1, 1.234, -2.9])
def test_answers_turn_with_the_scan(cu, angle):
    peaks = mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5")
    q = np.column_stack([peaks.qx, peaks.qy]) @ about_z(angle)[:2, :2].T
    turned = dataclasses.replace(peaks, qx=q[:, 0].astype(np.float32), qy=q[:, 1].astype(np.float32))
    plain, moved = (mi.map_orientations(scan, cu, dtype="float32") for scan in (peaks, turned))
    np.testing.assert_array_equal(moved.valid, plain.valid)
    expected = plain.matrix[plain.valid] @ about_z(angle).T
    error = misorientation(moved.matrix[plain.valid], expected, cu.phases[0].operators)
    # all but answers whose best two modes are equally probable to rounding
    assert np.quantile(error, 0.998) < 1e-3
