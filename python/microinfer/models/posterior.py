"""Our model: a posterior over zone axes and in-plane angle, exactly equivariant under in-plane rotation."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import zone_axis_frames, zone_axis_grid
from microinfer.models.base import NO_CRYSTAL, Candidates, OrientationModel
from microinfer.models.decode import Modes, find_modes
from microinfer.models.encoder import Block, initialise
from microinfer.models.inplane import ANGLES, ORDERS, STEP, waves_of_angle
from microinfer.models.rounding import precise
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens

CANDIDATES = 6
"""Modes that `PosteriorModel.candidates` gives."""
LABEL_CELLS = 12
"""Cells around the label that the loss looks at."""
EQUIVALENTS = 4
"""Most equivalents of a label that can be near one cell."""


class PosteriorOutput(NamedTuple):
    """What `PosteriorModel.forward` returns."""

    logits: Tensor
    """(B, K + 1) log-probabilities up to a constant: the cells of all phases, then "no crystal"."""
    waves: Tensor
    """(B, K, 2 * orders) the in-plane waves u_n of each cell: real parts, then imaginary parts."""


class PosteriorModel(OrientationModel):
    """Posterior over orientations and phases.

    Radius and intensity of a disk are invariants and are embedded; its polar angle enters attention as a rotary
    embedding alone. A softmax goes over the zone-axis cells of all phases and "no crystal"; each cell has a
    density over the in-plane angle, ``p(phi | cell) ~ exp Re sum_n u_n exp(i n phi)``, whose waves ``u_n`` are
    sums over disks of ``c_n exp(i n theta)`` with invariant weights, and so turn with the pattern.
    """

    cells: Tensor
    cell_phase: Tensor
    waves_of_angle: Tensor

    def __init__(
        self,
        config: ModelConfig,
        phases: tuple[CrystalPhase, ...],
        spec: TokenSpec,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(config, phases, spec, card)
        grids = [zone_axis_grid(phase.operators, config.zone_axis_spacing) for phase in phases]
        frames = [torch.tensor(zone_axis_frames(grid), dtype=torch.float32) for grid in grids]
        sizes = torch.tensor([len(grid) for grid in grids])
        ends = sizes.cumsum(0).tolist()
        self.cell_range = list(zip([0, *ends[:-1]], ends, strict=True))  # of each phase
        self.register_buffer("cells", torch.cat(frames), persistent=False)  # (K, 3, 3)
        self.register_buffer(
            "cell_phase", torch.arange(len(phases)).repeat_interleave(sizes), persistent=False
        )
        self.register_buffer("waves_of_angle", waves_of_angle(), persistent=False)

        width, count = config.width, len(self.cells)
        self.embedding = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width))
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
        harmonics = precise(torch.arange(1.0, 17.0, device=tokens.radius.device)) * math.pi
        radius = precise(tokens.radius)[..., None] * harmonics / 3.0
        strength = precise(tokens.intensity).sqrt()[..., None] * harmonics / 2.0
        x = self.embedding(torch.cat([radius.sin(), radius.cos(), strength.sin(), strength.cos()], -1))
        for block in self.blocks:
            x = block(x, mask, tokens.angle)
        x = precise(self.norm(x))
        weight = mask[..., None].to(x.dtype)
        mean = (x * weight).sum(1).float() / weight.sum(1).clamp(min=1.0)
        pooled = torch.cat([mean, x.masked_fill(~mask[..., None], -1e4).amax(1)], -1)
        return PosteriorOutput(self.cell_head(pooled).float(), self._waves(x, pooled, tokens))

    def _waves(self, x: Tensor, pooled: Tensor, tokens: Tokens) -> Tensor:
        """In-plane waves u_n of every cell, (B, K, 2 * orders).

        A disk's weights c_n are linear in its features, so the features are summed, turned by exp(i n theta), and
        the linear map comes after.
        """
        batch = x.shape[0]
        gate = 1.0 + self.wave_gate(pooled).float().view(batch, len(ORDERS), -1)
        turned = precise(tokens.angle)[:, None] * torch.tensor(ORDERS, device=x.device)[:, None]  # (B, N, L)
        scale = (tokens.mask / precise(tokens.mask.sum(1, keepdim=True).clamp(min=1)).sqrt())[:, None]
        one = torch.ones_like(x[..., :1])  # the bias turns with its disk too
        features = precise(torch.cat([x, one], -1).float())
        cos = precise((turned.cos() * scale).float()) @ features
        sin = precise((turned.sin() * scale).float()) @ features
        weight = torch.cat([self.disk_waves.weight, self.disk_waves.bias[:, None]], -1).float()
        w_real, w_imaginary = weight.view(len(ORDERS), 2, -1, weight.shape[-1]).unbind(1)  # (N, C, width + 1)
        cos, sin, gate = cos.transpose(0, 1), sin.transpose(0, 1), gate.transpose(0, 1)  # (N, B, ...)
        # bmm, whose factors `RoundedProducts` rounds, and further down @, as the core has it
        x_sum = (torch.bmm(cos, w_real.mT) - torch.bmm(sin, w_imaginary.mT)) * gate
        y_sum = (torch.bmm(sin, w_real.mT) + torch.bmm(cos, w_imaginary.mT)) * gate
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
            first, last = self.cell_range[index]
            total = total + self._phase_loss(
                log_cell.index_select(0, rows)[:, first:last],
                output.waves.index_select(0, rows)[:, first:last],
                orientation[rows],
                operators,
                self.cells[first:last],
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
        log_density = functional.log_softmax(picked @ self.waves_of_angle, -1)  # (B, T, ANGLES)
        position = torch.remainder(angle / STEP, ANGLES)
        left = position.floor()
        fraction = position - left
        left = left.long() % ANGLES
        likelihood = torch.logaddexp(
            log_density.gather(-1, left) + torch.log(1.0 - fraction + 1e-6),
            log_density.gather(-1, (left + 1) % ANGLES) + torch.log(fraction + 1e-6),
        )
        likelihood = torch.logsumexp(likelihood.masked_fill(~counts, -1e9), -1)
        likelihood = likelihood + math.log(ANGLES) - counts.sum(-1).float().log()
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

    def modes(self, tokens: Tokens, count: int = 3) -> Modes:
        """The posterior's most probable modes, ranked.

        Parameters
        ----------
        tokens : Tokens
            Patterns.
        count : int
            Number of modes.

        Returns
        -------
        Modes
        """
        return self._modes(self(tokens), count)

    def _modes(self, output: PosteriorOutput, count: int) -> Modes:
        return find_modes(
            output.logits,
            output.waves,
            self.waves_of_angle,
            self.cells,
            self.cell_phase,
            self.operators,
            count,
        )

    def decode(self, output: PosteriorOutput, tokens: Tokens) -> Candidates:
        """Ranked answers for tokenized patterns: the posterior's modes."""
        return as_candidates(self._modes(output, CANDIDATES), tokens)


def as_candidates(modes: Modes, tokens: Tokens) -> Candidates:
    """A posterior's modes as ranked answers; none is valid where "no crystal" is more probable than all of them."""
    valid = tokens.valid & (modes.no_crystal < modes.probability.sum(-1))
    # neighbouring peaks of a density may share grid points, which then count for both
    probability = modes.probability / modes.probability.sum(-1, keepdim=True).clamp(min=1.0)
    return Candidates(modes.matrix, modes.phase, probability, valid)
