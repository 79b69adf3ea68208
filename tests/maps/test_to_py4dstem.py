"""Exports that py4DSTEM's own functions take, measured by these functions."""

import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from helpers.example_maps import angles_between, assert_same_disks, random_map
from helpers.example_phases import PHASES, make_phase, turn
from helpers.optional import import_py4dstem
from microinfer.crystals.symmetry import misorientation, zone_axis_frames
from microinfer.maps.orientation_map import OrientationMap

Crystal = import_py4dstem().process.diffraction.Crystal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # py4DSTEM's own

TRIANGLES = {"Cu": [[0, 1, 1], [1, 1, 1]], "Ti": [[1, 0, 0], [np.sqrt(3) / 2, 0.5, 0]]}


def make_crystal(positions, number, cell, zone_axis_range):
    crystal = Crystal(np.array(positions, float), np.array(number), cell)
    crystal.setup_diffraction(300e3)
    crystal.calculate_structure_factors(1.6)
    crystal.orientation_plan(np.array(zone_axis_range), accel_voltage=300e3, progress_bar=False)
    return crystal


@pytest.fixture(scope="module")
def py4dstem_copper():
    return make_crystal(
        [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], 29, 3.61, [[0, 1, 1], [1, 1, 1]]
    )


def py4dstem_disks(crystal, matrix):
    pattern = crystal.generate_diffraction_pattern(
        orientation_matrix=matrix, sigma_excitation_error=0.05, k_max=1.6
    )
    rows = np.column_stack([pattern.data[name] for name in ("h", "k", "l", "qx", "qy", "intensity")])
    return rows[np.lexsort(rows[:, :3].T)]


