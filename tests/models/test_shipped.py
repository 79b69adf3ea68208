"""The shipped models on patterns that py4DSTEM simulates here and now."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

import microinfer as mi
from helpers.agreement import CLOSE, OTHER_MODE
from helpers.optional import needs_py4dstem
from helpers.patterns import about_z, scan_of
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import misorientation, zone_axis_frames
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.settings import SimulationConfig

THICKNESSES = np.array([40.0, 100.0, 300.0, 700.0])


@pytest.fixture(scope="module")
def cu():
    return mi.load_model("cu")


def seen_along(zone_axis):
    """Copper exactly along a zone axis: a scan of some thicknesses, and the true orientation."""
    truth = zone_axis_frames(np.array([zone_axis]) / np.linalg.norm(zone_axis))[0] @ about_z(0.4)
    return scan_of(
        PatternSimulator(load_structure("Cu"), SimulationConfig()).patterns(truth, THICKNESSES)
    ), truth


def answers_of(omap):
    """Matrices and probabilities of all candidates, (thicknesses, K, ...)."""
    matrix = np.concatenate([omap.matrix[..., None, :, :], omap.alternatives.matrix], axis=2)
    return matrix[:, 0], np.column_stack([omap.confidence[:, 0], omap.alternatives.probability[:, 0]])


def degrees_from(truth, matrix, phase):
    return np.degrees(misorientation(matrix, np.broadcast_to(truth, matrix.shape), phase.operators))


@needs_py4dstem
@pytest.mark.parametrize(("device", "refine"), [("cpu", None), ("cpu:0", None), ("cpu", "kinematic")])
def test_two_orientations_share_the_probability_at_112(cu, device, refine):
    scan, truth = seen_along([1, 1, 2])
    omap = mi.map_orientations(scan, replace(cu, calibration=(1.0, 1.0, 0.0)), device=device, refine=refine)
    matrix, probability = answers_of(omap)
    np.testing.assert_allclose(probability[:, 0], probability[:, 1], atol=0.02 if refine is None else 0.15)
    assert probability[:, :2].min() > 0.25
    assert probability[:, 2].max() < 0.02
    for answer in (truth, truth @ about_z(np.pi)):
        errors = [degrees_from(answer, matrix[:, rank], cu.phases[0]) for rank in range(2)]
        assert np.min(errors, axis=0).max() < 2.0


@needs_py4dstem
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_one_answer_at_001(cu, device):
    scan, truth = seen_along([0, 0, 1])
    uncalibrated = replace(cu, calibration=(1.0, 1.0, 0.0))
    matrix, probability = answers_of(mi.map_orientations(scan, uncalibrated, device=device, refine=None))
    assert probability[:, 0].min() > 0.5
    assert probability[:, 1].max() < 0.02
    assert degrees_from(truth, matrix[:, 0], cu.phases[0]).max() < 2.0


@pytest.mark.parametrize("name", ["cu", "cu-cu2o"])
@pytest.mark.parametrize("refine", [None, "kinematic"])
@pytest.mark.parametrize("zone_axis", [(0, 0, 1), (0, 1, 1)])
def test_ideal_patterns_along_a_zone_axis_have_one_mean(name, zone_axis, refine):
    model = mi.load_model(name)
    frame = zone_axis_frames(np.array([zone_axis]) / np.linalg.norm(zone_axis))[0]
    angles = (0.0, 0.1, 0.5, 1.0, 2.0, 3.0)
    # reflections of the zone, all as strong as each other: nothing says which way the crystal leans
    hkl = model.phases[0].reflections[:, :3]
    zone = hkl[hkl @ np.array(zone_axis) == 0]
    q = zone @ model.phases[0].reciprocal @ frame
    pattern = np.column_stack([q[:, :2], np.ones(len(q))])
    scan = scan_of([scan_of([pattern], angle).pattern(0, 0) for angle in angles])
    core, torch = (
        mi.map_orientations(scan, model, device=device, refine=refine) for device in ("cpu", "cpu:0")
    )
    assert core.valid.all()
    operators = model.phases[0].operators
    assert misorientation(core.matrix[:, 0], torch.matrix[:, 0], operators).max() < CLOSE
    truth = np.array([frame @ about_z(angle).T for angle in angles])
    assert np.degrees(misorientation(core.matrix[:, 0], truth, operators)).max() < 0.2


@pytest.mark.parametrize("angle", [0.1, 1.234, -2.9])
def test_answers_turn_with_the_scan(cu, angle):
    peaks = mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5")
    qx, qy = (np.column_stack([peaks.qx, peaks.qy]) @ about_z(angle)[:2, :2].T).astype(np.float32).T
    turned = replace(peaks, qx=np.ascontiguousarray(qx), qy=np.ascontiguousarray(qy))
    plain, moved = (mi.map_orientations(scan, cu, device="cpu", dtype="float32") for scan in (peaks, turned))
    np.testing.assert_array_equal(moved.valid, plain.valid)
    expected = plain.matrix[plain.valid] @ about_z(angle).T
    error = misorientation(moved.matrix[plain.valid], expected, cu.phases[0].operators)
    assert np.mean(error > 1e-3) <= OTHER_MODE


def test_shipped_models_are_listed_with_their_figures():
    models = mi.models()
    assert list(models) == ["cu", "cu-cu2o"]
    copper = models["cu"]
    assert (copper.voltage, [phase.name for phase in copper.phases]) == (300e3, ["Cu"])
    lines = repr(models).split("\n")
    assert lines[0] == "Model('cu': Cu (Fm-3m), 300 kV, disks to 2.099 1/Å, posterior of width 128)"
    share = copper.card["figures"]["noisy"]["within_3_deg"]
    assert any(line.startswith(f"  noisy: {share:.1%} within 3 degrees") for line in lines)


def test_a_network_says_what_it_is_in_a_line(cu):
    assert repr(cu.network()).startswith("PosteriorNetwork(Cu (Fm-3m), ")
    assert "\n" not in repr(cu.network())
