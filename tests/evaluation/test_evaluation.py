"""`microinfer evaluate`: test sets, template matching, the report, the card, and what goes wrong."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import microinfer as mi
from helpers.optional import import_py4dstem, needs_py4dstem
from microinfer.cli import app
from microinfer.crystals.structure import load_structure
from microinfer.evaluation import card_figures, evaluate, template_matching, write_report
from microinfer.evaluation.answers import Answers, ensemble_answers, labelled_set
from microinfer.evaluation.run import spread
from microinfer.models import Model, load_model
from microinfer.models.network import build_network
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.simulation import load_library, pattern_hash, simulate_test_sets
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.testset import add_noise
from microinfer.training.config import load_config

COUNT = 60
CU, CU2O = PhaseConfig("Cu"), PhaseConfig("Cu2O")


@pytest.fixture(scope="module")
def sets():
    import_py4dstem()
    return simulate_test_sets((CU,), load_config("cu").simulation, COUNT, processes=1)


@pytest.fixture(scope="module")
def libraries(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    for name, library in sets._asdict().items():
        library.save(folder / f"{name}.h5")
    return folder


@pytest.fixture
def folder(small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    small_model.save("small.safetensors")
    load_model("cu").save("cu.safetensors")
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_test_sets_are_those_of_the_reported_figures(sets):
    # the same streams with 4,000 patterns hash to dc527caab2fd0d43 and 8d19cd38ef54344b
    assert (pattern_hash(sets.clean), pattern_hash(sets.noisy)) == ("1c1956240a7ab2f9", "77e39c9d3ffa90c2")
    np.testing.assert_array_equal(sets.clean.orientation, sets.noisy.orientation)


@needs_py4dstem
def test_the_phases_of_a_test_set_take_turns():
    simulation = SimulationConfig(method="kinematic", k_max=1.2)
    clean, _ = simulate_test_sets((CU2O, CU), simulation, 7, processes=1)
    assert clean.phase.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert [phase.name for phase in clean.phases] == ["Cu2O", "Cu"]
    copper, _ = simulate_test_sets((CU,), simulation, 3, processes=1)
    for row in range(7):  # every disk is a reflection of the pattern's own phase and orientation
        phase = clean.phases[clean.phase[row]]
        g = phase.reflections[:, :3] @ phase.reciprocal @ clean.orientation[row]
        disks = clean.peaks.pattern(row, 0)
        distance = np.linalg.norm(disks[:, None, :2] - g[:, :2], axis=-1).min(axis=1)
        assert distance.max() < 1e-4
    model_order = labelled_set("mixed", clean, tuple(reversed(clean.phases)))
    assert model_order.phase.tolist() == [1, 0, 1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match="holds patterns of Cu2O; the model knows Cu"):
        labelled_set("mixed", clean, copper.phases)


def test_noise_is_as_described():
    rng = np.random.default_rng(0)
    pattern = np.tile(np.array([[0.5, -0.5, 1.0], [0.7, 0.2, 0.5], [0.1, 0.9, 0.001]], np.float32), (4, 1))
    noisy = [add_noise(pattern, 2.0, rng) for _ in range(400)]
    true = np.concatenate([disks[:8] for disks in noisy])  # every third disk is lost
    offset = true[:, :2] - np.tile(pattern[[0, 1, 3, 4, 6, 7, 9, 10], :2], (400, 1))
    assert offset.std() == pytest.approx(0.008, rel=0.05)
    ratio = np.log(true[:, 2] / np.tile([1.0, 0.5], 1600))
    assert ratio.std() == pytest.approx(0.3, rel=0.05)
    false = [disks[8:] for disks in noisy]
    assert np.mean([len(disks) for disks in false]) == pytest.approx(0.6, abs=0.12)
    strength = [disks[8:, 2] / disks[:8, 2].max() for disks in noisy if len(disks) > 8]
    assert 0.02 <= np.concatenate(strength).min() <= np.concatenate(strength).max() <= 0.2
    assert np.hypot(*np.concatenate(false)[:, :2].T).max() <= 2.0


@needs_py4dstem
def test_template_matching_finds_the_phase_and_the_orientation():
    # dynamical patterns along low-index axes look alike in both crystals; these are kinematic and general
    simulation = SimulationConfig(method="kinematic", k_max=1.5)
    clean, _ = simulate_test_sets((CU, CU2O), simulation, 12, processes=1)
    test = labelled_set("mixed", clean, clean.phases)
    structures = [load_structure("Cu"), load_structure("Cu2O")]
    parameters = template_matching.MatchParameters(angle_step=4.0)
    answers = template_matching.TemplateMatcher(structures, simulation, parameters)("", test)
    enough = clean.peaks.counts >= 8
    assert enough.sum() >= 5
    assert np.mean(answers.phase[enough] == test.phase[enough]) >= 0.8
    assert np.median(answers.error[enough]) < 4.0
    few = clean.peaks.counts < 3
    assert np.isnan(answers.matrix[few]).all()
    assert (answers.phase[few] == -1).all()


def test_an_ensemble_outvotes_a_member_that_is_far_off(sets):
    test = labelled_set("clean", sets.clean, sets.clean.phases)
    truth, operators = sets.clean.orientation.astype(np.float64), sets.clean.phases[0].operators
    c, s = math.cos(0.5), math.sin(0.5)
    off = truth @ np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    members = [
        Answers("", test, matrix, np.zeros(COUNT, int), None, 1.0)
        for matrix in (off, truth, operators[3] @ truth)
    ]
    ensemble = ensemble_answers(members)
    assert ensemble.error.max() < 0.1
    assert ensemble.seconds == 3.0
    deviation = spread(members)
    assert (deviation[0] > deviation[1]).mean() > 0.95
    np.testing.assert_allclose(deviation[1], deviation[2], atol=1e-5)


def test_evaluation_of_the_shipped_model(folder, libraries, monkeypatch):
    monkeypatch.setattr(template_matching, "GRID", {"corr_kernel_size": (0.04,)})
    result = call("evaluate", "cu.safetensors", "--test", libraries / "clean.h5", "--test", libraries / "noisy.h5",
                  "--out", "report.md", "--template-matching", 10, "--tuning", 4, "--ceiling", 8,
                  "--ensemble", "cu", "--ensemble", "cu", "--write-card")  # fmt: skip
    assert result.exit_code == 0, result.output
    report = (folder / "report.md").read_text()
    for library in (load_library(libraries / "clean.h5"), load_library(libraries / "noisy.h5")):
        assert f"{COUNT} patterns" in report
        assert pattern_hash(library) in report
    for row in ("| cu |", "| cu, without refinement |", "| untrained |", "| ensemble of 3 |", "| cu, first 10 |",
                "| template matching, defaults, first 10 |",
                "| template matching, tuned on 4 patterns, first 10 |"):  # fmt: skip
        assert report.count(f"{row} {10 if 'first' in row else COUNT} |") == 2, row
    pictures = re.findall(r"\]\((report_figures/\w+\.png)\)", report)
    assert len(pictures) >= 10
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")

    card = load_model("cu.safetensors").card
    figures = json.loads(json.dumps(card["figures"]))
    assert list(figures) == ["clean", "noisy"]
    clean = figures["clean"]
    peaks = mi.BraggPeaks.read_rows(load_library(libraries / "clean.h5").peaks, 0, COUNT)
    omap = mi.map_orientations(peaks, "cu", device="cpu")
    assert clean["mean_confidence"] == pytest.approx(omap.confidence.mean(), abs=1e-3)
    assert clean["patterns"] == COUNT
    assert clean["within_1_deg"] <= clean["within_2_deg"] <= clean["within_3_deg"] <= clean["within_5_deg"]
    assert clean["within_3_deg"] > 0.7 > 0.5 > figures["noisy"]["calibration_error"]
    assert clean["by_disks"][-1]["disks"] == "all"
    assert sum(row["share"] for row in clean["by_disks"][:-1]) == pytest.approx(1.0, abs=1e-3)
    assert clean["by_disks"][-1]["sample"] == 8
    assert len(clean["template_matching"]) == 2


def test_a_model_without_a_confidence(sets, tmp_path):
    phases = sets.noisy.phases
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = ModelConfig(kind="reference", width=32, blocks=1, heads=4)
        network = build_network(config, phases, TokenSpec())
    model = Model.of(network, {"voltage": 300e3, "k_max": 2.0992})
    tests = [
        labelled_set(name, sets.noisy, phases).first(20) for name in ("noisy", "very-noisy", "very noisy")
    ]
    found = evaluate(model, tests, name="random", device="cpu", ensemble=[model], ambiguity_patterns=1)
    write_report(found, tmp_path / "my report.md")
    report = (tmp_path / "my report.md").read_text()
    pictures = re.findall(r"\]\((my%20report_figures/\w+\.png)\)", report)
    assert len(set(pictures)) == len(pictures) == len(list((tmp_path / "my report_figures").iterdir()))
    # two members agree or not, but neither answers for both
    assert report.count("All zone axes lie within 3° of their mean in 100.0 % of the patterns.") == 3
    assert "ensemble of" not in report
    assert "the ensemble is right" not in report
    assert "The model gives no confidence." in report
    assert "reliability" not in report
    figures = card_figures(found)["noisy"]
    assert "calibration_error" not in figures
    assert "mean_confidence" not in figures["by_disks"][0]
    assert figures["mean_error_deg"] > 10.0


def test_models_shows_a_card_with_test_sets(monkeypatch, small_model, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    names = ("mean_error_deg", "median_error_deg", "within_3_deg", "calibration_error")
    figures = {"clean": dict(zip(names, (6.4, 0.01, 0.844, 0.03), strict=True))}
    path = tmp_path / "small.safetensors"
    dataclasses.replace(small_model, card=small_model.card | {"figures": figures}).save(path)
    for module in ("microinfer.models", "microinfer.models.checkpoint"):
        monkeypatch.setattr(f"{module}.shipped_models", lambda: {"small": path})
    result = call("models")
    assert result.exit_code == 0, result.output
    line = "clean: mean 6.40 deg, median 0.01 deg, within 3 deg 84.4%, calibration error 0.030"
    assert line in result.output


@needs_py4dstem
def test_without_a_test_set_two_are_simulated(folder):
    model = load_model("cu")
    recipe = model.card["recipe"] | {
        "phases": [{"structure": "gone.cif", "name": "Cu"}],
        "simulation": dataclasses.asdict(SimulationConfig(method="kinematic", k_max=1.2)),
    }
    dataclasses.replace(model, card=model.card | {"recipe": recipe}).save("moved.safetensors")
    result = call("evaluate", "moved.safetensors", "--out", "report.md", "--count", 6)
    assert result.exit_code == 1
    assert "gone.cif" in result.stderr
    assert "--cif" in result.stderr
    result = call(
        "evaluate", "moved.safetensors", "--out", "report.md", "--count", 6, "--cif", "Cu", "--ceiling", 2
    )
    assert result.exit_code == 0, result.output
    expected = simulate_test_sets((CU,), SimulationConfig(method="kinematic", k_max=1.2), 6, processes=1)
    for name, library in expected._asdict().items():
        assert pattern_hash(load_library(f"report_{name}.h5")) == pattern_hash(library)
        assert f"## Test set {name}" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gold",), "gold"),
        (("small.safetensors",), "recipe"),
        (("small.safetensors", "--test", "missing.h5"), "missing.h5"),
        (("small.safetensors", "--test", "cu.safetensors"), "cu.safetensors"),
        (("small.safetensors", "--test", "LIBRARY", "--test", "LIBRARY"), "names of their own"),
        (("small.safetensors", "--test", "LIBRARY", "--template-matching", 5), "recipe"),
        (("small.safetensors", "--test", "LIBRARY", "--out", "no/report.md"), "no/report.md"),
        (("cu.safetensors", "--count", 5, "--cif", "Cu", "--cif", "Cu2O"), "1 phases, got 2"),
        (("cu.safetensors", "--test", "LIBRARY", "--ensemble", "small.safetensors"), "ensemble"),
    ],
)
def test_expected_errors_are_one_line(folder, libraries, arguments, message):
    before = sorted(folder.iterdir())
    result = call(
        "evaluate", *(libraries / "clean.h5" if value == "LIBRARY" else value for value in arguments)
    )
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(folder.iterdir()) == before
