"""The estimate of a training's length, on a clock that counts the work instead of the seconds."""

import dataclasses
import importlib
from types import SimpleNamespace

import pytest

from helpers.optional import needs_py4dstem
from microinfer.models.settings import ModelConfig
from microinfer.simulation import PatternSimulator, simulate_library
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.training import estimate, trainer
from microinfer.training.config import Config, TrainingConfig

CONFIG = Config(
    "tiny",
    (PhaseConfig("Cu"),),
    SimulationConfig(zone_axes=60, thicknesses=2, method="kinematic", k_max=1.2, zone_axis_step=6.0),
    model=ModelConfig(width=32, blocks=1, heads=4, zone_axis_spacing=8.0, channels=8),
    training=TrainingConfig(samples=500, batch_size=16, validation_share=0.3),
)


@pytest.fixture
def work(monkeypatch):
    """Zone axes simulated and samples trained on so far; the estimate's clock shows their sum."""
    done = SimpleNamespace(zone_axes=0, samples=0)
    patterns, update = PatternSimulator.patterns, trainer.Run.update

    def counted_patterns(*arguments):
        done.zone_axes += 1
        return patterns(*arguments)

    def counted_update(run, batch):
        done.samples += len(batch.phase)
        return update(run, batch)

    monkeypatch.setattr(PatternSimulator, "patterns", counted_patterns)
    monkeypatch.setattr(trainer.Run, "update", counted_update)
    clock = SimpleNamespace(perf_counter=lambda: float(done.zone_axes + done.samples))
    module = importlib.import_module("microinfer.training.estimate")  # the package's name is the function
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "default_processes", lambda: 1)
    return done


@needs_py4dstem
@pytest.mark.parametrize("sampling", ["random", "standard_triangle"])
@pytest.mark.parametrize("phases", [("Cu",), ("Cu", "Cu2O")])
def test_the_library_takes_as_long_as_was_said(work, tmp_path, sampling, phases):
    simulation = dataclasses.replace(CONFIG.simulation, sampling=sampling)
    config = dataclasses.replace(CONFIG, phases=tuple(map(PhaseConfig, phases)), simulation=simulation)
    said = estimate(config, tmp_path, device="cpu")
    measured_on, work.zone_axes = work.zone_axes, 0
    simulate_library(config, processes=1)
    assert said.simulation == pytest.approx(work.zone_axes, rel=0.1)
    assert measured_on < 0.5 * work.zone_axes
    assert said.training == CONFIG.training.samples + trainer.VALIDATIONS * trainer.VALIDATION_PATTERNS
    assert not list(tmp_path.iterdir())


@needs_py4dstem
def test_a_library_that_is_there_takes_no_time(work, tmp_path):
    simulate_library(CONFIG, tmp_path / "library.h5", processes=1)
    work.zone_axes = 0
    assert estimate(CONFIG, tmp_path, device="cpu").simulation == 0.0
    assert work.zone_axes == 0


def test_no_estimate_where_a_training_stands(tmp_path):
    (tmp_path / "state.pt").touch()
    with pytest.raises(FileExistsError, match="holds a training; --resume goes on with it"):
        estimate(CONFIG, tmp_path, device="cpu")
