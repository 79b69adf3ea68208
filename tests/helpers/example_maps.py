"""Orientation maps of the example phases, and what tests of their exports compare."""

import numpy as np
from scipy.spatial.transform import Rotation

from helpers.example_phases import PHASES
from microinfer.maps.orientation_map import ALTERNATIVES, OrientationMap


def random_map(*names, shape=(5, 4), seed=0, invalid=0.3, **kwargs):
    rng = np.random.default_rng(seed)
    ranks = (*shape, 1 + ALTERNATIVES)
    matrix = Rotation.random(np.prod(ranks), random_state=seed).as_matrix().reshape(*ranks, 3, 3)
    probability = np.sort(rng.random(ranks))[..., ::-1].round(5)
    return OrientationMap(
        matrix=matrix[:, :, 0].astype(np.float32),
        valid=rng.random(shape) >= invalid,
        phase=rng.integers(0, len(names), shape),
        confidence=probability[..., 0],
        score=rng.random(shape),
        alternative_matrix=matrix[:, :, 1:].astype(np.float32),
        alternative_phase=rng.integers(-1, len(names), (*shape, ALTERNATIVES)),
        alternative_probability=probability[..., 1:],
        phases=tuple(PHASES[name] for name in names),
        **{"scan_step": 0.5, "scan_units": "nm", "model_card": {"voltage": 300e3}} | kwargs,
    )


def disks(hkl, amplitude, reciprocal, matrix):
    """Kinematic disks (qx, qy, intensity) of an orientation, weak ones too, sorted by position."""
    g = hkl @ reciprocal @ matrix
    intensity = amplitude**2 * np.exp(-((g[:, 2] / 0.05) ** 2))
    shown = np.column_stack([g[:, :2], intensity])[intensity > 1e-2]
    return shown[np.lexsort(np.round(shown, 3).T)]


def assert_same_disks(one, other, tolerance):
    """Every disk of either pattern has a partner in the other; the faintest may lack one."""
    assert len(one) > 5
    for first, second in ((one, other), (other, one)):
        strong = first[first[:, 2] > 2e-2]
        distance = np.abs(strong[:, None, :2] - second[None, :, :2]).max(axis=2)
        partner = distance + np.abs(strong[:, None, 2] - second[None, :, 2]) / strong[:, None, 2] * 1e-3
        nearest = partner.argmin(axis=1)
        assert distance[np.arange(len(strong)), nearest].max() < tolerance
        np.testing.assert_allclose(strong[:, 2], second[nearest, 2], rtol=500 * tolerance)


def our_disks(phase, matrix):
    return disks(
        phase.reflections[:, :3], phase.reflections[:, 3], phase.reciprocal, np.asarray(matrix, float)
    )


def angles_between(one, other):
    return np.rad2deg(Rotation.from_matrix(one @ np.swapaxes(other, -1, -2)).magnitude())
