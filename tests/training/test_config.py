"""Configurations: what is in range, which seeds are whose, recipes by name, and other crystals."""

import dataclasses

import numpy as np
import pytest

from microinfer.evaluation.template_matching import TUNING_SEED
from microinfer.models.settings import ModelConfig
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.testset import TEST_SEED
from microinfer.training.config import AugmentationConfig, TrainingConfig, load_config, shipped_recipes


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (TrainingConfig, "samples", 0),
        (TrainingConfig, "batch_size", 1),
        (TrainingConfig, "warmup_steps", 0),
        (TrainingConfig, "learning_rate", 0.0),
        (TrainingConfig, "validation_share", 0.0),
        (TrainingConfig, "validation_share", 1.0),
        (TrainingConfig, "validation_split", "thicknesses"),
        (TrainingConfig, "seed", -1),
        (AugmentationConfig, "no_crystal", 1.5),
        (AugmentationConfig, "beam_stop", -0.1),
        (AugmentationConfig, "position_jitter", -0.01),
        (AugmentationConfig, "scale_error", float("nan")),
        (AugmentationConfig, "edge_range", (2.0, 1.0)),
        (AugmentationConfig, "no_crystal_disks", (1.0,)),
        (ModelConfig, "heads", 0),
        (ModelConfig, "blocks", 0),
        (ModelConfig, "channels", 0),
        (ModelConfig, "label_sigma", 0.0),
        (ModelConfig, "zone_axis_spacing", 50.0),
        (ModelConfig, "kind", "oracle"),
        (SimulationConfig, "method", "dynamic"),
        (SimulationConfig, "zone_axes", 1),
        (SimulationConfig, "thickness_range", (0.0, 10.0)),
        (SimulationConfig, "k_max", 0.0),
    ],
)
def test_values_out_of_range_are_named(kind, name, value):
    with pytest.raises(ValueError, match=rf"\w+\.{name} must be .*, got "):
        kind(**{name: value})


@pytest.mark.parametrize("seed", [TEST_SEED, TUNING_SEED])
def test_no_library_has_the_seed_of_a_test_set(seed):
    # to NumPy the seed of a test set is that of a library's first phase: their kinds do not keep them apart
    assert np.random.default_rng(seed).random() == np.random.default_rng([seed, 0]).random()
    with pytest.raises(ValueError, match=r"simulation\.seed must lie between 0 and 19999999, .*test sets"):
        SimulationConfig(seed=seed)


def test_recipes_have_names():
    for name, path in shipped_recipes().items():
        assert load_config(name) == load_config(path)
        assert load_config(name).name == name
    with pytest.raises(
        FileNotFoundError, match=r"gold: neither a configuration file nor a shipped recipe \(cu,"
    ):
        load_config("gold")


def test_another_crystal_brings_its_names():
    recipe = load_config("cu")
    named = dataclasses.replace(recipe, phases=(PhaseConfig("Cu", "copper", "point_group"),))
    other = named.for_structure("structures/Ni.cif")
    assert other.name == "ni"
    assert other.phases == (PhaseConfig("structures/Ni.cif", symmetry="point_group"),)
    assert other.phases[0].display_name == "Ni"
    assert other.simulation == recipe.simulation
