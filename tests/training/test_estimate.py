"""The estimate of a training's length: what it grows with, and that it leaves nothing behind."""

import dataclasses

import numpy as np
import pytest

from helpers.optional import needs_py4dstem
from microinfer.crystals.structure import load_structure
from microinfer.models.settings import ModelConfig
from microinfer.simulation import PatternSimulator, simulate_library
from microinfer.simulation.cost import library_seconds, mean_beams, simulated
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.simulate import library_tasks
from microinfer.training import estimate
from microinfer.training.config import Config, TrainingConfig
from microinfer.training.duration import scaled

CONFIG = Config(
    "tiny",
    (PhaseConfig("Cu"), PhaseConfig("Cu2O")),
    SimulationConfig(zone_axes=60, thicknesses=2, method="kinematic", k_max=1.2, zone_axis_step=6.0),
    model=ModelConfig(width=32, blocks=1, heads=4, zone_axis_spacing=8.0, channels=8),
    training=TrainingConfig(samples=500, batch_size=16, validation_share=0.3),
)
SLOW_CLOCK = 2.0
"""Lookups and decompositions take this many seconds on the tests' clock: only what is counted matters."""


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("microinfer.simulation.cost._seconds", lambda work: SLOW_CLOCK)


@needs_py4dstem
@pytest.mark.parametrize(("name", "k_max"), [("Cu", 2.0), ("Cu2O", 1.0)])
def test_beams_are_those_that_py4dstem_takes(name, k_max, monkeypatch):
    structure, simulation = load_structure(name), SimulationConfig(k_max=k_max)
    simulator = PatternSimulator(structure, simulation)
    solve, counts = simulator._crystal.generate_dynamical_diffraction_pattern, []

    def counted(beams, *arguments, **options):
        counts.append(len(beams.data))
        return solve(beams, *arguments, **options)

    monkeypatch.setattr(simulator._crystal, "generate_dynamical_diffraction_pattern", counted)
    for task in library_tasks(
        Config("a", (PhaseConfig(name),), dataclasses.replace(simulation, zone_axes=10))
    ):
        for orientation in task.orientations:
            simulator.patterns(orientation, np.array([100.0]))
    assert mean_beams(structure, simulation) == pytest.approx(np.mean(counts), rel=0.15)


@needs_py4dstem
def test_a_library_takes_longer_with_zone_axes_phases_and_k_max(clock):
    one, two = (load_structure(name) for name in ("Cu", "Cu2O"))
    few, many = (SimulationConfig(zone_axes=count, k_max=1.0) for count in (1_000_000, 2_000_000))

    def seconds(structures, simulation, processes=1):
        return library_seconds(structures, simulation, processes)

    assert seconds([one], many) == pytest.approx(2 * seconds([one], few), rel=0.01)
    assert seconds([one], few, processes=2) == pytest.approx(0.5 * seconds([one], few), rel=0.01)
    assert seconds([one, two], few) == pytest.approx(seconds([one], few) + seconds([two], few), rel=0.01)
    assert seconds([one], dataclasses.replace(few, method="kinematic")) < seconds([one], few)
    assert seconds([one], dataclasses.replace(few, k_max=2.0)) > seconds([one], few)


def test_the_papers_sampling_tries_many_thicknesses():
    simulation = SimulationConfig(sampling="standard_triangle", zone_axis_step=2.0, thicknesses=80)
    assert simulated(simulation) == (2 * 406, 300)


def test_an_estimate_of_every_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = estimate(CONFIG, device="cpu")
    assert min(found) > 0.0
    assert found.total == sum(found) < 600.0  # it takes seconds
    longer = dataclasses.replace(
        CONFIG,
        simulation=dataclasses.replace(CONFIG.simulation, zone_axes=120),
        training=dataclasses.replace(CONFIG.training, samples=1500),
    )
    assert scaled(found, CONFIG, longer) == pytest.approx(
        (2 * found.library, 3 * found.training, found.calibration)
    )
    assert not list(tmp_path.iterdir())


@needs_py4dstem
def test_a_library_that_is_there_takes_no_time():
    library = simulate_library(CONFIG, processes=1)
    assert estimate(CONFIG, library, device="cpu").library == 0.0
