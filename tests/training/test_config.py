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
    QUICK_SAMPLES,
    QUICK_ZONE_AXES,
    AugmentationConfig,
    Config,
    TrainingConfig,
    configure,
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
        (SimulationConfig, "thickness_nm", (0.0, 10.0)),
        (SimulationConfig, "thickness_nm", ()),
        (SimulationConfig, "voltage", 5e3),
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
    other = named.for_structures("structures/Ni.cif")
    assert other.name == "ni"
    assert other.phases == (PhaseConfig("structures/Ni.cif", symmetry="point_group"),)
    assert other.phases[0].display_name == "Ni"
    assert other.simulation == recipe.simulation


def test_several_crystals_make_several_phases():
    both = configure(None, ["a/Ti.cif", "b/Two.cif#Ti beta"])
    assert both.name == "ti-ti_beta"
    assert [phase.display_name for phase in both.phases] == ["Ti", "Ti beta"]
    assert configure("cu-cu2o", ["Ni.cif", "NiO.cif"]).name == "ni-nio"
    for count in (1, 3):
        with pytest.raises(ValueError, match=rf"cu-cu2o: has 2 phases: give as many .* got {count}"):
            configure("cu-cu2o", [f"{index}.cif" for index in range(count)])
    with pytest.raises(ValueError, match=r"each phase needs a name of its own, got Ti, Ti"):
        configure(None, ["a/Ti.cif", "b/Ti.cif"])


def test_options_take_the_place_of_a_configurations_values():
    recipe = load_config("cu")
    changed = configure("cu", voltage="200", k_max=1.05, quick=True)
    assert changed.simulation.voltage == 200e3
    assert changed.simulation.k_max == 1.05
    share = 1.05 / recipe.simulation.k_max
    assert changed.augmentation.edge_range == pytest.approx(
        [share * edge for edge in recipe.augmentation.edge_range]
    )
    assert (changed.simulation.zone_axes, changed.training.samples) == (QUICK_ZONE_AXES, QUICK_SAMPLES)
    assert changed.simulation.thickness_nm == recipe.simulation.thickness_nm
    assert configure(recipe) == recipe


def small(text):
    return f'name = "a"\n[[phases]]\nstructure = "Cu"\n[simulation]\n{text}'


@pytest.mark.parametrize("voltage", ["200", "200.0", "200e3", "200_000", '"200 kV"', '"200000 V"'])
def test_a_voltage_is_in_kilovolts_or_volts(tmp_path, voltage):
    (tmp_path / "a.toml").write_text(small(f"voltage = {voltage}"))
    assert load_config(tmp_path / "a.toml").simulation.voltage == 200e3


@pytest.mark.parametrize("voltage", ['"200 V"', "5", "true"])
def test_no_voltage_of_a_microscope_is_refused(tmp_path, voltage):
    (tmp_path / "a.toml").write_text(small(f"voltage = {voltage}"))
    with pytest.raises(ValueError, match=r"a\.toml: \[simulation\]: voltage must be an accelerating voltage"):
        load_config(tmp_path / "a.toml")


def test_inverse_nanometres_are_refused():
    with pytest.raises(
        ValueError, match=r"k_max must be at most .* 2\.99 1/Angstrom, got 12: it is in 1/Angstrom"
    ):
        configure("cu", k_max=12.0)


def test_the_old_key_of_the_thickness_is_read_with_a_warning(tmp_path):
    (tmp_path / "a.toml").write_text(small("thickness_range = [2, 9]"))
    with pytest.warns(UserWarning, match=r"a\.toml: .*lattice constants; write thickness_nm, in nanometres"):
        old = load_config(tmp_path / "a.toml")
    assert old.simulation.thickness_limits(4.0) == (8.0, 36.0)
    # a checkpoint's card is read without one, written by this version or by one that knew no other key
    assert Config.from_dict(old.to_dict()) == old
    values = old.to_dict()
    del values["simulation"]["thickness_nm"]
    assert Config.from_dict(values) == old

    (tmp_path / "a.toml").write_text(small("thickness_nm = [2, 9]"))
    assert load_config(tmp_path / "a.toml").simulation.thickness_limits(4.0) == (20.0, 90.0)
    (tmp_path / "a.toml").write_text(small("thickness_range = [2, 9]\nthickness_nm = [2, 9]"))
    with pytest.raises(ValueError, match=r"give thickness_nm or the old thickness_range, not both"):
        load_config(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("name", "lattice_constants"),
    [
        ("cu", [3.615]),
        ("cu-cu2o", [3.615, 4.2696]),
        ("cu-reference", [3.615]),
        ("cu-reference-posterior", [3.615]),
    ],
)
def test_shipped_recipes_keep_the_thicknesses_of_the_shipped_models(name, lattice_constants):
    for a in lattice_constants:
        limits = load_config(name).simulation.thickness_limits(a)
        assert limits == pytest.approx((3.0 * a, 900.0 * a), rel=1e-12)


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
        (b"a." * 20_000 + b"b = 1", "a configuration has at most 32,768 bytes"),
        (
            b'name = "a"\n[[phases]]\nstructure = "' + b"x" * 5000 + b'"',
            r"\[\[phases\]\]: structure: .*too long",
        ),
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


@pytest.mark.filterwarnings("ignore:.*thickness_range is in lattice constants")
@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_configuration_is_refused_by_its_name_or_read(tmp_path, count):
    path = tmp_path / "my.toml"
    for recipe in shipped_recipes().values():
        for data in damages(recipe.read_bytes(), count // len(shipped_recipes())):
            path.write_bytes(data)
            read = attempt(load_config, path)
            assert isinstance(read, Config) or read.startswith(str(path))
