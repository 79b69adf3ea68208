"""microinfer calibrate: what it says, what it writes, and what it refuses."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.example_phases import PHASES
from helpers.pixels import PIXEL_SIZE, scan_in_pixels
from microinfer.cli import app
from microinfer.models import Model
from microinfer.peaks import open_peaks
from microinfer.peaks.calibrate import write_calibrated
from microinfer.peaks.pixels import PixelCalibration

STATED = PixelCalibration(1.05 * PIXEL_SIZE, sources={"pixel_size": "file", "origin": "measured"})
SCAN, _ = scan_in_pixels((PHASES["Cu"],), 1)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: Model) -> None:
    """Peaks whose pixel size nobody knows, peaks with a wrong one, and a model of copper."""
    monkeypatch.chdir(tmp_path)
    write_calibrated(SCAN, "unknown.h5", PixelCalibration(sources={"origin": "measured"}))
    write_calibrated(SCAN, "stated.h5", STATED)
    small_model.save("cu.safetensors")


def run(*words: str, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["calibrate", *words])
    assert result.exit_code == status, result.output
    return " ".join(result.stdout.split()), " ".join(result.stderr.split())


def test_it_says_what_it_finds_and_writes_nothing() -> None:
    before = Path("unknown.h5").read_bytes()
    said, errors = run("unknown.h5", "--model", "cu.safetensors")
    for part in ("Centre", "(direct beam)", "a/b 1.03", "± ", "Second best 0.0", "the rings decide"):
        assert part in said
    assert errors == ""
    assert Path("unknown.h5").read_bytes() == before


def test_what_it_writes_is_shown_and_applied() -> None:
    run("unknown.h5", "--model", "cu.safetensors", "--out", "peaks.h5")
    with open_peaks("peaks.h5") as reader:
        assert reader.pixel_size == pytest.approx(PIXEL_SIZE, rel=0.003)
    shown = CliRunner().invoke(app, ["info", "peaks.h5", "--model", "cu.safetensors"]).stdout
    assert "1/Angstrom (measured), ellipse a/b 1.0" in shown
    assert "the peaks fit Cu" in shown


def test_map_refuses_peaks_without_a_pixel_size() -> None:
    refused = CliRunner().invoke(app, ["map", "unknown.h5", "--model", "cu.safetensors"])
    assert refused.exit_code == 1
    assert "--pixel-size" in refused.stderr
    assert "microinfer calibrate" in refused.stderr
    given = CliRunner().invoke(
        app, ["map", "unknown.h5", "--model", "cu.safetensors", "--pixel-size", "0.02", "--device", "cpu"]
    )
    assert given.exit_code == 0, given.output


def test_what_is_stated_is_kept_unless_replaced() -> None:
    said, warned = run("stated.h5", "--model", "cu.safetensors", "--out", "kept.h5")
    assert "the pixel size that was stated or given, 0.021 1/Angstrom, is +" in warned
    assert "--replace puts what was measured in its place" in said
    run("stated.h5", "--model", "cu.safetensors", "--out", "new.h5", "--replace")
    sizes = {}
    for name in ("kept.h5", "new.h5"):
        with open_peaks(name) as reader:
            sizes[name] = reader.pixel_size
    assert sizes == {"kept.h5": STATED.pixel_size, "new.h5": pytest.approx(PIXEL_SIZE, rel=0.003)}


def test_a_file_is_written_into_only_where_asked() -> None:
    before = Path("stated.h5").read_bytes()
    run("stated.h5", "--model", "cu.safetensors", "--out", "stated.h5", status=1)
    run("stated.h5", "--model", "cu.safetensors", "--out", "unknown.h5", status=1)
    assert Path("stated.h5").read_bytes() == before
    run("stated.h5", "--model", "cu.safetensors", "--overwrite", "--replace")
    assert mi.read_peaks("stated.h5").n_peaks == SCAN.n_peaks
    with open_peaks("stated.h5") as reader:
        assert reader.pixel_size == pytest.approx(PIXEL_SIZE, rel=0.003)


def test_what_the_rings_do_not_decide_is_an_error_and_no_file() -> None:
    write_calibrated(scan_in_pixels((PHASES["Cu"],), 1, grains=1)[0], "single.h5", STATED)
    _, errors = run("single.h5", "--model", "cu.safetensors", "--out", "peaks.h5", status=1)
    assert "single.h5: the rings do not decide: " in errors
    assert not Path("peaks.h5").exists()


def test_the_crystal_must_be_given() -> None:
    for words in ((), ("--model", "cu.safetensors", "--cif", "Cu")):
        _, errors = run("unknown.h5", *words, status=2)
        assert "--model or --cif" in errors
    said, _ = run("unknown.h5", "--cif", "Cu")
    assert "on Cu" in said
