"""Configurations: what is in range, which seeds are whose, recipes by name, and other crystals."""

import dataclasses

import numpy as np
import pytest

from helpers.damage import attempt, damages
from microinfer.evaluation.template_matching import TUNING_SEED
from microinfer.models.settings import ModelConfig
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.testset import TEST_SEED
from microinfer.training.config import (
    AugmentationConfig,
    Config,
    TrainingConfig,
    load_config,
    shipped_recipes,
)


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


@pytest.mark.parametrize(
    "name", ["../other", "/tmp/other", "a/b", "a\\b", "..", ".hidden", "", "a\nb", "a\0b", "x" * 101, 5, True]
)
def test_a_name_is_no_path(name):
    phases = (PhaseConfig("Cu"),)
    with pytest.raises(
        ValueError, match="name must be a text of at most 100 characters that can name a file"
    ):
        Config(name, phases)
    with pytest.raises(ValueError, match=r"my\.toml: name must be a text"):
        Config.from_dict({"name": name, "phases": [{"structure": "Cu"}]}, "my.toml")
    assert Config("Cu-Cu₂O (300 kV).1", phases).name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'name = "caf\xe9"', "not a TOML file: 'utf-8' codec can't decode"),
        (b"name = ", "not a TOML file"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, "not a TOML file"),
        (b'phases = 5\nname = "a"', "phases must be a list"),
        (b'name = "a"\n[phases]\nstructure = "Cu"', "phases must be a list"),
        (b'name = "a"\n[[phases]]\nstructure = 5', r"\[\[phases\]\]: structure must be a str, got 5"),
        (b'name = "a"\n[[phases]]\nname = "b"', r"\[\[phases\]\]: .*structure"),
        (b"[training]\nsamples = true", r"\[training\]: samples must be a int, got True"),
        (b"[training]\nsamples = 0", r"\[training\]: training\.samples must be at least 1"),
        (b"[training]\nlearning_rate = 1" + b"0" * 400, r"\[training\]: learning_rate must be a float"),
        (b'[augmentation]\nedge_range = ["a", "b"]', r"\[augmentation\]: "),
        (b"[model]\nwidth = 100\nheads = 8", r"\[model\]: model\.width"),
        (b'[tokens]\nmax_disks = "many"', r"\[tokens\]: max_disks must be a int"),
        (b"[tokens]\nmax_disks = 1" + b"0" * 30, r"\[tokens\]: "),
        (b"simulation = 3", r"\[simulation\]: expected a table, got 3"),
    ],
)
def test_every_error_of_a_configuration_names_the_file_and_the_entry(tmp_path, text, message):
    whole = b'name = "a"\n[[phases]]\nstructure = "Cu"\n'
    path = tmp_path / "my.toml"
    path.write_bytes(
        text if b"name" in text else text + b"\n" + whole if b"simulation" in text else whole + text
    )
    with pytest.raises(ValueError, match=rf"my\.toml: .*{message}"):
        load_config(path)


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_configuration_is_refused_by_its_name_or_read(tmp_path, count):
    path = tmp_path / "my.toml"
    for recipe in shipped_recipes().values():
        for data in damages(recipe.read_bytes(), count // len(shipped_recipes())):
            path.write_bytes(data)
            read = attempt(load_config, path)
            assert isinstance(read, Config) or read.startswith(f"{path}: ")
