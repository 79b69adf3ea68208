"""The paper's network: binned embeddings, a transformer encoder, regression to SO(3), geodesic loss."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from microinfer.crystals.phase import CrystalPhase
from microinfer.models.encoder import Block, initialise
from microinfer.models.network import NO_CRYSTAL, Candidates, OrientationNetwork
from microinfer.models.settings import ModelConfig
from microinfer.ops.rotations import project_to_so3, symmetry_min_geodesic
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens

ANGLE_HARMONICS = 15


class ReferenceOutput(NamedTuple):
    """What `ReferenceNetwork.forward` returns."""

    matrix: Tensor
    """(B, 3, 3) rotation matrices."""
    phase_logits: Tensor
    """(B, number of phases)."""


class ReferenceNetwork(OrientationNetwork):
    """Transformer regression of the paper (Methods, "Model Architecture").

    It gives one orientation and no probability for it: its confidence is 0 everywhere.
    """

    radius_table: Tensor
    intensity_table: Tensor

    def __init__(self, config: ModelConfig, phases: tuple[CrystalPhase, ...], spec: TokenSpec) -> None:
        super().__init__(config, phases, spec)
        width = config.width
        self.register_buffer("radius_table", _sinusoids(spec.radius_bins, 5000.0, width), persistent=False)
        self.register_buffer(
            "intensity_table", _sinusoids(spec.intensity_bins, 10000.0, width), persistent=False
        )
        self.angle_embedding = nn.Linear(2 * ANGLE_HARMONICS, width)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList([Block(width, config.heads) for _ in range(config.blocks)])
        self.norm_out = nn.LayerNorm(width)
        self.orientation_head = nn.Sequential(
            nn.Linear(width, width // 2), nn.LayerNorm(width // 2), nn.GELU(),
            nn.Linear(width // 2, width // 4), nn.GELU(),
            nn.Linear(width // 4, width // 8), nn.GELU(),
            nn.Linear(width // 8, 9),
        )  # fmt: skip
        self.phase_head = nn.Sequential(
            nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, len(phases))
        )
        initialise(self)

    def forward(self, tokens: Tokens) -> ReferenceOutput:
        """Regress orientation and phase."""
        x = self.radius_table[tokens.radius_bin.long()] + self.intensity_table[tokens.intensity_bin.long()]
        x = self.norm_in(x + functional.embedding(tokens.angle_bin.long(), self.angle_table()))
        for block in self.blocks:
            x = block(x, tokens.mask, None)
        weight = tokens.mask[..., None].to(x.dtype)
        latent = (self.norm_out(x) * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        matrix = project_to_so3(self.orientation_head(latent).float().view(-1, 3, 3))
        return ReferenceOutput(matrix, self.phase_head(latent).float())

    def angle_table(self) -> Tensor:
        """Embeddings of all angular bins (paper, eq. 2), (bins, width)."""
        # of floats: a traced sum of integers and a float would become float64
        bins = torch.arange(float(self.spec.angle_bins), device=self.radius_table.device)
        angle = (bins + 0.5) * (2.0 * torch.pi / self.spec.angle_bins) - torch.pi
        turned = angle[:, None] * torch.arange(1, ANGLE_HARMONICS + 1, device=angle.device)
        embedded: Tensor = self.angle_embedding(torch.cat([turned.cos(), turned.sin()], -1) / ANGLE_HARMONICS)
        return embedded

    def loss(self, output: ReferenceOutput, orientation: Tensor, phase: Tensor) -> Tensor:
        """Symmetry-min geodesic loss plus the cross-entropy of the phase; patterns without crystal are left out."""
        total = output.matrix.new_zeros(())
        for index, crystal in enumerate(self.phases):
            rows = phase == index
            operators = self.operators[index, : len(crystal.operators)]
            total = total + symmetry_min_geodesic(output.matrix[rows], orientation[rows], operators).sum()
        crystals = phase != NO_CRYSTAL
        total = total + functional.cross_entropy(
            output.phase_logits[crystals], phase[crystals], reduction="sum"
        )
        return total / crystals.sum().clamp(min=1)

    def decode(self, output: ReferenceOutput) -> Candidates:
        """The one answer for each pattern."""
        no_probability = output.matrix.new_zeros(output.matrix.shape[0], 1)
        phase = output.phase_logits.argmax(-1, keepdim=True)
        return Candidates(
            output.matrix[:, None], phase, no_probability, torch.ones_like(phase[:, 0], dtype=torch.bool)
        )


def _sinusoids(bins: int, base: float, width: int) -> Tensor:
    """The paper's eq. 1 for every bin, shape (bins, width)."""
    element = np.arange(width)
    phase = np.arange(bins)[:, None] / base ** (2.0 * element / width)
    return torch.from_numpy(np.where(element % 2 == 0, np.sin(phase), np.cos(phase))).float()
