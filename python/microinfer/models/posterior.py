"""Our network: a posterior over zone axes and in-plane angle, exactly equivariant under in-plane rotation."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from microinfer.crystals.phase import CrystalPhase
from microinfer.models.cells import zone_axis_cells
from microinfer.models.decode import ORDERS, density_of_waves, find_modes
from microinfer.models.encoder import Block, initialise
from microinfer.models.network import NO_CRYSTAL, Candidates, OrientationNetwork
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens

HARMONICS = 16
"""Sines and cosines that embed the radius, and as many that embed the square root of the intensity."""
LABEL_ANGLES = 180
"""Points of the grid on which the loss normalises in-plane densities, which bounds how sharp they become."""
LABEL_CELLS = 12
"""Cells around the label that the loss looks at."""
EQUIVALENTS = 4
"""Most equivalents of a label that can be near one cell."""


class PosteriorOutput(NamedTuple):
    """What `PosteriorNetwork.forward` returns."""

    logits: Tensor
    """(B, K + 1) log-probabilities up to a constant: the cells of all phases, then "no crystal"."""
    waves: Tensor
    """(B, K, 2 * orders) the in-plane waves u_n of each cell: real parts, then imaginary parts."""


class PosteriorNetwork(OrientationNetwork):
    """Posterior over orientations and phases.

    Radius and intensity of a disk are invariants and are embedded; its polar angle enters attention as a rotary
    embedding alone. A softmax goes over the zone-axis cells of all phases and "no crystal"; each cell has a
    density over the in-plane angle, ``p(phi | cell) ~ exp Re sum_n u_n exp(i n phi)``, whose waves ``u_n`` are
    sums over disks of ``c_n exp(i n theta)`` with invariant weights, and so turn with the pattern.

    Parameters
    ----------
    config, phases, spec
        As of `OrientationNetwork`.
    cells : mapping of str to ndarray, optional
        Those of a trained model, among its weights; by default they are made (`zone_axis_cells`).
    """

    cells: Tensor
    cell_phase: Tensor
    density: Tensor
    label_density: Tensor

    def __init__(
        self,
        config: ModelConfig,
        phases: tuple[CrystalPhase, ...],
        spec: TokenSpec,
        cells: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        super().__init__(config, phases, spec)
        made = zone_axis_cells(phases, config.zone_axis_spacing) if cells is None else cells
        for name in ("cells", "cell_phase"):
            self.register_buffer(name, torch.tensor(made[name]))
        self.register_buffer("density", density_of_waves(), persistent=False)
        self.register_buffer("label_density", density_of_waves(LABEL_ANGLES), persistent=False)

        width, count = config.width, len(self.cells)
        self.embedding = nn.Sequential(nn.Linear(4 * HARMONICS, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList([Block(width, config.heads) for _ in range(config.blocks)])
        self.norm = nn.LayerNorm(width)
        self.cell_head = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, count + 1)
        )
        self.disk_waves = nn.Linear(width, len(ORDERS) * config.channels * 2)
        self.wave_gate = nn.Linear(2 * width, len(ORDERS) * config.channels)
        self.cell_waves = nn.ModuleList([nn.Linear(config.channels, 2 * count, bias=False) for _ in ORDERS])
        initialise(self)

    def forward(self, tokens: Tokens) -> PosteriorOutput:
        """Return the posterior's parameters."""
        mask = tokens.mask
        harmonics = torch.arange(1.0, HARMONICS + 1, device=tokens.radius.device) * math.pi
        radius = tokens.radius[..., None] * harmonics / 3.0
        strength = tokens.intensity.sqrt()[..., None] * harmonics / 2.0
        x = self.embedding(torch.cat([radius.sin(), radius.cos(), strength.sin(), strength.cos()], -1))
        for block in self.blocks:
            x = block(x, mask, tokens.angle)
        x = self.norm(x)
        weight = mask[..., None].to(x.dtype)
        mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        pooled = torch.cat([mean, x.masked_fill(~mask[..., None], -1e4).amax(1)], -1)
        return PosteriorOutput(self.cell_head(pooled).float(), self._waves(x, pooled, tokens))

    def _waves(self, x: Tensor, pooled: Tensor, tokens: Tokens) -> Tensor:
        """In-plane waves u_n of every cell, (B, K, 2 * orders).

        A disk's weights c_n are linear in its features, so the features are summed, turned by exp(i n theta), and
        the linear map comes after.
        """
        gate = 1.0 + self.wave_gate(pooled).float().unflatten(-1, (len(ORDERS), -1)).transpose(
            0, 1
        )  # (N, B, C)
        turned = tokens.angle[:, None] * torch.tensor(ORDERS, device=x.device)[:, None]  # (B, N, L)
        scale = (tokens.mask / tokens.mask.sum(1, keepdim=True).clamp(min=1).sqrt())[:, None]
        features = torch.cat([x, torch.ones_like(x[..., :1])], -1).float()  # the bias turns with its disk too
        cos = ((turned.cos() * scale) @ features).transpose(0, 1)  # (N, B, width + 1)
        sin = ((turned.sin() * scale) @ features).transpose(0, 1)
        weight = torch.cat([self.disk_waves.weight, self.disk_waves.bias[:, None]], -1)
        w_real, w_imaginary = weight.view(len(ORDERS), 2, -1, weight.shape[-1]).unbind(1)  # (N, C, width + 1)
        x_sum = (cos @ w_real.mT - sin @ w_imaginary.mT) * gate
        y_sum = (sin @ w_real.mT + cos @ w_imaginary.mT) * gate
        real, imaginary = [], []
        for index in range(len(ORDERS)):
            a, b = self.cell_waves[index].get_parameter("weight").chunk(2)
            real.append(x_sum[index] @ a.mT - y_sum[index] @ b.mT)
            imaginary.append(x_sum[index] @ b.mT + y_sum[index] @ a.mT)
        return torch.stack(real + imaginary, -1).float()

    def loss(self, output: PosteriorOutput, orientation: Tensor, phase: Tensor) -> Tensor:
        """Cross-entropy to soft cell labels plus the in-plane mixture log-likelihood."""
        log_cell = functional.log_softmax(output.logits, -1)
        total = -(log_cell[:, -1] * (phase == NO_CRYSTAL)).sum()
        for index, crystal in enumerate(self.phases):
            rows = (phase == index).nonzero()[:, 0]
            operators = self.operators[index, : len(crystal.operators)]
            cells = (self.cell_phase == index).nonzero()[:, 0]
            total = total + self._phase_loss(
                log_cell.index_select(0, rows).index_select(1, cells),
                output.waves.index_select(0, rows).index_select(1, cells),
                orientation[rows],
                operators,
                self.cells[cells],
            )
        return total / len(phase)

    def _phase_loss(
        self, log_cell: Tensor, waves: Tensor, orientation: Tensor, operators: Tensor, frames: Tensor
    ) -> Tensor:
        """Summed loss of patterns of one phase, whose cells have these frames."""
        target, near, angle, counts = self._labels(orientation, operators, frames)
        loss = -(target * log_cell).sum() + torch.special.xlogy(target, target).sum()
        share = target.gather(1, near)
        share = share / share.sum(-1, keepdim=True)
        picked = waves.gather(1, near[..., None].expand(-1, -1, waves.shape[-1]))
        log_density = functional.log_softmax(picked @ self.label_density, -1)  # (B, T, LABEL_ANGLES)
        position = torch.remainder(angle * (LABEL_ANGLES / (2.0 * math.pi)), LABEL_ANGLES)
        left = position.floor()
        fraction = position - left
        left = left.long() % LABEL_ANGLES
        likelihood = torch.logaddexp(
            log_density.gather(-1, left) + torch.log(1.0 - fraction + 1e-6),
            log_density.gather(-1, (left + 1) % LABEL_ANGLES) + torch.log(fraction + 1e-6),
        )
        likelihood = torch.logsumexp(likelihood.masked_fill(~counts, -1e9), -1)
        likelihood = likelihood + math.log(LABEL_ANGLES) - counts.sum(-1).float().log()
        total: Tensor = loss - (share * likelihood).sum()
        return total

    @torch.no_grad()
    def _labels(
        self, orientation: Tensor, operators: Tensor, frames: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Soft labels.

        Returns the target over the cells (B, K), the nearest cells (B, T), the in-plane angle of the label's
        equivalents in each of them (B, T, E) and which of these count (B, T, E).
        """
        sigma = math.radians(self.config.label_sigma)
        directions = torch.einsum("gji,kj->kgi", operators, frames[:, :, 2])
        cosine = (orientation[:, :, 2] @ directions.reshape(-1, 3).T).view(-1, *directions.shape[:2])
        distance = torch.arccos(cosine.clamp(-1.0, 1.0))  # (B, K, G)
        target = torch.softmax(-0.5 * (distance.amin(-1) / sigma) ** 2, -1)
        near = target.topk(min(LABEL_CELLS, len(frames)), -1).indices
        close = distance.gather(1, near[..., None].expand(-1, -1, len(operators)))
        nearest = close.topk(min(EQUIVALENTS, len(operators)), -1, largest=False)
        counts = nearest.values < nearest.values[..., :1] + 1.2 * sigma
        equivalent = operators[nearest.indices] @ orientation[:, None, None]  # (B, T, E, 3, 3)
        relative = frames[near].transpose(-1, -2)[:, :, None] @ equivalent
        angle = torch.atan2(
            relative[..., 1, 0] - relative[..., 0, 1], relative[..., 0, 0] + relative[..., 1, 1]
        )
        return target, near, angle, counts

    def decode(self, output: PosteriorOutput) -> Candidates:
        """Ranked answers: the posterior's modes."""
        return find_modes(
            output.logits, output.waves, self.density, self.cells, self.cell_phase, self.operators
        )
