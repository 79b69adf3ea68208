"""Ctrl-C and SIGTERM in every stage of a training: a message with the way on, nobody left behind, nothing lost."""

import os
import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

from helpers.optional import needs_py4dstem
from microinfer.models import load_model
from microinfer.simulation import load_library
from microinfer.training.config import load_config

pytestmark = [pytest.mark.slow, needs_py4dstem]

TINY = """
name = "tiny"
[[phases]]
structure = "Cu"
[simulation]
zone_axes = 400
thicknesses = 2
method = "kinematic"
k_max = 1.2
[model]
width = 32
blocks = 1
heads = 4
zone_axis_spacing = 8.0
[training]
samples = 4000
batch_size = 32
validation_share = 0.2
"""

# The stage says that it has begun and waits for its interruption, as a long one would have it.
SCRIPT = """
import signal, sys, time
from microinfer.cli import app, main
from microinfer.simulation.unfinished import UnfinishedLibrary
from microinfer.training import trainer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may have it ignored
stage, calls = sys.argv.pop(1), []

def at(owner, name, call):
    original = getattr(owner, name)
    def patched(*arguments, **options):
        result = original(*arguments, **options)
        calls.append(name)
        if len(calls) == call:
            print("ready", flush=True)
            for _ in range(6000):
                time.sleep(0.01)
        return result
    setattr(owner, name, patched)

{"simulation": lambda: at(UnfinishedLibrary, "add", 5),
 "training": lambda: at(trainer.Run, "gradients", 30),
 "validation": lambda: at(trainer, "orientation_errors", 4),
 "calibration": lambda: at(trainer, "calibrate", 1)}[stage]()
main()
"""
STAGES = {
    "simulation": signal.SIGINT,
    "training": signal.SIGTERM,
    "validation": signal.SIGINT,
    "calibration": signal.SIGTERM,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The library of a training that nobody interrupts."""
    from microinfer.simulation import simulate_library

    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.toml").write_text(TINY)
    return simulate_library(load_config(folder / "tiny.toml"), processes=1)


def test_every_stage_is_stopped_and_gone_on_with(whole, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    command = ["microinfer", "train", "tiny.toml", "--device", "cpu"]
    for stage, stop in STAGES.items():
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT, stage, *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
        ) as process:
            for line in process.stdout:
                if line == "ready\n":
                    break
            workers = psutil.Process(process.pid).children(recursive=True)
            assert bool(workers) == (stage == "simulation")
            os.killpg(process.pid, stop)
            _, errors = process.communicate(timeout=120)
        assert process.returncode == 128 + stop, errors
        assert "Traceback" not in errors
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive
        command = shlex.split(re.search(r"Go on with: (microinfer .*)", errors)[1])
        assert command == ["microinfer", "train", "tiny.toml", "--device", "cpu", "--resume"]
        kept = sorted(path.name for path in (tmp_path / "runs" / "tiny").iterdir())
        assert ("library.h5.part" if stage == "simulation" else "library.h5") in kept

    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "runs/tiny/tiny.safetensors").card["verdict"]["patterns"] > 50
    library = load_library(tmp_path / "runs/tiny/library.h5")
    for name in ("orientation", "phase", "zone", "thickness"):
        np.testing.assert_array_equal(getattr(library, name), getattr(whole, name))
    for name in ("offsets", "qx", "qy", "intensity"):
        np.testing.assert_array_equal(getattr(library.peaks, name), getattr(whole.peaks, name))
