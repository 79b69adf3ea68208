"""How often a scan that does not go with its model is told, and a right one is not.

    python benchmarks/wrong_scans.py --count 20

Every scan is simulated with Bloch waves, from a seed of its own: 12 x 12 positions, 8 grains, disks whose positions are
noisy by 0.003 or 0.008 1/Angstrom, an ellipse of 1 %, false disks. It is right, of another crystal, with a pixel size
3 % off, of another voltage (as its metadata say), or from a camera that ends at 0.6 of the model's k_max.
"""

import argparse
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.structure import Structure, load_structure
from microinfer.crystals.symmetry import random_orientations
from microinfer.mapping import ScanCheck, check_scan
from microinfer.models import Model
from microinfer.models.network import build_network
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.peaks import BraggPeaks, Scan
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.settings import SimulationConfig

SEED = 31_000_000
SHAPE, GRAINS = (12, 12), 8
THICKNESS = (50.0, 800.0)  # Angstrom
FALSE_DISKS = 0.6  # of a position, on average
KINDS = ("right", "wrong crystal", "pixel size 3 % off", "other voltage", "short camera")
MODELS = {"Cu": (300e3, 2.0992), "Ti": (200e3, 1.2), "Si": (200e3, 1.2)}  # voltage, k_max
OTHERS = ("Cu", "Ti", "Si", "Al", "Fe", "NaCl")
CELLS = {
    "Ti": ((2.951, 2.951, 4.684, 90, 90, 120), "P 63/m m c", 194, {"Ti": (1 / 3, 2 / 3, 1 / 4)}),
    "Si": ((5.431, 5.431, 5.431, 90, 90, 90), "F d -3 m S", 227, {"Si": (0, 0, 0)}),
    "Al": ((4.0495, 4.0495, 4.0495, 90, 90, 90), "F m -3 m", 225, {"Al": (0, 0, 0)}),
    "Fe": ((2.866, 2.866, 2.866, 90, 90, 90), "I m -3 m", 229, {"Fe": (0, 0, 0)}),
    "NaCl": ((5.64, 5.64, 5.64, 90, 90, 90), "F m -3 m", 225, {"Na": (0, 0, 0), "Cl": (0.5, 0.5, 0.5)}),
}


def main() -> None:
    """Simulate, check and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="scans of each kind, noise and model")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    structures = read_structures()
    print(f"{'model':6} {'noise':6} {'kind':20} told  by")
    for name, (voltage, k_max) in MODELS.items():
        model = empty_model(structures[name], voltage, k_max)
        for noise in (0.003, 0.008):
            for number, kind in enumerate(KINDS):
                told, verdicts = 0, Counter[str]()
                for index in range(arguments.count):
                    rng = np.random.default_rng([arguments.seed, number, index, int(1e4 * noise)])
                    check = check_scan(scan(kind, name, structures, rng, noise), model)
                    told += bool(check.warnings)
                    verdicts.update(said(check))
                counts = ", ".join(f"{what} {count}" for what, count in verdicts.most_common())
                print(f"{name:6} {noise:<6} {kind:20} {told:2d}/{arguments.count}  {counts}", flush=True)


def said(check: ScanCheck) -> list[str]:
    """What a check says, in a word or two."""
    doubts = [name for name, text in check.facts.items() if text in check.warnings and name != "Crystal"]
    return [f"rings: {check.rings.verdict}", *doubts]


def scan(
    kind: str, name: str, structures: dict[str, Structure], rng: np.random.Generator, noise: float
) -> BraggPeaks:
    """Simulate one scan for the model of a crystal."""
    voltage, k_max = MODELS[name]
    crystal = (
        str(rng.choice([other for other in OTHERS if other != name])) if kind == "wrong crystal" else name
    )
    if kind == "other voltage":
        voltage = 200e3 if voltage > 250e3 else 300e3
    simulator = PatternSimulator(structures[crystal], SimulationConfig(voltage=voltage, k_max=k_max))
    grains = [
        simulator.patterns(matrix, np.exp(rng.uniform(*np.log(THICKNESS), 1)))[0].astype(np.float64)
        for matrix in random_orientations(GRAINS, rng)
    ]
    centres = rng.uniform(0, 1, (GRAINS, 2)) * SHAPE
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    nearest = np.argmin(((grid - centres) ** 2).sum(-1), axis=1)
    camera = k_max * (0.6 if kind == "short camera" else 1.0)
    scale = rng.choice([0.97, 1.03]) if kind == "pixel size 3 % off" else 1.0
    patterns = [measured(grains[grain], camera, noise, rng) * [scale, scale, 1.0] for grain in nearest]
    return BraggPeaks.from_patterns(patterns, Scan(SHAPE, 2.0, "nm", voltage=voltage))


def measured(
    pattern: NDArray[np.float64], camera: float, noise: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Disturb a pattern: noise, lost and false disks, an ellipse of up to a per cent, the camera's edge."""
    pattern = pattern.copy()
    pattern[:, 0] *= 1.005
    pattern[:, 1] *= 0.995
    pattern[:, :2] += noise * rng.standard_normal((len(pattern), 2))
    pattern[:, 2] *= np.exp(0.2 * rng.standard_normal(len(pattern)))
    pattern = pattern[pattern[:, 2] > 0.01 * pattern[:, 2].max(initial=0.0)]
    false = rng.poisson(FALSE_DISKS)
    radius, angle = camera * np.sqrt(rng.random(false)), rng.uniform(0, 2 * np.pi, false)
    strength = pattern[:, 2].max(initial=1.0) * rng.uniform(0.02, 0.2, false)
    disks = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), strength])
    beam = [[0.0, 0.0, 10.0]]
    pattern = np.concatenate([beam, pattern, disks])
    return pattern[np.hypot(pattern[:, 0], pattern[:, 1]) < camera]


def empty_model(structure: Structure, voltage: float, k_max: float) -> Model:
    """A model that has learnt nothing, of a crystal, voltage and k_max."""
    config = ModelConfig(width=16, blocks=1, heads=1, zone_axis_spacing=20.0, channels=4)
    network = build_network(config, (structure.phase(k_max),), TokenSpec())
    return Model.of(network, {"name": structure.name, "voltage": voltage, "k_max": k_max})


def read_structures() -> dict[str, Structure]:
    """The crystals, through CIF files but for copper."""
    structures = {"Cu": load_structure("Cu")}
    with tempfile.TemporaryDirectory() as folder:
        for name, (cell, group, number, sites) in CELLS.items():
            path = Path(folder) / f"{name}.cif"
            keys = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
            path.write_text(
                f"data_{name}\n"
                + "".join(f"_cell_{key} {value}\n" for key, value in zip(keys, cell, strict=True))
                + f"_symmetry_space_group_name_H-M '{group}'\n_symmetry_Int_Tables_number {number}\nloop_\n"
                + "".join(
                    f"_atom_site_{key}\n" for key in ("label", "type_symbol", *(f"fract_{x}" for x in "xyz"))
                )
                + "".join(f"{e} {e} {x:.8f} {y:.8f} {z:.8f}\n" for e, (x, y, z) in sites.items())
            )
            structures[name] = load_structure(path)
    return structures


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        main()
