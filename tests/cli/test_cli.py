"""The command line, as a user calls it."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings

import h5py
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

import microinfer as mi
from helpers.cif import crystal_text, write_cif
from helpers.damage import attempt, damages
from helpers.example_phases import PHASES
from helpers.kinematic import kinematic_scan
from helpers.optional import needs_py4dstem
from helpers.scans import bragg_vectors, random_points, save_old_vectors, save_vectors
from microinfer.cli import app
from microinfer.cli.demo import compare_with_truth
from microinfer.cli.masks import load_mask
from microinfer.cli.show import warnings_as_lines
from microinfer.models import load_model
from microinfer.peaks.radial import phase_rings, radial_histogram
from microinfer.simulation.library import DISKS, LABELS
from microinfer.simulation.simulate import load_structures
from microinfer.simulation.unfinished import unfinished_library
from microinfer.training.config import load_config
from microinfer.training.duration import Estimate
from microinfer.training.state import write_state

COMMANDS = ("map", "info", "demo", "convert", "benchmark", "train", "simulate", "evaluate", "models")


@pytest.fixture
def files(scan, small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    mi.write_peaks("scan.h5", scan)
    small_model.save("small.safetensors")
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_names_every_command():
    result = call("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.output
        assert call(command, "--help").exit_code == 0


def test_python_m_microinfer():
    result = subprocess.run(
        [sys.executable, "-m", "microinfer", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == f"microinfer {mi.__version__}"


def test_map_writes_the_map_the_exports_and_a_summary(files, scan, small_model):
    result = call("map", "scan.h5", "--model", "small.safetensors", "--plot", "map.png", "--ang", "map.ang",
                  "--ctf", "map.ctf", "--device", "cpu")  # fmt: skip
    assert result.exit_code == 0, result.output
    omap = mi.load_map("map.h5")
    np.testing.assert_array_equal(omap.matrix, mi.map_orientations(scan, small_model, device="cpu").matrix)
    for name in ("map.png", "map.ang", "map.ctf"):
        assert (files / name).stat().st_size > 0
    for text in ("91", "Phase Cu", "Mean confidence", "infer", "positions per second"):
        assert text in result.output


def test_map_options_reach_the_mapper(files, scan):
    mask = np.ones(scan.scan_shape, bool)
    mask[4] = False
    np.save("mask.npy", mask)
    result = call("map", "scan.h5", "--model", "small.safetensors", "--out", "part.h5", "--roi", 2, 8, 1, 5,
                  "--mask", "mask.npy", "--min-disks", 6, "--block-rows", 2, "--batch-size", 3)  # fmt: skip
    assert result.exit_code == 0, result.output
    expected = np.zeros(scan.scan_shape, bool)
    expected[2:8, 1:5] = True
    expected &= mask & (scan.counts.reshape(scan.scan_shape) > 6)
    np.testing.assert_array_equal(mi.load_map("part.h5").valid, expected)


def test_map_of_a_converted_scan_is_that_of_the_scan(files):
    rng = np.random.default_rng(4)
    save_vectors(files / "py4dstem.h5", bragg_vectors(
        (4, 5), random_points(rng, 20, most=20), origin=(32.0, 32.0), Q_pixel_size=0.04,
        Q_pixel_units="A^-1", R_pixel_size=2.5, R_pixel_units="nm",
    ))  # fmt: skip
    assert call("convert", "py4dstem.h5", "--out", "peaks.h5").exit_code == 0
    calibration = re.search("Calibration +(.*)", call("info", "py4dstem.h5").stdout)[1]
    assert calibration.startswith("qx0 32, qy0 32, ")
    assert "None" not in calibration
    refused = call("info", "py4dstem.h5", "--pixel-size", "0")
    assert refused.exit_code == 1
    assert "pixel_size (--pixel-size) must be a positive number" in refused.stderr
    maps = []
    for name in ("py4dstem.h5", "peaks.h5"):
        result = call("map", name, "--model", "small.safetensors", "--out", f"map-{name}", "--device", "cpu")
        assert result.exit_code == 0, result.output
        maps.append(mi.load_map(f"map-{name}"))
    assert maps[0].valid.any()
    for field in ("matrix", "valid", "confidence", "score"):
        np.testing.assert_array_equal(getattr(maps[0], field), getattr(maps[1], field))
    assert (maps[1].scan_step, maps[1].scan_units) == (2.5, "nm")


def test_benchmark_times_the_stages(files):
    result = call(
        "benchmark", "--model", "small.safetensors", "--shape", 6, 5, "--repeats", 2, "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    for text in ("mapping", "read, busy", "write, busy", "±", "6 x 5 positions", "weights", "per second"):
        assert text in result.output


def test_a_warning_is_one_line(files, scan):
    mi.write_peaks(
        "wide.h5", mi.BraggPeaks(scan.offsets, scan.qx * 1.4, scan.qy * 1.4, scan.intensity, (13, 7))
    )
    result = call("map", "wide.h5", "--model", "small.safetensors")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Warning:") == 2
    assert re.search(r"at 0\.71\d times the pixel size they would", result.stderr)
    assert "trained to 2.00" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("map", "missing.h5", "--model", "small.safetensors"), "missing.h5"),
        (("map", "notes.txt", "--model", "small.safetensors"), "notes.txt"),
        (("map", "scan.h5", "--model", "gold"), "gold"),
        (("map", "scan.h5", "--model", "notes.txt"), "notes.txt"),
        (("map", "scan.h5", "--model", "small.safetensors", "--out", "no/map.h5"), "no/map.h5"),
        (("map", "scan.h5", "--model", "small.safetensors", "--roi", 0, 99, 0, 2), "roi must be"),
        (("map", "scan.h5", "--model", "small.safetensors", "--mask", "notes.txt"), "notes.txt: not an .npy"),
        (
            ("map", "scan.h5", "--model", "small.safetensors", "--mask", "int.npy"),
            "int.npy: expected a boolean .npy array, got int64",
        ),
        (
            ("map", "scan.h5", "--model", "small.safetensors", "--mask", "two.npz"),
            "two.npz: not an .npy array",
        ),
        (("map", "scan.h5", "--model", "small.safetensors", "--device", "gpu"), "got 'gpu'"),
        (("train", "cu", "--device", "gpu"), "device must be 'auto' or one of torch's"),
        (("train", "gold"), "gold: neither a configuration file nor a shipped recipe (cu,"),
        (("info", "missing.h5"), "missing.h5"),
        (("info", "scan.h5", "--phase", "Unobtainium"), "Unobtainium"),
        (("train", "missing.toml"), "missing.toml"),
        pytest.param(("train", "--cif", "missing.cif"), "missing.cif", marks=needs_py4dstem),
        (("train", "notes.txt"), "notes.txt"),
        (("convert", "scan.h5", "--out", "scan.h5"), "would replace the scan"),
        (
            ("map", "scan.h5", "--model", "small.safetensors", "--ang", "scan.h5"),
            "scan.h5: the .ang file would replace the scan",
        ),
        (
            ("map", "scan.h5", "--model", "small.safetensors", "--out", "small.safetensors"),
            "small.safetensors: the map would replace the model",
        ),
        (
            ("map", "scan.h5", "--model", "small.safetensors", "--out", "a.h5", "--ctf", "./a.h5"),
            "a.h5: the .ctf file would replace the map",
        ),
        (
            ("export", "small.safetensors", "--out", "small.safetensors"),
            "small.safetensors: the graph would replace the model",
        ),
        (("map", "scan.h5", "--model", "small.safetensors", "--resume"), "map.h5.part: nothing to resume"),
        (("benchmark", "--model", "small.safetensors", "--shape", 0, 5), "--shape must be"),
        pytest.param(("simulate", "missing.toml", "--out", "lib.h5"), "missing.toml", marks=needs_py4dstem),
    ],
)
def test_expected_errors_are_one_line(files, arguments, message):
    (files / "notes.txt").write_text("not what was asked for")
    np.save("int.npy", np.ones((13, 7), np.int64))
    np.savez("two.npz", np.ones(2), np.ones(3))
    before = sorted(files.iterdir())
    result = call(*arguments)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.output
    assert sorted(files.iterdir()) == before


TINY = """
name = "tiny"
[[phases]]
structure = "Cu"
[simulation]
zone_axes = 20
thicknesses = 2
method = "kinematic"
k_max = 1.2
[model]
width = 32
blocks = 1
heads = 4
zone_axis_spacing = 8.0
[training]
samples = 128
batch_size = 32
"""


@needs_py4dstem
def test_train_says_what_it_will_do_and_what_came_out(files):
    (files / "tiny.toml").write_text(TINY)
    write_cif(files, "Ni")
    write_cif(files, "Ti")
    crystals = ("--cif", "Ni.cif", "--cif", "Ti.cif")
    result = call("train", "tiny.toml", *crystals, "--voltage", "200", "--device", "cpu")
    assert result.exit_code == 0, result.output
    plan, time, verdict, model = re.search(
        r"(.*)^It will take about ([^\n]+)\n(On [^\n]+)\n(Model [^\n]+)",
        result.stdout,
        re.DOTALL | re.MULTILINE,
    ).groups()
    for text in (
        "Ni (Ni.cif, block 'Ni'): Fm-3m (number 225); cell 3.524 3.524 3.524",
        "Ti (Ti.cif, block 'Ti'): P6",
        "200 kV",
        "1.2 1/Å",
        "80: 20 zone axes of each phase, 2 thicknesses of 1 to 300 nm",
        "128 samples on cpu",
    ):
        assert text in plan
    assert re.fullmatch(r"[^:]+: library [^,]+, training [^,]+, calibration [^,]+\.", time)
    assert "hour" not in time  # it takes seconds
    assert "Usual for patterns with as many disks" in verdict
    assert "Not good enough to map with" in result.stderr  # so few samples teach nothing
    assert "runs/ni-ti/ni-ti.safetensors" in model
    trained = load_model("runs/ni-ti/ni-ti.safetensors")
    assert [phase.name for phase in trained.phases] == ["Ni", "Ti"]
    assert (trained.name, trained.voltage, trained.card["verdict"]["good_enough"]) == ("ni-ti", 200e3, False)
    assert "Map with" not in model
    result = call("map", "scan.h5", "--model", "runs/ni-ti/ni-ti.safetensors", "--device", "cpu")
    assert result.exit_code == 0, result.output
    doubt = "its training found it not good enough to map with: "
    assert f"Warning: Model: {doubt}" in result.stderr
    for file in ("map.h5", "runs/ni-ti/ni-ti.safetensors"):
        assert doubt in call("info", file).stdout
    result = call("train", "tiny.toml", *crystals, "--device", "cpu")
    assert result.exit_code == 1
    assert "runs/ni-ti: holds a training; --resume goes on with it" in result.stderr


def test_a_long_training_says_how_to_make_it_shorter_and_asks(files, monkeypatch):
    begun = []
    monkeypatch.setattr("microinfer.training.train", lambda *arguments, **options: begun.append(1) or 1 / 0)
    monkeypatch.setattr("microinfer.training.start.require_simulation", lambda: None)
    monkeypatch.setattr(
        "microinfer.training.duration.estimate", lambda *arguments, **options: Estimate(9e4, 5e3, 9.0)
    )
    (files / "tiny.toml").write_text(TINY.replace("zone_axes = 20", "zone_axes = 40_000"))
    result = call("train", "tiny.toml")  # no terminal: no question
    assert "It will take about 27 hours: library 25 hours, training 2 hours" in result.stdout
    assert "Shorter: --quick (about 4 hours); --k-max" in result.stdout
    assert len(begun) == 1
    monkeypatch.setattr("microinfer.cli.make.at_a_terminal", lambda: True)
    for answer, options, count in (("n", (), 1), ("y", (), 2), ("n", ("--yes",), 3)):
        CliRunner().invoke(app, ["train", "tiny.toml", *options], input=answer)
        assert len(begun) == count


def test_resume_says_how_long_the_rest_takes_and_what_differs(files, monkeypatch):
    begun = []
    monkeypatch.setattr("microinfer.training.train", lambda *arguments, **options: begun.append(1) or 1 / 0)
    monkeypatch.setattr("microinfer.training.start.require_simulation", lambda: None)
    monkeypatch.setattr(
        "microinfer.cli.make.at_a_terminal", lambda: True
    )  # what was begun is not asked for again
    estimate = Estimate(8000.0, 8000.0, 90.0)
    monkeypatch.setattr("microinfer.training.duration.estimate", lambda *arguments, **options: estimate)
    (files / "tiny.toml").write_text(TINY)
    config = load_config("tiny.toml")
    folder = files / "runs" / "tiny"
    folder.mkdir(parents=True)
    write_state(folder / "state.pt", {"config": json.dumps(config.to_dict()), "progress": [96, 3, 1, 0]})
    structures = load_structures(config)
    with unfinished_library(folder / "library.h5", config, structures, 4, resume=False) as library:
        library.add(
            5, {name: np.zeros((0, *cell), kind) for name, (cell, kind) in {**LABELS, **DISKS}.items()}
        )
        library.write()
        shutil.copy(folder / "library.h5.part", folder / "kept")
    (folder / "kept").rename(folder / "library.h5.part")
    result = call("train", "tiny.toml", "--resume")
    assert (
        "What is left takes about 3 hours: library 2 hours, training 34 minutes, calibration" in result.stdout
    )
    assert begun == [1]
    result = call("train", "tiny.toml", "--resume", "--k-max", "1.1", "--voltage", "200")
    assert result.exit_code == 1
    assert "state.pt: the training was begun with other settings: " in result.stderr
    assert "simulation.voltage 300000.0, now 200000.0" in result.stderr
    assert "simulation.k_max 1.2, now 1.1; " in result.stderr
    assert "width" not in result.stderr
    assert begun == [1]


@pytest.mark.parametrize(
    "command", [("train", "--cif", "missing.cif"), ("simulate", "missing.toml", "--out", "a.h5")]
)
def test_packages_of_the_simulation_are_missed_at_once(files, command, monkeypatch):
    monkeypatch.setattr("microinfer.extras.find_spec", lambda name: None)
    result = call(*command)
    assert result.exit_code == 1
    assert (
        'simulation needs py4DSTEM: in the clone: pip install -c constraints.txt "py4DSTEM' in result.stderr
    )


def test_info_with_a_phase_says_at_once_what_it_needs(files, monkeypatch):
    monkeypatch.setattr("microinfer.extras.find_spec", lambda name: None)
    result = call("info", "scan.h5", "--phase", "Cu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "info --phase needs py4DSTEM: in the clone: pip install" in result.stderr
    assert call("info", "scan.h5", "--model", "small.safetensors").exit_code == 0


def test_info_of_a_crystal_says_how_to_use_it(files):
    write_cif(files, "Ti")
    result = call("info", "Ti.cif")
    assert result.exit_code == 1
    assert "Ti.cif is a CIF file, not " in result.stderr
    assert "microinfer info SCAN --phase Ti.cif" in result.stderr


@needs_py4dstem
def test_a_block_of_a_cif_file_is_chosen_and_said(files):
    gold = crystal_text(cell=(4.08,) * 3, number=225, sites=["Au Au 0 0 0"]).replace("data_own", "data_gold")
    (files / "two.cif").write_text(crystal_text(cell=(3.6,) * 3, number=225, sites=["Cu Cu 0 0 0"]) + gold)
    result = call("info", "scan.h5", "--phase", "two.cif#gold")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("gold (two.cif, block 'gold'): Fm-3m (number 225); cell 4.08 4.08 4.08")
    assert "19.3 g/cm³" in result.output
    for arguments in (("info", "scan.h5", "--phase", "two.cif"), ("train", "--cif", "two.cif")):
        result = call(*arguments)
        assert result.exit_code == 1
        assert "'own', 'gold': choose one as two.cif#own" in result.stderr
    assert "has no block 'silver'" in call("train", "--cif", "two.cif#silver").stderr


CONVERTED = """
import signal, sys, time
from microinfer.cli import app
from microinfer.peaks.native import NativeReader

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may have it ignored
read_rows = NativeReader.read_rows

