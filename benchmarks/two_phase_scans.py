"""Maps of synthetic two-phase scans beside their truth, as the paper's Fig. 6.

    python benchmarks/two_phase_scans.py --model cu-cu2o --seeds 20

Each scan has 128 x 128 positions and 60 grains, Voronoi cells with empty channels between them, half of them Cu and
half Cu2O, of random orientations, 21 Angstrom thick (Bloch waves). Every position has noise of its own (the noisy test
set's); the channels hold false disks alone. An answer of the wrong phase and an invalid one count as wrong phase;
orientations are compared where the phase is right. The seeds are of a kind that training never draws.
"""

import argparse
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import microinfer as mi
from microinfer.crystals.errors import axis_misalignment
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import misorientation, random_orientations
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation import PatternSimulator
from microinfer.simulation.settings import SimulationConfig
from microinfer.simulation.testset import add_noise

SEED = 6_128_128_000
SHAPE = (128, 128)
GRAINS = 60
THICKNESS = 21.0  # Angstrom
CHANNEL = 2.0  # positions nearer than this to the next grain are empty
PHASES = ("Cu", "Cu2O")


class Scan(NamedTuple):
    """A scan and its truth."""

    peaks: BraggPeaks
    matrix: NDArray[np.float64]  # (Rx, Ry, 3, 3)
    phase: NDArray[np.int64]  # (Rx, Ry), -1 in the channels


def make_scan(simulators: list[PatternSimulator], seed: int) -> Scan:
    rng = np.random.default_rng(SEED + seed)
    centres = rng.uniform(0, SHAPE, (GRAINS, 2))
    positions = np.stack(np.indices(SHAPE), axis=-1)
    distance = np.linalg.norm(positions[..., None, :] - centres, axis=-1)
    grain = distance.argmin(axis=-1)
    nearest = np.sort(distance, axis=-1)
    channel = nearest[..., 1] - nearest[..., 0] < CHANNEL
    phase_of_grain = rng.permutation(np.arange(GRAINS) % len(PHASES))
    orientation = random_orientations(GRAINS, rng)
    with threadpool_limits(1):
        patterns = [
            simulators[phase].patterns(matrix, np.array([THICKNESS]))[0]
            for phase, matrix in zip(phase_of_grain, orientation, strict=True)
        ]
    k_max = simulators[0].config.k_max
    beam = np.array([[0.0, 0.0, 1.0]], np.float32)  # what false disks in a channel are compared with
    disks = [
        add_noise(beam, k_max, rng)[1:] if channel[index] else add_noise(patterns[grain[index]], k_max, rng)
        for index in np.ndindex(SHAPE)
    ]
    return Scan(
        BraggPeaks.from_patterns(disks, SHAPE),
        orientation[grain],
        np.where(channel, -1, phase_of_grain[grain]),
    )


def figures(scan: Scan, omap: mi.OrientationMap) -> dict[str, float]:
    """Figures of one map."""
    crystal = scan.phase >= 0
    right = crystal & omap.valid & (omap.phase == scan.phase)
    axes = np.zeros((*SHAPE, 3))
    error = np.zeros(SHAPE)
    for index, phase in enumerate(omap.phases):
        rows = right & (scan.phase == index)
        answer = omap.matrix[rows].astype(np.float64)
        axes[rows] = axis_misalignment(answer, scan.matrix[rows], phase.operators)
        error[rows] = np.degrees(misorientation(answer, scan.matrix[rows], phase.operators))
    x, y, z = axes[right].mean(axis=0)
    return {
        "phase accuracy": right.sum() / crystal.sum(),
        "no answer": np.mean(~omap.valid[crystal]),
        "axis x (rad)": x,
        "axis y (rad)": y,
        "axis z (rad)": z,
        "geodesic mean (deg)": error[right].mean(),
        "geodesic median (deg)": np.median(error[right]),
        "within 3 deg": np.mean(error[right] < 3.0),
        "background recognised": np.mean(~omap.valid[~crystal]),
        "where it has 2 disks and more": np.mean(
            ~omap.valid[~crystal & (scan.peaks.counts.reshape(SHAPE) >= 2)]
        ),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="cu-cu2o")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    config = SimulationConfig()
    simulators = [PatternSimulator(load_structure(name), config) for name in PHASES]
    model = mi.load_model(arguments.model)
    if tuple(phase.name for phase in model.phases) != PHASES:
        parser.error(f"the model's phases must be {', '.join(PHASES)}")
    results = []
    for seed in range(arguments.seeds):
        scan = make_scan(simulators, seed)
        results.append(figures(scan, mi.map_orientations(scan.peaks, model)))
        print(f"seed {seed:2d}  " + "  ".join(f"{name} {value:.4f}" for name, value in results[-1].items()))
    print(f"{arguments.seeds} scans: mean, lowest, highest")
    for name in results[0]:
        values = np.array([result[name] for result in results])
        print(f"  {name:24s} {values.mean():8.4f} {values.min():8.4f} {values.max():8.4f}")