def test_py4dstem_exports_to_orix_as_py4dstem_compat_does(py4dstem_copper, monkeypatch):
    # py4DSTEM asks pymatgen, which it does not install, for the name of the point group alone
    analyzer = SimpleNamespace(get_point_group_symbol=lambda: "m-3m")
    modules = {
        "pymatgen.symmetry.analyzer": SimpleNamespace(SpacegroupAnalyzer=lambda structure: analyzer),
        "pymatgen.core.structure": SimpleNamespace(Structure=lambda *args, **kwargs: None),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    omap = random_map("Cu", shape=(4, 3), seed=13)
    expected = py4dstem_copper.orientation_map_to_orix_CrystalMap(
        omap.to_py4dstem(py4dstem_copper), pixel_size=0.5, pixel_units="nm"
    )
    xmap = omap.to_orix(py4dstem_compat=True)
    valid, operators = xmap.is_indexed, PHASES["Cu"].operators
    theirs = expected.rotations.to_matrix()[valid]
    assert misorientation(xmap.rotations[:, 0].to_matrix()[valid], theirs, operators).max() < 1e-4
    assert misorientation(omap.to_orix().rotations[:, 0].to_matrix()[valid], theirs, operators).min() > 1e-2
    np.testing.assert_array_equal(xmap.x, expected.x)
    np.testing.assert_array_equal(xmap.y, expected.y)
    np.testing.assert_allclose(xmap.prop["confidence"], expected.prop["iq"])
    assert xmap.phases["Cu"].point_group == expected.phases[0].point_group


@pytest.fixture(scope="module")
def crystals(py4dstem_copper):
    """Copper and titanium, with the symmetry that py4DSTEM asks pymatgen for, which it does not install."""
    titanium = make_crystal(
        [[1 / 3, 2 / 3, 1 / 4], [2 / 3, 1 / 3, 3 / 4]], 22, (2.95, 2.95, 4.68, 90, 90, 120), TRIANGLES["Ti"]
    )
    crystals = {"Cu": py4dstem_copper, "Ti": titanium}
    for name, crystal in crystals.items():
        proper = PHASES[name].operators
        crystal.symmetry_operators = np.concatenate([proper, -proper])
        crystal.symmetry_reduction = np.swapaxes(
            np.linalg.inv(crystal.orientation_zone_axis_range).T @ crystal.symmetry_operators, 1, 2
        )
    return crystals


def from_angles(angles, mirror):
    """The matrix that py4DSTEM's angles and mirror stand for."""
    azimuth, elevation, rest = angles
    matrix = Rotation.from_euler("ZXZ", [rest, elevation, azimuth]).inv().as_matrix()
    return matrix * [1, -1, -1] if mirror else matrix


@pytest.mark.parametrize("name", ["Cu", "Ti"])
def test_matches_are_what_template_matching_gives(crystals, name):
    crystal, omap = crystals[name], random_map(name, shape=(6, 6), seed=2, invalid=0.0)
    result = omap.to_py4dstem(crystal)
    ours = [result.get_orientation(*position) for position in np.ndindex(6, 6)]
    matches = []
    for position in np.ndindex(6, 6):
        pattern = crystal.generate_diffraction_pattern(
            orientation_matrix=omap.matrix[position].astype(float), sigma_excitation_error=0.02
        )
        matches.append(crystal.match_single_pattern(pattern))
    for orientation in (*ours, *matches):
        expected = from_angles(orientation.angles[0], orientation.mirror[0])
        np.testing.assert_allclose(orientation.matrix[0], expected, atol=1e-6)

    our_matrix, their_matrix = (np.array([one.matrix[0] for one in many]) for many in (ours, matches))
    our_mirror, their_mirror = (np.array([one.mirror[0] for one in many]) for many in (ours, matches))
    right = np.rad2deg(misorientation(their_matrix, our_matrix, PHASES[name].operators)) < 3.0
    assert right.mean() > 0.6  # template matching has two answers for some patterns
    # not only equivalent: the same matrix, mirrored or not, but for zone axes on the triangle's edge
    zone_axis = np.array([one.family[0, :, 2] for one in ours])
    inside = right & ((zone_axis @ np.linalg.inv(crystal.orientation_zone_axis_range)).min(axis=1) > 0.05)
    assert angles_between(their_matrix[inside], our_matrix[inside]).max() < 3.0
    np.testing.assert_array_equal(their_mirror[inside], our_mirror[inside])
    assert 0 < our_mirror[inside].sum() < inside.sum()


@pytest.mark.parametrize("name", ["Cu", "Ti"])
def test_family_is_py4dstems_symmetry_reduction(crystals, name):
    crystal = crystals[name]
    result = random_map(name, seed=5).to_py4dstem(crystal)
    for rx, ry, match in np.argwhere(result.corr > 0):
        orientation = result.get_orientation(rx, ry)
        family = orientation.family[match].copy()
        crystal.symmetry_reduce_directions(orientation, match_ind=match)
        np.testing.assert_allclose(orientation.family[match], family, atol=1e-9)


def test_every_match_draws_the_pattern_of_our_answer(crystals):
    omap = random_map("Cu", "Ti", seed=6)
    number = 0
    for phase, name in enumerate(("Cu", "Ti")):
        crystal, result = crystals[name], omap.to_py4dstem(crystals[name], phase)
        for rx, ry, match in np.argwhere(result.corr > 0):
            ours = omap.candidates.matrix[rx, ry, match]
            drawn = crystal.generate_diffraction_pattern(
                result.get_orientation(rx, ry), match, sigma_excitation_error=0.05, k_max=1.6
            )
            drawn = np.column_stack([drawn.data[field] for field in ("qx", "qy", "intensity")])
            assert_same_disks(py4dstem_disks(crystal, ours.astype(float))[:, 3:], drawn, 1e-5)
            number += 1
    assert number == (omap.candidates.phase >= 0).sum()


def test_probabilities_and_missing_matches(crystals):
    omap = random_map("Cu", "Ti", seed=7)
    result = omap.to_py4dstem(crystals["Ti"], phase=1)
    assert (result.num_x, result.num_y, result.num_matches) == omap.candidates.phase.shape
    titanium = omap.candidates.phase == 1
    np.testing.assert_array_equal(result.corr, np.where(titanium, omap.candidates.probability, 0.0))
    assert 0 < titanium[..., 0].sum() < omap.valid.sum() < omap.valid.size
    for values in (result.matrix[~titanium], result.family[~titanium]):
        np.testing.assert_array_equal(values, np.broadcast_to(np.eye(3), values.shape))


def test_py4dstem_plots_zone_axes_in_their_colours(crystals, monkeypatch):
    zone_axes = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 2, 3]]) / np.sqrt([[1], [2], [3], [14]])
    frames = (
        zone_axis_frames(zone_axes)
        @ Rotation.from_euler("z", [[10], [100], [200], [300]], degrees=True).as_matrix()
    )
    operators = PHASES["Cu"].operators
    matrix = (operators[[3, 8, 13, 20]] @ frames)[None]
    omap = OrientationMap(
        matrix, np.array([[True, True, True, False]]), np.zeros((1, 4), int), np.ones((1, 4)), (PHASES["Cu"],)
    )
    monkeypatch.setattr(crystals["Cu"], "pymatgen_available", True)
    images = crystals["Cu"].plot_orientation_maps(
        omap.to_py4dstem(crystals["Cu"]), corr_range=[0, 1], corr_normalize=False, show_legend=False
    )
    plt.close("all")
    along_beam = images[0, :, :, 1]
    np.testing.assert_allclose(along_beam, [[1, 0, 0], [0, 0.7, 0], [0, 0.3, 1], [0, 0, 0]], atol=1e-5)


def test_what_does_not_fit_is_named(crystals):
    omap = random_map("Cu", "Ti")
    with pytest.raises(ValueError, match=r"phase must lie in \[0, 2\), got 2"):
        omap.to_py4dstem(crystals["Cu"], phase=2)
    with pytest.raises(ValueError, match=r"axes of phase 'Ti', \[\[2.95, .* Angstrom, got \[\[3.61, "):
        omap.to_py4dstem(crystals["Cu"], phase=1)
    longer = Crystal(np.zeros((1, 3)), np.array([22]), (1.055 * 2.95, 1.055 * 2.95, 4.68, 90, 90, 120))
    with pytest.raises(ValueError, match="axes of phase 'Ti'"):
        omap.to_py4dstem(longer, phase=1)
    perovskite = make_phase(
        "GdFeO3", (5.35, 5.61, 7.67, 90, 90, 90), "Pbnm", "mmm", turn([1, 0, 0], 2), turn([0, 1, 0], 2)
    )
    other = random_map("Cu").replace(phases=(perovskite,))
    swapped = Crystal(np.zeros((1, 3)), np.array([26]), (5.61, 5.35, 7.67, 90, 90, 90))
    with pytest.raises(ValueError, match="axes of phase 'GdFeO3'"):  # 5 % off; in another order 0 %
        other.to_py4dstem(swapped)
    with pytest.raises(ValueError, match="must have an orientation plan: call"):
        omap.to_py4dstem(Crystal(np.zeros((1, 3)), np.array([29]), 3.61))
