"""Untrained models of two phases, of sizes that fill no vector."""

import torch

from helpers.example_phases import PHASES
from helpers.patterns import random_patterns, scan_of
from microinfer.models import Model
from microinfer.models.network import build_network
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import tokenize

CONFIGS = {
    "posterior": ModelConfig(width=30, blocks=2, heads=5, zone_axis_spacing=12.0, channels=7),
    "reference": ModelConfig("reference", width=42, blocks=2, heads=3),
}


def odd_model(kind: str) -> Model:
    """A model of Cu and Ti that answers with either."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        network = build_network(CONFIGS[kind], (PHASES["Cu"], PHASES["Ti"]), TokenSpec())
        for name, parameter in network.named_parameters():
            if "norm" in name or "bias" in name:
                torch.nn.init.normal_(parameter, 1.0 if "weight" in name else 0.0, 0.3)
        if kind == "posterior":
            for layer in (network.cell_head[-1], *network.cell_waves):
                layer.weight *= 8.0
        else:
            logits = network(tokenize(scan_of(random_patterns(1, 50)))).phase_logits
            network.phase_head[-1].bias -= logits.median(0).values
    return Model.of(network, {"name": kind, "voltage": 300e3, "k_max": 2.0})
