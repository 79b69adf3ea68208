"""From the posterior's cells and in-plane densities to its most probable orientations."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from microinfer.models import inplane
from microinfer.ops.rotations import project_to_so3

TOP_CELLS = 16
"""Cells that are looked at; the others hold next to no probability near a mode."""
CELLS_EDGE = 0.1
"""Cells less than this above the first that is not looked at, in log-probability, weigh less."""
NEGLIGIBLE = 1e-6
"""Candidates with less than this share of the most probable cell's probability are dropped."""
MODE_RADIUS = math.radians(7.0)
"""Candidates further from a mode's centre than this do not enter its mean."""
LEADING = 0.7
"""Candidates above this share of the heaviest one's weight lead to a mode beside it, so that of equals none decides;
they lead in full up to this share of the radius."""
CONFIDENCE_RADIUS = math.radians(4.0)
"""A mode's probability counts the candidates this near: 3 degrees and the cells' own spread."""

CONFIDENCE_EDGE = math.radians(0.3)
"""How soft the edge of that radius is."""


class Modes(NamedTuple):
    """Ranked modes of the posterior, M for each of B patterns."""

    matrix: Tensor
    """(B, M, 3, 3) orientations."""
    phase: Tensor
    """(B, M) int64."""
    probability: Tensor
    """(B, M) probability within 3 degrees of the mode, falling."""
    no_crystal: Tensor
    """(B,) probability that there is no crystal."""


def find_modes(
    logits: Tensor,
    waves: Tensor,
    waves_of_angle: Tensor,
    frames: Tensor,
    cell_phase: Tensor,
    operators: Tensor,
    count: int,
) -> Modes:
    """Find the posterior's most probable modes, one after the other.

    The candidates are the peaks of the in-plane density in the most probable cells. A mode is the weighted mean
    rotation of the candidates near its heaviest ones, equivalents taken together; its candidates then leave. Where
    none is left, a mode has the probability 0.

    Parameters
    ----------
    logits : Tensor, shape (B, K + 1)
        Of the cells and of "no crystal".
    waves : Tensor, shape (B, K, W)
        In-plane waves of each cell.
    waves_of_angle : Tensor, shape (W, A)
        As `inplane.waves_of_angle` returns it.
    frames : Tensor, shape (K, 3, 3)
        Rotation of each cell at in-plane angle 0.
    cell_phase : Tensor, shape (K,)
        Phase of each cell.
    operators : Tensor, shape (P, G, 3, 3)
        Proper operators of each phase.
    count : int
        Number of modes.

    Returns
    -------
    Modes
    """
    probability = logits.softmax(-1)
    cells, share = _top_cells(logits[:, :-1])
    picked = waves.gather(1, cells[..., None].expand(-1, -1, waves.shape[-1]))
    angle, mass = inplane.peaks(picked, waves_of_angle)
    top = probability.gather(1, cells)[..., None]
    weight = top * share[..., None] * mass
    weight = torch.where(weight < NEGLIGIBLE * top[:, :1], 0.0, weight).flatten(1)  # (B, C)
    candidates = _turned(frames[cells], angle).flatten(1, 2)  # (B, C, 3, 3)
    entries = candidates.flatten(2)
    phase = cell_phase[cells][..., None].expand_as(angle).flatten(1)

    found = []
    for _ in range(count):
        heaviest = weight.argmax(1, keepdim=True)
        mode_phase = phase.gather(1, heaviest)
        group = operators[mode_phase[:, 0]]  # (B, G, 3, 3)
        same = phase == mode_phase
        centre = _pick(candidates, heaviest)
        for _ in range(2):  # so that it does not count which of equals is the heaviest
            distance, operator = _nearest_equivalents(entries, centre, group)
            leading = _leading(weight, heaviest, distance)
            centre = _mean(entries, operator, weight * same * leading, group)
        for _ in range(2):
            distance, operator = _nearest_equivalents(entries, centre, group)
            near = weight * same * _bump(distance, MODE_RADIUS)
            centre = _mean(entries, operator, near, group)
        distance, _ = _nearest_equivalents(entries, centre, group)
        inside = same * torch.sigmoid((CONFIDENCE_RADIUS - distance) / CONFIDENCE_EDGE)
        found.append((centre, mode_phase[:, 0], (weight * inside).sum(1)))
        taken = torch.maximum(inside, same * (distance < MODE_RADIUS))
        weight = weight * (1.0 - taken.scatter(1, heaviest, 1.0))
    matrix, phases, probabilities = (torch.stack(part, 1) for part in zip(*found, strict=True))
    order = probabilities.argsort(dim=1, descending=True, stable=True)
    return Modes(
        matrix.gather(1, order[..., None, None].expand_as(matrix)),
        phases.gather(1, order),
        probabilities.gather(1, order),
        probability[:, -1],
    )


