"""Scans of grains in detector pixels, uncalibrated: a wrong centre, an ellipse, noise, false peaks, a missing beam."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import diffracted_beams
from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import random_orientations
from microinfer.peaks import BraggPeaks, Scan

PIXEL_SIZE, RATIO, ANGLE = 0.02, 1.03, 0.5
"""1/Angstrom per pixel along the ellipse's semi-axis b, a over b, and the angle of a in radians."""
CENTRE = (2.2, -2.0)


def scan_in_pixels(
    phases: Sequence[CrystalPhase],
    seed: int,
    *,
    grains: int = 12,
    shape: tuple[int, int] = (12, 12),
    ratio: float = RATIO,
    drift: tuple[float, float] = (0.0, 0.0),
    jitter: float = 0.0,
    noise: float = 0.15,
    false: float = 0.5,
    beam: bool = True,
    camera: float = 70.0,
) -> tuple[BraggPeaks, NDArray[np.float64]]:
    """Peaks in pixels, the phases in turn, grain by grain; and the true direct beam, (Rx, Ry, 2).

    Noise, jitter of the direct beam, drift over the scan and the camera's radius are in pixels.
    """
    rng = np.random.default_rng(seed)
    along = np.array([np.cos(ANGLE), np.sin(ANGLE)])
    distortion = (np.eye(2) + (ratio - 1) * np.outer(along, along)) / PIXEL_SIZE
    cores = []
    for n, matrix in enumerate(random_orientations(grains, rng)):
        beams = diffracted_beams(phases[n % len(phases)], matrix, 200e3)
        bright = beams.intensity > 2e-3 * beams.intensity.max(initial=0.0)
        cores.append(np.column_stack([beams.q @ distortion, beams.intensity])[bright])
    rows, columns = np.indices(shape) / np.reshape(shape, (2, 1, 1)) - 0.5
    centre = np.stack([rows * drift[0], columns * drift[1]], axis=-1) + CENTRE
    centre += jitter * rng.standard_normal(centre.shape)
    patterns = []
    for n, middle in enumerate(centre.reshape(-1, 2)):
        core = cores[n * grains // (shape[0] * shape[1])]
        level = core[:, 2].max(initial=1.0)
        direct = np.array([[0.0, 0.0, 10 * level]])[: int(beam)]
        radius, angle = camera * np.sqrt(rng.random(count := rng.poisson(false))), rng.uniform(0, 6.3, count)
        noisy = np.concatenate(
            [
                direct,
                core,
                np.column_stack(
                    [radius * np.cos(angle), radius * np.sin(angle), np.full(count, 0.05 * level)]
                ),
            ]
        )
        noisy[:, :2] += noise * rng.standard_normal((len(noisy), 2))
        noisy = noisy[np.hypot(noisy[:, 0], noisy[:, 1]) < camera]
        noisy[:, :2] += middle
        patterns.append(noisy)
    return BraggPeaks.from_patterns(patterns, Scan(shape, 2.0, "nm")), centre
