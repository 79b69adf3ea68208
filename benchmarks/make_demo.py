"""Make the bundled demo scan: a small Cu polycrystal on vacuum, written by py4DSTEM, and its truth.

    python benchmarks/make_demo.py python/microinfer/data/demo

Grains are Voronoi cells in a disk-shaped particle, each of its own random orientation and thickness (a thickness step
every few positions); positions at grain boundaries hold the disks of both grains; vacuum holds the direct beam and a
few false disks. Position jitter 0.008 1/Angstrom, intensity noise, lost weak disks, false disks. The seed is never
drawn in training.
"""

import sys
from pathlib import Path

import numpy as np
import py4DSTEM

from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import random_orientations
from microinfer.simulation import PatternSimulator
from microinfer.simulation.settings import SimulationConfig
from microinfer.simulation.testset import add_noise

SEED = 4_711_000_001
SHAPE = (48, 48)
GRAINS = 14
PIXEL = 0.0328  # 1/Angstrom, on a detector of 128 x 128 pixels
CENTRE = 64.0


def main(folder: Path) -> None:
    rng = np.random.default_rng(SEED)
    config = SimulationConfig()
    structure = load_structure("Cu")
    simulator = PatternSimulator(structure, config)
    orientation = random_orientations(GRAINS, rng)
    thickness = structure.lattice[0] * rng.uniform(20.0, 250.0, (GRAINS, 4))
    patterns = [simulator.patterns(m, t) for m, t in zip(orientation, thickness, strict=True)]

    rows, columns = np.indices(SHAPE)
    particle = np.hypot(rows - 23.5, columns - 23.5) < 22.5
    seeds = 23.5 + 19.0 * np.sqrt(rng.random(GRAINS))[:, None] * _directions(
        rng.uniform(0, 2 * np.pi, GRAINS)
    )
    distance = np.hypot(rows[..., None] - seeds[:, 0], columns[..., None] - seeds[:, 1])
    order = np.argsort(distance, axis=-1)
    grain, neighbour = order[..., 0], order[..., 1]
    gap = np.diff(np.sort(distance, axis=-1)[..., :2], axis=-1)[..., 0]
    boundary = gap < 1.2

    vectors = py4DSTEM.BraggVectors(SHAPE, (128, 128), name="braggvectors")
    for i, j in np.ndindex(SHAPE):
        disks = np.zeros((0, 3), np.float32)
        if particle[i, j]:
            step = (i // 6 + j // 6) % 4
            disks = patterns[grain[i, j]][step]
            if boundary[i, j]:
                other = patterns[neighbour[i, j]][step] * np.float32([1.0, 1.0, 0.5])
                disks = np.concatenate([disks, other])
            disks = add_noise(disks, config.k_max, rng)
        elif rng.random() < 0.3:
            false = rng.uniform(-1.5, 1.5, (int(rng.integers(1, 4)), 3))
            false[:, 2] = rng.uniform(1e-4, 1e-3, len(false))
            disks = false.astype(np.float32)
        peaks = np.zeros(len(disks) + 1, [("qx", float), ("qy", float), ("intensity", float)])
        peaks["qx"][1:], peaks["qy"][1:] = (disks[:, :2] / PIXEL + CENTRE).T
        peaks["intensity"][1:] = disks[:, 2] * 1e4
        peaks["qx"][0] = peaks["qy"][0] = CENTRE  # the direct beam
        peaks["intensity"][0] = 1e4
        vectors._v_uncal[i, j].add(peaks)
    calibration = vectors.calibration
    calibration.set_origin((np.full(SHAPE, CENTRE), np.full(SHAPE, CENTRE)))
    calibration.set_Q_pixel_size(PIXEL)
    calibration.set_Q_pixel_units("A^-1")
    calibration.set_R_pixel_size(2.0)
    calibration.set_R_pixel_units("nm")
    calibration.set_QR_rotation(0.0)
    calibration.set_QR_flip(False)
    vectors.setcal()
    folder.mkdir(parents=True, exist_ok=True)
    py4DSTEM.save(str(folder / "polycrystal.h5"), vectors, mode="o")
    truth = np.where(particle[..., None, None], orientation[grain], np.nan)
    np.savez_compressed(
        folder / "polycrystal_truth.npz",
        matrix=truth.astype(np.float32),
        interior=particle & ~boundary,
    )


def _directions(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
