"""Small trainings for crystals that are not cubic: nothing in the code takes a symmetry for granted."""

import numpy as np
import pytest

from helpers.cif import write_cif
from helpers.optional import needs_py4dstem
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

pytestmark = [pytest.mark.slow, needs_py4dstem]

SPACING = 5.0  # degrees

ORDER_AND_K_MAX = {"Ti": (12, 1.3), "LiCoO2": (6, 1.1), "Li2MnO3": (2, 1.0)}


@pytest.mark.parametrize("name", ORDER_AND_K_MAX)
def test_unseen_orientations_are_recovered(name, tmp_path):
    order, k_max = ORDER_AND_K_MAX[name]
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
