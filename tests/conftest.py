"""What all tests share: no window system, no deadlines, and a small model."""

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import settings

from helpers.example_phases import PHASES
from microinfer.models import PosteriorModel
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.peaks.bragg_peaks import BraggPeaks

matplotlib.use("Agg")
torch.set_num_threads(1)  # the tests' tensors are small: threads would wait for each other
settings.register_profile("microinfer", deadline=None)
settings.load_profile("microinfer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def small_model() -> PosteriorModel:
    """A posterior model with random weights for a cubic crystal: fast, and far from right."""
    config = ModelConfig(width=32, blocks=1, heads=4, zone_axis_spacing=8.0, channels=4)
    card = {"name": "small", "voltage": 300e3, "k_max": 2.0}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = PosteriorModel(config, (PHASES["Cu"],), TokenSpec(), card)
        # random heads are nearly flat: sharpen them, so that the answers are not ties
        for layer in (model.cell_head[-1], *model.cell_waves):
            layer.weight.data *= 30.0
    return model.eval()


@pytest.fixture(scope="session")
def scan() -> BraggPeaks:
    """Peaks of 13 x 7 positions: 0 to 13 disks and a direct beam each, radii that the small model knows."""
    rng = np.random.default_rng(11)
    patterns = []
    for index in range(13 * 7):
        count = index * 5 % 14
        radius = np.concatenate([[0.001], rng.uniform(0.3, 1.9, count)])
        angle = rng.uniform(-np.pi, np.pi, count + 1)
        intensity = np.concatenate([[50.0], rng.uniform(0.05, 1.0, count)])
        patterns.append(np.column_stack([radius * np.cos(angle), radius * np.sin(angle), intensity]))
    return BraggPeaks.from_patterns(patterns, (13, 7), scan_step=2.5, scan_units="nm")
