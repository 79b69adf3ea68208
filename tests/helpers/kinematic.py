"""Scans of a few grains of one crystal, by kinematic diffraction: no py4DSTEM is needed."""

import numpy as np

from microinfer.crystals.diffraction import diffracted_beams
from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import random_orientations
from microinfer.peaks import BraggPeaks, Scan


def kinematic_scan(
    phase: CrystalPhase,
    seed: int,
    *,
    grains: int = 8,
    shape: tuple[int, int] = (8, 8),
    scale: float = 1.0,
    camera: float = 1.4,
    noise: float = 0.004,
    voltage: float | None = None,
) -> BraggPeaks:
    """Disks to a camera's edge, in 1/Angstrom, with noise, an ellipse of 1 % and false disks; a corner is vacuum."""
    rng = np.random.default_rng(seed)
    cores = []
    for matrix in random_orientations(grains, rng):
        beams = diffracted_beams(phase, matrix, 200e3)
        bright = beams.intensity > 2e-3 * beams.intensity.max(initial=0.0)
        cores.append(np.column_stack([beams.q, beams.intensity])[bright])
    patterns = []
    for n in range(shape[0] * shape[1]):
        pattern = cores[n * grains // (shape[0] * shape[1])].copy() if n >= 4 else np.zeros((0, 3))
        pattern[:, :2] = pattern[:, :2] * [1.005, 0.995] + noise * rng.standard_normal((len(pattern), 2))
        false = rng.poisson(0.5)
        radius, angle = camera * np.sqrt(rng.random(false)), rng.uniform(0, 2 * np.pi, false)
        level = 0.05 * pattern[:, 2].max(initial=1.0)
        disks = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.full(false, level)])
        pattern = np.concatenate([[[0.0, 0.0, 20 * level]], pattern, disks])
        pattern = pattern[np.hypot(pattern[:, 0], pattern[:, 1]) < camera]
        patterns.append(pattern * [scale, scale, 1.0])
    return BraggPeaks.from_patterns(patterns, Scan(shape, 2.0, "nm", voltage=voltage))