def wait(reader, *rows):
    if rows[0]:
        print("ready", flush=True)
        time.sleep(60)
    return read_rows(reader, *rows)

NativeReader.read_rows = wait
app(["convert", "long.h5", "--out", "copy.h5"])
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_stopped_leaves_nothing(files, number, status):
    rows = [np.array([[0.1, 0.2, 1.0]])] * 20_000
    mi.write_peaks("long.h5", mi.BraggPeaks.from_patterns(rows, (20_000, 1)))
    before = sorted(files.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", CONVERTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(sorted(files.iterdir())) == len(before) + 1  # the temporary file
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Stopped" in errors
    assert "Traceback" not in errors
    assert sorted(files.iterdir()) == before


def test_the_programs_own_answer_to_sigterm_comes_back(files):
    before = signal.getsignal(signal.SIGTERM)
    assert call("info", "scan.h5").exit_code == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_mask_is_refused_by_its_name_or_an_array(tmp_path, count):
    path = tmp_path / "mask.npy"
    np.save(path, np.ones((13, 7), bool))
    for data in damages(path.read_bytes(), count):
        path.write_bytes(data)
        read = attempt(load_mask, path)
        assert read.startswith(f"{path}: ") if isinstance(read, str) else read.dtype == np.bool_


def test_a_mask_that_is_shorter_than_it_says_takes_no_memory(tmp_path):
    path = tmp_path / "mask.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=bool, shape=(100, 100))
    path.write_bytes(path.read_bytes().replace(b"(100, 100), }       ", b"(999999, 999999), } "))
    with pytest.raises(
        ValueError, match=r"mask\.npy: not an \.npy array: mmap length is greater than file size"
    ):
        load_mask(path)


def test_warnings_are_printed_before_an_error_too(capsys):
    def warn_and_fail() -> None:
        with warnings_as_lines():
            warnings.warn("look here", UserWarning, stacklevel=1)
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        warn_and_fail()
    assert "Warning: look here" in capsys.readouterr().err


def test_a_closed_pipe_prints_no_error(monkeypatch):
    def broken(*arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("microinfer.cli.make.model_table", broken)
    result = call("models")
    assert result.exit_code == 1
    assert "Broken pipe" not in result.output


@pytest.mark.parametrize("arguments", [("train",), ("map",), ("simulate", "a.toml")])
def test_wrong_usage_exits_with_two(arguments):
    assert call(*arguments).exit_code == 2


def test_map_without_a_model_lists_what_there_is(files):
    result = call("map", "scan.h5")
    assert result.exit_code == 1
    for text in (
        "give --model",
        "cu (Cu, 300 kV, to 2.0992",
        "cu-cu2o (Cu, Cu2O",
        "microinfer train --cif FILE",
    ):
        assert text in result.stderr
    assert not (files / "map.h5").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_map_asks_for_the_model_at_a_terminal(files):
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "microinfer", "map", "scan.h5", "--device", "cpu"]
    with subprocess.Popen(
        command, stdin=end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as asked:
        os.write(terminal, b"small.safetensors\n")
        _, errors = asked.communicate(timeout=120)
    os.close(terminal)
    os.close(end)
    assert asked.returncode == 0, errors
    assert "cu (Cu, 300 kV" in errors
    assert mi.load_map("map.h5").model_card["name"] == "small"


def test_metadata_that_name_the_phase_decide_the_model(files):
    points = random_points(np.random.default_rng(4), 6)
    save_old_vectors(
        files / "old.h5", (2, 3), points,
        {"qx0": 32.0, "qy0": 32.0, "Q_pixel_size": 0.04, "Q_pixel_units": "A^-1"},
    )  # fmt: skip
    with h5py.File("old.h5", "r+") as file:
        file.create_dataset("4DSTEM/metadatabundle/sample/phase", data="copper")
    assert call("map", "old.h5").exit_code == 1  # no model's phase is called so
    with h5py.File("old.h5", "r+") as file:
        file["4DSTEM/metadatabundle/sample/phase"][()] = "cu"
    result = call("map", "old.h5", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "Model cu: the scan's metadata name cu" in result.output


def test_map_and_info_say_whether_scan_and_model_go_together(files):
    kinematic_scan(PHASES["Cu"], 1, camera=2.0).save("right.h5")
    kinematic_scan(PHASES["Cu"], 1, camera=2.0, scale=1.03, voltage=200e3).save("wrong.h5")
    for command in ("map", "info"):
        right = call(command, "right.h5", "--model", "small.safetensors")
        assert right.exit_code == 0, right.output
        assert "Crystal: the peaks fit Cu" in right.stdout
        assert "Voltage: the scan's is not known (the model's: 300 kV); give --voltage" in right.stdout
        assert "Warning" not in right.stderr
        (files / "map.h5").unlink(missing_ok=True)
        wrong = call(command, "wrong.h5", "--model", "small.safetensors")
        assert wrong.exit_code == 0, wrong.output
        told = [line for line in wrong.stderr.splitlines() if line.startswith("Warning:")]
        assert len(told) == 2
        assert "3.0% too far out for Cu" in told[0]
        assert "taken at 200 kV, the model is for 300 kV" in told[1]


@needs_py4dstem
def test_info_says_whether_scan_and_phase_go_together(files):
    kinematic_scan(PHASES["Cu"], 1, camera=2.0, scale=1.03).save("wrong.h5")
    assert "Warning: Crystal" in call("info", "wrong.h5", "--phase", "Cu").stderr


def test_the_voltage_is_given_once(files):
    assert call("convert", "scan.h5", "--out", "copy.h5", "--voltage", 200).exit_code == 0
    assert mi.read_peaks("copy.h5").scan.voltage == 200e3
    assert "200 kV" in call("info", "copy.h5").output
    assert "got '200 V'" in call("info", "scan.h5", "--voltage", "200 V").stderr


def test_info_shows_calibration_histogram_and_rings(files):
    result = call("info", "scan.h5", "--model", "small.safetensors")
    assert result.exit_code == 0, result.output
    for text in ("13 x 7 positions", "2.5 nm", "{1 1 1} 0.48", "█", "^"):
        assert text in result.output


def test_radial_histogram_counts_every_peak(scan):
    result = radial_histogram(scan, 1.0)
    radius = np.hypot(scan.qx, scan.qy)
    assert result.counts.sum() == (radius <= 1.0).sum()
    assert result.outside == (radius > 1.0).sum()
    assert result.counts[0] == (radius < 0.01).sum()
    np.testing.assert_array_equal(result.disks, scan.counts)


@pytest.mark.parametrize(("reach", "end"), [(0.83, 0.9), (1.41, 1.5), (0.02, 0.1)])
def test_radial_histogram_ends_where_the_peaks_do(reach, end):
    radius, angle = np.random.default_rng(3).uniform(0, [[reach], [7]], (2, 4000))
    radius[:2] = 7.0, 1e6  # strays
    peaks = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.ones(4000)])
    result = radial_histogram(mi.BraggPeaks.from_patterns([peaks], (1, 1)))
    assert result.radius_max == pytest.approx(end)
    assert (result.counts.sum(), result.outside) == (3998, 2)
    expected = np.histogram(radius, 100, (0.0, end))[0]
    assert np.abs(np.cumsum(result.counts - expected)).max() <= 2  # on an edge a peak may fall to either side
    assert radial_histogram(mi.BraggPeaks.from_patterns([np.zeros((0, 3))], (1, 1))).outside == 0


def test_rings_of_a_face_centred_crystal(small_model):
    rings = phase_rings(small_model.phases[0], 1.0)
    a = small_model.phases[0].lattice[0]
    lengths = [ring.radius * a for ring in rings]
    np.testing.assert_allclose(lengths, np.sqrt([3, 4, 8, 11, 12]), atol=1e-6)
    assert rings[0].hkl == (1, 1, 1)


def test_demo_compares_with_the_truth(small_model):
    operators = small_model.phases[0].operators
    truth = Rotation.random(6, rng=2).as_matrix().reshape(2, 3, 3, 3)
    turned = Rotation.from_rotvec([0, 0, np.deg2rad(2.0)]).as_matrix()
    answer = (operators[5] @ truth @ turned).astype(np.float32)
    truth[1, 2] = np.nan
    valid = np.ones((2, 3), bool)
    valid[0, 0] = False
    omap = mi.OrientationMap(
        answer, valid, np.where(valid, 0, -1), valid.astype(np.float32), small_model.phases
    )
    rows = compare_with_truth(omap, truth, np.isfinite(truth).all(axis=(2, 3)))
    assert rows["Median misorientation"].startswith("2.00 degrees")
    assert rows["Within 3 degrees"].startswith("80.0%")
    assert rows["Valid in vacuum"].startswith("100.0% of 1")


def test_public_names():
    assert mi.TokenSpec().max_disks == 76
    assert set(mi.__all__) <= set(dir(mi))
    for name in mi.__all__:
        assert getattr(mi, name) is not None
    with pytest.raises(AttributeError, match="orientations"):
        _ = mi.orientations
    assert isinstance(mi.symmetry_min_geodesic(*[torch.eye(3)[None]] * 3), torch.Tensor)
