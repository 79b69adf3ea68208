"""What all tests share: no window system, no deadlines, and a small model."""

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import settings

from helpers.example_phases import PHASES
from microinfer.models import Model
from microinfer.models.posterior import PosteriorNetwork
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.peaks import BraggPeaks, Scan

matplotlib.use("Agg")
torch.set_num_threads(1)  # the tests' tensors are small: threads would wait for each other
settings.register_profile("microinfer", deadline=None)
settings.load_profile("microinfer")


SIMULATING = ("cli", "crystals", "evaluation", "frames", "models", "simulation", "training")
"""Folders whose tests use py4DSTEM, which warns, as does what it imports."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in SIMULATING:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::SyntaxWarning"))
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def small_model() -> Model:
    """A posterior model with random weights for a cubic crystal: fast, and far from right."""
    config = ModelConfig(width=32, blocks=1, heads=4, zone_axis_spacing=8.0, channels=4)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = PosteriorNetwork(config, (PHASES["Cu"],), TokenSpec())
    # random heads are nearly flat: sharpen them, so that the answers are not ties
    for layer in (network.cell_head[-1], *network.cell_waves):
        layer.weight.data *= 30.0
    return Model.of(network, {"name": "small", "voltage": 300e3, "k_max": 2.0})


@pytest.fixture(scope="session")
def scan() -> BraggPeaks:
    """Peaks of 13 x 7 positions: 0 to 13 disks and a direct beam each, on the rings of the small model's copper."""
    rng = np.random.default_rng(11)
    rings = np.linalg.norm(PHASES["Cu"].reflections[:, :3] @ PHASES["Cu"].reciprocal, axis=1)
    rings = np.unique(rings[(rings > 0.3) & (rings < 1.9)])
    patterns = []
    for index in range(13 * 7):
        count = index * 5 % 14
        radius = np.concatenate([[0.001], rng.choice(rings, count)])
        angle = rng.uniform(-np.pi, np.pi, count + 1)
        intensity = np.concatenate([[50.0], rng.uniform(0.05, 1.0, count)])
        patterns.append(np.column_stack([radius * np.cos(angle), radius * np.sin(angle), intensity]))
    return BraggPeaks.from_patterns(patterns, Scan((13, 7), 2.5, "nm"))
