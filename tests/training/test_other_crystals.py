"""Small trainings for crystals that are not cubic: nothing in the code takes a symmetry for granted."""

from pathlib import Path

import numpy as np
import pytest

from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import misorientation, random_orientations
from microinfer.mapping import map_orientations
from microinfer.models import load_model
from microinfer.models.settings import ModelConfig
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation import PatternSimulator
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.training import train
from microinfer.training.config import AugmentationConfig, Config, TrainingConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]

SPACING = 5.0  # degrees

# name: lattice, space group and its number, sites, order of the Laue class' proper group, largest k
CRYSTALS = {
    "Ti": ((2.951, 2.951, 4.684, 90, 90, 120), "P 63/m m c", 194, ["Ti 0.33333 0.66667 0.25"], 12, 1.3),
    "LiCoO2": (
        (2.816, 2.816, 14.05, 90, 90, 120),
        "R -3 m :H",
        166,
        ["Li 0 0 0.5", "Co 0 0 0", "O 0 0 0.2395"],
        6,
        1.1,
    ),
    "Li2MnO3": (
        (4.937, 8.532, 5.030, 90, 109.46, 90),
        "C 1 2/m 1",
        12,
        [
            "Mn 0 0.16708 0",
            "Li 0 0.5 0",
            "Li 0 0 0.5",
            "Li 0 0.6606 0.5",
            "O 0.2189 0 0.2273",
            "O 0.2540 0.32119 0.2233",
        ],
        2,
        1.0,
    ),
}


def write_cif(folder: Path, name: str) -> Path:
    lattice, space_group, number, sites, _, _ = CRYSTALS[name]
    keys = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [
        f"data_{name}",
        *(f"_cell_{key} {value}" for key, value in zip(keys, lattice, strict=True)),
        f"_symmetry_space_group_name_H-M '{space_group}'",
        f"_symmetry_Int_Tables_number {number}",
        "loop_",
        "_atom_site_label",
        "_atom_site_fract_x",
        "_atom_site_fract_y",
        "_atom_site_fract_z",
        *sites,
    ]
    path = folder / f"{name}.cif"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", CRYSTALS)
def test_unseen_orientations_are_recovered(name, tmp_path):
    *_, order, k_max = CRYSTALS[name]
    cif = write_cif(tmp_path, name)
    config = Config(
        name.lower(),
        (PhaseConfig(str(cif)),),
        SimulationConfig(
            zone_axes=4000,
            thicknesses=1,
            method="kinematic",
            k_max=k_max,
            excitation_error_sigma=0.02,
            intensity_min=0.02,
        ),
        model=ModelConfig(width=64, heads=4, blocks=2, zone_axis_spacing=SPACING, label_sigma=3.0),
        augmentation=AugmentationConfig(edge_range=(0.8 * k_max, k_max)),
        training=TrainingConfig(samples=60_000, warmup_steps=30),
    )
    model = load_model(train(config, tmp_path / "run"))
    phase = model.phases[0]
    assert len(phase.operators) == order

    orientation = random_orientations(300, np.random.default_rng(90_210))
    simulator = PatternSimulator(load_structure(cif), config.simulation)
    patterns = [simulator.patterns(matrix, np.array([100.0]))[0] for matrix in orientation]
    omap = map_orientations(BraggPeaks.from_patterns(patterns, (300, 1)), model, refine=None)
    error = np.full(300, 180.0)
    valid = omap.valid[:, 0]
    error[valid] = np.degrees(
        misorientation(omap.matrix[valid, 0].astype(float), orientation[valid], phase.operators)
    )
    assert np.mean(error < 2 * SPACING) >= 0.5
