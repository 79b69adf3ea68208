"""Make the held-out test set: random orientations of a crystal, simulated with Bloch waves.

    python benchmarks/make_test_set.py test_cu.h5

Zone axis uniform on the sphere, in-plane angle uniform, thickness uniform from 3 to 900 lattice constants, one
thickness for each orientation. Every pattern is kept, however few disks it has. The seed is of a kind that training
never draws (the libraries use [seed, phase index], this set a single large number). Prints the hash of the arrays.
"""

import argparse
import hashlib

import numpy as np
from threadpoolctl import threadpool_limits

from microinfer.config import SimulationConfig
from microinfer.peaks import BraggPeaks
from microinfer.simulation import PatternLibrary, PatternSimulator, load_structure
from microinfer.symmetry import random_orientations

SEED = 20_261_124


def make_test_set(structure_name: str, count: int, noisy: bool) -> PatternLibrary:
    rng = np.random.default_rng(SEED)
    config = SimulationConfig()
    structure = load_structure(structure_name)
    simulator = PatternSimulator(structure, config)
    orientation = random_orientations(count, rng)
    thickness = structure.lattice[0] * rng.uniform(*config.thickness_range, count)
    with threadpool_limits(1):  # the matrices are small: more threads only wait for each other
        patterns = [
            simulator.patterns(matrix, np.array([value]))[0]
            for matrix, value in zip(orientation, thickness, strict=True)
        ]
    if noisy:
        patterns = [add_noise(pattern, config.k_max, rng) for pattern in patterns]
    return PatternLibrary(
        peaks=BraggPeaks.from_patterns(patterns, (count, 1)),
        orientation=orientation.astype(np.float32),
        phase=np.zeros(count, np.int64),
        zone=np.arange(count),
        thickness=thickness.astype(np.float32),
        phases=(structure.phase(config.k_max),),
        simulation=config,
    )


def add_noise(pattern: np.ndarray, k_max: float, rng: np.random.Generator) -> np.ndarray:
    """Position jitter 0.008 1/Angstrom, intensities times exp(N(0, 0.3)), disks under 2 % lost, 0.6 false disks."""
    pattern = pattern.copy()
    pattern[:, :2] += 0.008 * rng.standard_normal((len(pattern), 2))
    pattern[:, 2] *= np.exp(0.3 * rng.standard_normal(len(pattern)))
    strongest = pattern[:, 2].max(initial=0.0)
    pattern = pattern[pattern[:, 2] >= 0.02 * strongest]
    false = rng.poisson(0.6)
    radius, angle = k_max * np.sqrt(rng.random(false)), rng.uniform(0.0, 2.0 * np.pi, false)
    strength = strongest * rng.uniform(0.02, 0.2, false)
    disks = np.stack([radius * np.cos(angle), radius * np.sin(angle), strength], axis=-1)
    return np.concatenate([pattern, disks]).astype(np.float32)


def array_hash(library: PatternLibrary) -> str:
    """A hash of positions (to 1e-4 1/Angstrom) and labels, the same on machines that round alike."""
    digest = hashlib.sha256()
    for values in (library.peaks.offsets, library.orientation, library.peaks.qx, library.peaks.qy):
        digest.update(np.round(np.asarray(values, np.float64), 4).tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out")
    parser.add_argument("--structure", default="Cu")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--noisy", action="store_true")
    arguments = parser.parse_args()
    library = make_test_set(arguments.structure, arguments.count, arguments.noisy)
    library.save(arguments.out)
    print(
        f"{len(library)} patterns, {library.peaks.counts.mean():.1f} disks on average, {array_hash(library)}"
    )
