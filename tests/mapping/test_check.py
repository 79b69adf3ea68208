"""Scan and model: what does not go together is said before mapping, what does is not."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.example_phases import PHASES
from helpers.kinematic import kinematic_scan
from helpers.optional import needs_py4dstem
from helpers.scans import bragg_vectors, random_points, save_vectors
from microinfer.cli import app
from microinfer.mapping import check_scan, map_to_file


@pytest.fixture
def model(small_model):
    return replace(small_model, card=small_model.card | {"voltage": 200e3, "k_max": 1.4})


def warned(scan, model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mi.map_orientations(scan, model, device="cpu")
    return [str(warning.message) for warning in caught]


def test_a_right_scan_is_mapped_without_a_word(model):
    for seed in range(4):
        assert warned(kinematic_scan(PHASES["Cu"], seed, voltage=200e3), model) == []


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ({"phase": "Ti"}, "do not lie on the rings of Cu"),
        ({"scale": 0.97}, "% too far in for Cu: either the pixel size is 3."),
        ({"voltage": 300e3}, "taken at 300 kV, the model is for 200 kV"),
        ({"camera": 0.84}, "0.59 of the model's k_max (1.40): the camera ends early"),
        ({"camera": 1.9}, "beyond what the model has seen, it was trained to 1.40"),
    ],
)
def test_a_wrong_scan_is_told_once(model, scan, message):
    options = {"voltage": 200e3, "noise": 0.002} | scan
    peaks = kinematic_scan(PHASES[options.pop("phase", "Cu")], 3, **options)
    (said,) = warned(peaks, model)
    assert message in said


def test_what_is_not_known_is_said_but_no_warning(model):
    check = check_scan(kinematic_scan(PHASES["Cu"], 0), replace(model, card={}))
    assert check.warnings == []
    assert "give --voltage" in check.facts["Voltage"]
    assert "not stated" in check.facts["Reach"]
    empty = mi.BraggPeaks.from_patterns([np.zeros((0, 3))] * 4, (2, 2))
    assert check_scan(empty, model).warnings == []


def test_only_what_is_mapped_counts_and_the_report_has_it(model, tmp_path):
    right, wrong = (kinematic_scan(PHASES[name], 5, voltage=200e3) for name in ("Cu", "Ti"))
    patterns = [scan.pattern(rx, ry) for scan in (right, wrong) for rx in range(8) for ry in range(8)]
    scan = mi.BraggPeaks.from_patterns(patterns, mi.Scan((16, 8), voltage=200))
    report = map_to_file(scan, model, tmp_path / "right.h5", roi=(0, 8, 0, 8), device="cpu")
    assert report.check.rings.verdict == "fits"
    with pytest.warns(UserWarning, match="rings of Cu"):
        map_to_file(scan, model, tmp_path / "wrong.h5", roi=(8, 16, 0, 8), device="cpu")
    unchecked = map_to_file(scan, model, tmp_path / "no.h5", roi=(8, 16, 0, 8), device="cpu", check=False)
    assert unchecked.check is None
    assert mi.load_map(tmp_path / "right.h5").warnings == mi.load_map(tmp_path / "no.h5").warnings == ()


@pytest.mark.parametrize("command", [False, True])
def test_the_map_keeps_the_warnings(model, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    model.save("model.safetensors")
    kinematic_scan(PHASES["Cu"], 3, voltage=300e3, scale=0.97, noise=0.002).save("scan.h5")
    if command:
        arguments = ("map", "scan.h5", "--model", "model.safetensors", "--device", "cpu")
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("Warning:") == 2
    else:
        with pytest.warns(UserWarning, match="the peaks lie|the scan was taken") as caught:
            map_to_file("scan.h5", "model.safetensors", "map.h5", device="cpu")
        assert len(caught) == 2
    omap = mi.load_map("map.h5")
    crystal, voltage = omap.warnings
    assert "too far in for Cu: either the pixel size is 3." in crystal
    assert "taken at 300 kV, the model is for 200 kV" in voltage
    assert "; 2 warnings, see .warnings" in repr(omap)
    omap[:2, :2].save("part.h5")
    for name in ("map.h5", "part.h5"):
        shown = CliRunner().invoke(app, ("info", name)).output
        assert re.search(r"Warning 1 +the peaks lie 3", shown)
        assert re.search(r"Warning 2 +the scan was taken at 300 kV", shown)


@needs_py4dstem
def test_a_camera_whose_file_states_its_size_is_short_though_its_corners_reach_far(model, tmp_path):
    vectors = bragg_vectors(
        (6, 6), random_points(np.random.default_rng(0), 36, 20), origin=(32, 32),
        Q_pixel_size=0.7 * 1.4 / 32, Q_pixel_units="A^-1",
    )  # fmt: skip
    with mi.open_peaks(save_vectors(tmp_path / "scan.h5", vectors)) as reader:
        check = check_scan(reader, model)
    assert check.camera == pytest.approx(0.98)
    assert check.reach > 0.98
    assert "the camera ends at 0.98" in check.warnings[-1]


def test_the_map_remembers_the_voltage(model, tmp_path):
    map_to_file(kinematic_scan(PHASES["Cu"], 0, voltage=200e3), model, tmp_path / "map.h5", device="cpu")
    assert mi.load_map(tmp_path / "map.h5").scan.voltage == pytest.approx(200e3)
