import json

import numpy as np
import pytest

import microinfer as mi
from helpers.example_phases import PHASES
from microinfer.crystals.diffraction import four_index_direction
from microinfer.crystals.phase import CellAtoms, CrystalPhase
from microinfer.crystals.structure import load_structure


def test_atoms_survive_json_and_older_files_have_none():
    copper = PHASES["Cu"]
    assert CrystalPhase.from_dict(json.loads(json.dumps(copper.to_dict()))).atoms is None
    atoms = CellAtoms.of([29, 8], [[0, 0, 0], [0.5, 0.25, 0.125]], [1, 0.5])
    values = CrystalPhase(**vars(copper) | {"atoms": atoms}).to_dict()
    assert values.keys() - copper.to_dict().keys() == {"atoms"}
    back = CrystalPhase.from_dict(json.loads(json.dumps(values))).atoms
    for one, other in zip(back, atoms, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="as many numbers as positions and occupancies, got 2, 1 and 2"):
        CellAtoms.of([29, 8], [[0, 0, 0]], [1, 1])


@pytest.mark.parametrize("name", ["cu", "cu-cu2o"])
def test_shipped_models_know_the_atoms_of_their_phases(name):
    for phase in mi.load_model(name).phases:
        structure = load_structure(phase.name)
        np.testing.assert_array_equal(phase.atoms.numbers, structure.numbers)
        np.testing.assert_allclose(phase.atoms.positions, structure.positions)
        np.testing.assert_array_equal(phase.atoms.occupancy, structure.occupancy)


def test_a_phase_says_what_it_is():
    phase = mi.load_model("cu-cu2o").phases[1]
    assert repr(phase) == (
        "CrystalPhase('Cu2O': Pn-3m (m-3m), 4.2696 4.2696 4.2696 Å, 90 90 90°, Cu4 O2 in the cell, "
        "1864 reflections to 2.09 1/Å)"
    )


@pytest.mark.parametrize(
    ("name", "hexagonal"),
    [("Ti", True), ("quartz", True), ("calcite", False), ("Cu", False), ("Cu primitive", False)],
)
def test_hexagonal_axes(name, hexagonal):
    assert PHASES[name].hexagonal_axes == hexagonal


@pytest.mark.parametrize(
    ("uvw", "expected"),
    [
        ((0, 0, 1), (0, 0, 0, 1)),
        ((1, 0, 0), (2, -1, -1, 0)),
        ((1, 1, 0), (1, 1, -2, 0)),
        ((2, 1, 0), (1, 0, -1, 0)),
        ((1, 0, 1), (2, -1, -1, 3)),
        ((0, -1, 2), (1, -2, 1, 6)),
    ],
)
def test_directions_with_four_indices(uvw, expected):
    found = four_index_direction(*uvw)
    assert found == expected
    a, b, c = PHASES["Ti"].basis
    u, v, t, w = found
    same = np.cross(u * a + v * b + t * (-a - b) + w * c, np.array(uvw) @ [a, b, c])
    np.testing.assert_allclose(same, 0.0, atol=1e-9)