def _top_cells(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable cells (B, T), falling, and how much of each counts: nothing where the next one would do."""
    values, cells = logits.topk(min(TOP_CELLS + 1, logits.shape[1]), -1)
    if logits.shape[1] <= TOP_CELLS:
        return cells, torch.ones_like(values)
    above = (values - values[:, -1:])[:, :-1]
    edge = above[:, :1].clamp(max=CELLS_EDGE)  # the first cell counts in full
    return cells[:, :-1], torch.where(above < edge, above / edge, 1.0)


def _turned(frames: Tensor, angle: Tensor) -> Tensor:
    """Frames (B, T, 3, 3), each turned about its own z axis by its angles (B, T, P): (B, T, P, 3, 3)."""
    x, y, z = frames[:, :, None].unbind(-1)  # columns
    cos, sin = angle.cos()[..., None], angle.sin()[..., None]
    turned = x * cos + y * sin
    return torch.stack([turned, y * cos - x * sin, z.expand_as(turned)], -1)


def _pick(candidates: Tensor, index: Tensor) -> Tensor:
    """The candidate (B, 3, 3) that index (B, 1) names."""
    return candidates.gather(1, index[..., None, None].expand(-1, -1, 3, 3))[:, 0]


def _nearest_equivalents(entries: Tensor, centre: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Of each candidate (B, C, 9) the equivalent nearest to the centre: its distance in radians, and its operator.

    An operator S of the group (B, G, 3, 3) takes a candidate R as near to the centre as its inverse takes the centre
    to R; and tr(R^T S^T centre) is a sum over products of entries.
    """
    of_centre = (group.mT.flatten(1, 2) @ centre).view_as(group)
    trace, operator = (entries @ of_centre.flatten(2).mT).max(-1)
    return torch.arccos(((trace - 1.0) / 2.0).clamp(-1.0, 1.0)), operator


def _mean(entries: Tensor, operator: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """Weighted mean rotation (B, 3, 3) of the candidates (B, C, 9), each behind its operator of the group."""
    one_hot = operator[..., None] == torch.arange(group.shape[1], device=group.device)  # (B, C, G)
    sums = (one_hot * weight[..., None]).mT @ entries  # (B, G, 9), of the candidates behind each operator
    return project_to_so3(group.transpose(1, 2).flatten(2) @ torch.unflatten(sums, 2, (3, 3)).flatten(1, 2))


def _leading(weight: Tensor, heaviest: Tensor, distance: Tensor) -> Tensor:
    """How much each candidate (B, C) leads: less for those lighter than the heaviest one and far from the centre."""
    relative = weight / weight.gather(1, heaviest).clamp(min=torch.finfo(weight.dtype).tiny)
    heavy = ((relative - LEADING) / (1.0 - LEADING)).clamp(min=0.0)
    return heavy * ((1.0 - distance / MODE_RADIUS) / (1.0 - LEADING)).clamp(0.0, 1.0)


def _bump(distance: Tensor, radius: float) -> Tensor:
    """A weight that falls smoothly from 1 to 0 at the radius."""
    return (1.0 - (distance / radius) ** 2).clamp(min=0.0) ** 2
