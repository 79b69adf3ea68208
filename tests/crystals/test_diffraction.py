import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from helpers.example_phases import PHASES
from helpers.optional import import_py4dstem
from microinfer.crystals.diffraction import (
    diffracted_beams,
    electron_wavelength,
    excitation_errors,
    nearest_zone_axis,
)
from microinfer.crystals.phase import CrystalPhase


@pytest.fixture(scope="module")
def py4dstem_crystal():
    py4dstem = import_py4dstem()
    crystal = py4dstem.process.diffraction.Crystal(
        np.array([[0, 0, 0], [0.3, 0.1, 0.6]]), np.array([3, 25]), np.array([4.93, 8.53, 5.03, 90, 109.2, 90])
    )
    crystal.setup_diffraction(300e3)
    crystal.calculate_structure_factors(1.4)
    reflections = np.column_stack([crystal.hkl.T, np.sqrt(crystal.struct_factors_int)])
    phase = CrystalPhase("test", tuple(crystal.cell), "", "2/m", np.eye(3)[None], reflections)
    return crystal, phase


@pytest.mark.parametrize("seed", range(5))
def test_py4dstem_draws_the_same_pattern(py4dstem_crystal, seed):
    crystal, phase = py4dstem_crystal
    matrix = Rotation.random(random_state=seed).as_matrix()
    theirs = crystal.generate_diffraction_pattern(
        orientation_matrix=matrix, sigma_excitation_error=0.02, tol_intensity=0.0, k_max=1.3
    ).data
    ours = diffracted_beams(phase, matrix, 300e3, k_max=1.3, excitation_sigma=0.02)
    assert len(theirs) == len(ours.hkl) > 20
    np.testing.assert_array_equal(ours.hkl, np.column_stack([theirs[name] for name in "hkl"]))
    np.testing.assert_allclose(ours.q, np.column_stack([theirs["qx"], theirs["qy"]]), atol=1e-10)
    np.testing.assert_allclose(ours.intensity, theirs["intensity"], rtol=1e-4)
    g_lab = ours.hkl @ phase.reciprocal @ matrix
    np.testing.assert_allclose(ours.excitation_error, crystal.excitation_errors(g_lab.T), atol=1e-7)


@pytest.mark.parametrize(
    ("voltage", "wavelength"), [(80e3, 0.0417572), (200e3, 0.0250793), (300e3, 0.0196875)]
)
def test_wavelength(voltage, wavelength):
    assert electron_wavelength(voltage) == pytest.approx(wavelength, rel=1e-5)
    for nonsense in (0.0, -voltage, np.nan):
        with pytest.raises(ValueError, match="voltage must be positive"):
            electron_wavelength(nonsense)


@given(gx=st.floats(-2, 2), gy=st.floats(-2, 2), wavelength=st.floats(0.01, 0.05))
def test_reflections_on_the_ewald_sphere_have_no_excitation_error(gx, gy, wavelength):
    radius = 1 / wavelength
    # the sphere around (0, 0, 1/wavelength) passes through 0
    gz = radius - np.sqrt(radius**2 - gx**2 - gy**2)
    assert abs(excitation_errors(np.array([gx, gy, gz]), wavelength)) < 1e-9
    assert excitation_errors(np.array([gx, gy, gz + 0.01]), wavelength) == pytest.approx(0.01, rel=0.01)


@given(seed=st.integers(0, 2**16), phi=st.floats(-np.pi, np.pi))
@settings(max_examples=30)
def test_in_plane_rotation_turns_the_pattern(seed, phi):
    matrix = Rotation.random(random_state=seed).as_matrix()
    rotation = Rotation.from_euler("z", phi).as_matrix()
    still = diffracted_beams(PHASES["quartz"], matrix, 300e3)
    turned = diffracted_beams(PHASES["quartz"], matrix @ rotation.T, 300e3)
    np.testing.assert_array_equal(still.hkl, turned.hkl)
    np.testing.assert_allclose(still.q @ rotation[:2, :2].T, turned.q, atol=1e-9)


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("uvw", [(0, 0, 1), (1, 1, 2), (-2, 1, 3)])
def test_zone_axis_is_found(name, uvw):
    phase = PHASES[name]
    beam = np.array(uvw) @ phase.basis
    align, _ = Rotation.align_vectors(beam[None] / np.linalg.norm(beam), [[0, 0, 1]])
    axis = nearest_zone_axis(phase, align.as_matrix(), tolerance=0.1)
    assert axis.uvw == uvw
    assert axis.deviation < 1e-5
    tilted = Rotation.from_rotvec(np.deg2rad(1.5) * align.as_matrix()[:, 0]) * align
    assert nearest_zone_axis(phase, tilted.as_matrix()).deviation <= 2.0
