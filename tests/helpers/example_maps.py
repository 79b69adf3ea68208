"""Orientation maps of the example phases, and what tests of their exports compare."""

import numpy as np
from scipy.spatial.transform import Rotation

from helpers.example_phases import PHASES
from microinfer.maps.orientation_map import OrientationMap
from microinfer.peaks import Scan


def random_map(*names, shape=(5, 4), seed=0, invalid=0.3, candidates=3, **kwargs):
    """A map of random answers, with gaps among positions and candidates."""
    rng = np.random.default_rng(seed)
    ranks = (*shape, candidates)
    phase = rng.integers(-1, len(names), ranks)
    phase[..., 0] = rng.integers(0, len(names), shape)
    return OrientationMap(
        Rotation.random(np.prod(ranks), random_state=seed).as_matrix().reshape(*ranks, 3, 3),
        rng.random(shape) >= invalid,
        phase,
        np.sort(rng.random(ranks))[..., ::-1].round(5),
        tuple(PHASES[name] for name in names),
        score=rng.random(ranks),
        **{"scan": Scan(shape, 0.5, "nm"), "model_card": {"voltage": 300e3}} | kwargs,
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
