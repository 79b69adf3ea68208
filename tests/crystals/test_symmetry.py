"""Symmetry operators, zone-axis grids, structures and configurations."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import microinfer
from helpers.cif import write_cif
from helpers.example_phases import PHASES
from helpers.optional import needs_py4dstem
from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import (
    fibonacci_sphere,
    in_fundamental_cell,
    misorientation,
    proper_operators,
    random_orientations,
    zone_axis_frames,
    zone_axis_grid,
)
from microinfer.training.config import Config, default_config, load_config

# order of the Laue class's proper group, atoms in the cell
CRYSTALS = {"LiCoO2": (6, 12), "disordered": (2, 10), "GaAs": (24, 8)}


CUBIC = PHASES["Cu"].operators


def as_set(operators: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(np.round(operator.ravel(), 5) + 0.0) for operator in operators}


REAL = Path(os.environ.get("MICROINFER_REAL_DATA", Path(__file__).parents[3] / "shared" / "real"))


def is_group(operators: np.ndarray) -> bool:
    products = np.einsum("aij,bjk->abik", operators, operators).reshape(-1, 1, 3, 3)
    return bool(np.isclose(products, operators, atol=1e-6).all((2, 3)).any(1).all())


@pytest.mark.parametrize("name", ["Cu", "Cu2O"])
def test_operators_of_a_cubic_crystal_are_those_of_432(name):
    operators = load_structure(name).operators()
    assert len(operators) == 24
    assert as_set(operators) == as_set(CUBIC)
    np.testing.assert_array_equal(operators[0], np.eye(3))


@needs_py4dstem
@pytest.mark.parametrize("name", CRYSTALS)
def test_operators_keep_lattice_and_structure_factors(name, tmp_path):
    structure = load_structure(write_cif(tmp_path, name))
    order, atoms = CRYSTALS[name]
    assert len(structure.numbers) == atoms
    phase = structure.phase(1.3)
    assert len(phase.operators) == order
    assert is_group(phase.operators)
    amplitude = {tuple(hkl): f for *hkl, f in phase.reflections.tolist()}
    assert len(amplitude) > 30
    g = phase.reflections[:, :3] @ phase.reciprocal
    for operator in phase.operators:
        image = g @ operator.T @ phase.basis.T
        np.testing.assert_allclose(image, np.round(image), atol=1e-5)
        mapped = [amplitude[tuple(hkl)] for hkl in (np.round(image) + 0.0).tolist()]
        np.testing.assert_allclose(mapped, phase.reflections[:, 3], rtol=1e-4, atol=1e-6)


def test_unique_axes_lie_where_the_cartesian_frame_puts_them(tmp_path):
    two_fold = load_structure(write_cif(tmp_path, "disordered")).operators()[1]
    np.testing.assert_allclose(two_fold, np.diag([-1.0, 1.0, -1.0]), atol=1e-6)
    trigonal = load_structure(write_cif(tmp_path, "LiCoO2")).operators()
    three_fold = Rotation.from_euler("z", 120, degrees=True).as_matrix()
    assert np.isclose(trigonal, three_fold, atol=1e-6).all((1, 2)).any()
    # of the two-fold axes of 321 one lies along a, none along b* as 312 would have it
    assert np.isclose(trigonal, np.diag([1.0, -1.0, -1.0]), atol=1e-6).all((1, 2)).any()


def test_symmetry_of_the_point_group_alone(tmp_path):
    structure = load_structure(write_cif(tmp_path, "GaAs"))
    assert structure.point_group == "-43m"
    laue, crystal = structure.operators("laue"), structure.operators("point_group")
    assert (len(laue), len(crystal)) == (24, 12)
    assert as_set(crystal) < as_set(laue)
    assert is_group(crystal)
    with pytest.raises(ValueError, match="laue"):
        structure.operators("cubic")


def test_operations_foreign_to_the_lattice_are_refused():
    swap = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
    with pytest.raises(ValueError, match="disagree"):
        proper_operators([swap], np.diag([3.0, 4.0, 5.0]))


GROUPS = {name: PHASES[name].operators for name in ("Cu", "Li2MnO3", "quartz", "triclinic")}


@pytest.mark.parametrize("group", GROUPS)
@given(seed=st.integers(0, 2**32 - 1))
def test_images_of_the_fundamental_cell_fill_the_sphere_once(group, seed):
    operators = GROUPS[group]
    direction = random_orientations(1, np.random.default_rng(seed))[0, :, 2]
    images = operators @ direction
    assert in_fundamental_cell(images, operators).sum() == 1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("spacing", [3.0, 6.0])
def test_zone_axis_grid_has_the_spacing(group, spacing):
    operators = GROUPS[group]
    grid = zone_axis_grid(operators, spacing)
    np.testing.assert_allclose(np.linalg.norm(grid, axis=1), 1.0)
    cell = np.deg2rad(spacing) ** 2 * np.sqrt(3) / 2
    assert len(grid) * len(operators) == pytest.approx(4 * np.pi / cell, rel=0.1)
    # every direction has a grid point near it, modulo symmetry
    probes = fibonacci_sphere(499)
    cosine = np.einsum("gij,kj,ni->ngk", operators, grid, probes).max((1, 2))
    distance = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    assert distance.max() < spacing
    assert distance.mean() > 0.2 * spacing


def test_grid_and_frames():
    assert 550 < len(zone_axis_grid(CUBIC, 1.8)) < 650
    axes = fibonacci_sphere(100)
    frames = zone_axis_frames(axes)
    np.testing.assert_allclose(frames[:, :, 2], axes)
    np.testing.assert_allclose(
        frames @ frames.transpose(0, 2, 1), np.tile(np.eye(3), (100, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(frames), 1.0)
    with pytest.raises(ValueError, match="spacing"):
        zone_axis_grid(CUBIC, 0.0)


@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(0.1, 44.0))
def test_misorientation_does_not_see_operators_on_the_left(seed, angle):
    rng = np.random.default_rng(seed)
    first = random_orientations(24, rng)
    axis = random_orientations(1, rng)[0, 0]
    second = Rotation.from_rotvec(np.radians(angle) * axis).as_matrix() @ first
    plain = misorientation(first, second, CUBIC)
    assert np.all(plain <= np.radians(angle) + 1e-9)
    np.testing.assert_allclose(misorientation(CUBIC @ first, second, CUBIC), plain, atol=1e-6)
    np.testing.assert_allclose(misorientation(first, CUBIC @ second, CUBIC), plain, atol=1e-6)
    # on the right it is another orientation
    turned = first @ Rotation.from_euler("z", 20, degrees=True).as_matrix()
    assert np.allclose(misorientation(first, turned, CUBIC[:1]), np.radians(20))


@needs_py4dstem
@pytest.mark.parametrize(("name", "atoms"), [("Cu", [29] * 4), ("Cu2O", [29] * 4 + [8] * 2)])
def test_built_in_structures(name, atoms):
    structure = load_structure(name)
    assert structure.numbers.tolist() == atoms
    assert len(np.unique(np.round(structure.positions, 5), axis=0)) == len(atoms)
    phase = structure.phase(1.0)
    assert phase.point_group == "m-3m"
    copy = CrystalPhase.from_dict(json.loads(json.dumps(phase.to_dict())))
    np.testing.assert_array_equal(copy.reflections, phase.reflections)
    np.testing.assert_array_equal(copy.operators, phase.operators)
    assert (copy.name, copy.lattice, copy.space_group) == (phase.name, phase.lattice, phase.space_group)


def test_cif_gives_occupancy_symbol_and_centring(tmp_path):
    structure = load_structure(write_cif(tmp_path, "disordered"))
    assert sorted(structure.occupancy.tolist()) == [0.5] * 2 + [1.0] * 8
    assert structure.space_group.replace(" ", "").startswith("C")
    assert structure.point_group == "2/m"
    np.testing.assert_allclose(structure.centring, [[0, 0, 0], [0.5, 0.5, 0]])
    assert load_structure(write_cif(tmp_path, "LiCoO2")).space_group == "R-3m"


def test_bad_structures_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nickel.*Cu, Cu2O"):
        load_structure("nickel")
    path = write_cif(tmp_path, "disordered")
    path.write_text(path.read_text().replace("0 0.5 0 0.5", "0 0.5 0 1.5"))
    with pytest.raises(ValueError, match=r"disordered\.cif.*occupancies"):
        load_structure(path)
    foreign = tmp_path / "notes.cif"
    foreign.write_text("These are notes, not a crystal.\n")
    with pytest.raises(ValueError, match=r"notes\.cif"):
        load_structure(foreign)


@needs_py4dstem
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data's CIF files")
@pytest.mark.parametrize(("name", "order"), [("LCO", 6), ("Li2MnO3", 2), ("LiMn2O4", 24)])
def test_published_cif_files(name, order):
    operators = load_structure(REAL / f"{name}.cif").phase(1.0).operators
    assert is_group(operators)
    assert len(operators) == order


RECIPE = {"name": "test", "phases": [{"structure": "Cu"}]}


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({"colour": 1}, "colour"),
        ({"model": {"widht": 3}}, "widht"),
        ({"model": {"width": "wide"}}, "width"),
        ({"model": {"width": 100}}, "width"),
        ({"model": {"kind": "oracle"}}, "kind"),
        ({"simulation": {"voltage": True}}, "voltage"),
        ({"simulation": {"method": "abinitio"}}, "method"),
        ({"training": 3}, "training"),
        ({"phases": []}, "phases"),
        ({"phases": [{"name": "Cu"}]}, "structure"),
    ],
)
def test_wrong_entries_of_a_configuration_are_named(change, entry):
    with pytest.raises(ValueError, match=entry):
        Config.from_dict(RECIPE | change)


@pytest.mark.parametrize("missing", RECIPE)
def test_missing_entries_of_a_configuration_are_named(missing):
    with pytest.raises(ValueError, match=missing):
        Config.from_dict({key: value for key, value in RECIPE.items() if key != missing})


def test_configuration_round_trip():
    config = Config.from_dict(RECIPE | {"simulation": {"voltage": 200_000, "thickness_range": [2.0, 9.0]}})
    assert config.simulation.voltage == 200e3
    assert isinstance(config.simulation.voltage, float)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert default_config("a/Cu2O.cif").name == "cu2o"


def test_recipe_and_files_beside_a_configuration(tmp_path):
    config = load_config(Path(microinfer.__file__).parent / "recipes" / "cu.toml")
    assert config.name == "cu"
    assert [phase.structure for phase in config.phases] == ["Cu"]
    cif = write_cif(tmp_path, "LiCoO2")
    toml = tmp_path / "own.toml"
    toml.write_text('name = "own"\n[[phases]]\nstructure = "LiCoO2.cif"\n')
    own = load_config(toml)
    assert own.phases[0].structure == str(cif)
    assert dataclasses.replace(own, phases=config.phases).model == config.model
    toml.write_text("name = [")
    with pytest.raises(ValueError, match=r"own\.toml: not a TOML file"):
        load_config(toml)
