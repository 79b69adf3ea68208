"""The commands that show, draw and export maps."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.example_maps import random_map
from microinfer.cli import app
from microinfer.maps.orientation_map import OrientationMap


@pytest.fixture
def omap(tmp_path, monkeypatch) -> OrientationMap:
    """A map of two phases, in the file map.h5 of the working folder."""
    monkeypatch.chdir(tmp_path)
    omap = random_map(
        "Cu", "Ti", model_card={"name": "two", "voltage": 200e3, "k_max": 1.2, "version": "0.3.0"}
    )
    omap.save("map.h5")
    return omap


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


def done(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("suffix", "begins"), [(".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_plot_draws_the_form_that_the_suffix_names(omap, tmp_path, suffix, begins):
    assert done("plot", "map.h5", "--out", f"drawn{suffix}") == f"Wrote drawn{suffix}\n"
    assert (tmp_path / f"drawn{suffix}").read_bytes().startswith(begins)


def test_plot_is_named_after_its_map(omap, tmp_path):
    assert done("plot", "map.h5") == "Wrote map.png\n"
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".ang", ".ctf"])
def test_convert_exports_a_map_as_its_methods_do(omap, tmp_path, suffix):
    done("convert", "map.h5", "--out", f"map{suffix}")
    written = (tmp_path / f"map{suffix}").read_bytes()
    getattr(omap, f"to_{suffix[1:]}")(f"map{suffix}", overwrite=True)
    assert (tmp_path / f"map{suffix}").read_bytes() == written


def test_scan_options_do_not_fit_maps(omap):
    assert call("convert", "map.h5", "--out", "map.ang", "--pixel-size", "0.03").exit_code == 2
    assert call("info", "map.h5", "--model", "cu").exit_code == 2


def rows(output):
    """Names and values of the lines below the title."""
    lines = [line.strip().split("  ", 1) for line in output.splitlines()[1:]]
    return {name: value.strip() for name, value in lines}


def test_info_tells_what_a_map_holds(omap):
    output = done("info", "map.h5")
    assert output.startswith("map.h5: an orientation map\n")
    told = rows(output)
    valid, confidence = omap.valid, omap.confidence[omap.valid]
    assert told["Scan"] == "5 x 4 positions, step 0.5 nm"
    assert told["Valid"] == f"{valid.sum()} ({valid.mean():.1%})"
    for index, name in enumerate(("Cu", "Ti")):
        of_phase = omap.phase == index
        assert told[f"Phase {name}"].startswith(f"{of_phase.sum()} ({of_phase.mean():.1%}), ")
        assert omap.phases[index].space_group in told[f"Phase {name}"]
    assert told["Confidence"].startswith(f"mean {confidence.mean():.3f}, median {np.median(confidence):.3f}")
    assert told["Answers"] == "up to 3 at a position, refined"
    assert (told["Model"], told["Voltage"], told["k max"]) == ("two", "200 kV", "1.2 1/Å")
    assert told["Trained by"] == "microinfer 0.3.0"
    assert told["Mapped by"].startswith(f"microinfer {mi.__version__}")
    assert told["Frame"] == "of the detector"


def test_info_of_a_map_without_any_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_map("Cu", invalid=1.0, model_card={}).save("map.h5")
    told = rows(done("info", "map.h5"))
    assert told["Valid"] == "0 (0.0%)"
    assert told["Confidence"] == "none"
    assert "Voltage" not in told


def test_info_tells_what_a_model_holds(small_model, tmp_path):
    small_model.save(tmp_path / "small.safetensors")
    told = rows(done("info", str(tmp_path / "small.safetensors")))
    assert (told["Model"], told["Voltage"], told["k max"]) == ("small", "300 kV", "2 1/Å")
    assert told["Phase Cu"].startswith(small_model.phases[0].space_group)
    assert f"{sum(values.size for values in small_model.weights.values()):,} weights" in told["Network"]


def test_info_takes_a_shipped_model_by_its_name():
    told = rows(done("info", "cu"))
    assert told["Model"] == "cu"
    assert re.search(r"median 0\.\d\d deg, within 3 deg 8\d\.\d%", told["Test set clean"])


@pytest.mark.parametrize("command", [("info",), ("plot",), ("convert", "--out", "q.h5")])
@pytest.mark.parametrize("name", ["Ti.cif", "notes.txt", "missing.h5", "empty.h5"])
def test_wrong_files_are_one_line(tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Ti.cif").write_text("data_Ti\n_cell_length_a 2.95\n")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty.h5").touch()
    result = call(*command, name)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert name in result.stderr
    assert result.stderr.count("\n") == 1
