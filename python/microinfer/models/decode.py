"""From the posterior's cells and in-plane densities to its most probable orientations.

A cell's density over the in-plane angle is ``p(phi) ~ exp Re sum_n u_n exp(i n phi)``. Its waves ``u_n`` stand as real
parts, then imaginary parts, on a tensor's last axis (W = twice the orders).

``cpp/src/answers/decoder.cpp`` says the same for the core.
"""

import math

import torch
from torch import Tensor

from microinfer.models.network import Candidates
from microinfer.ops.rotations import project_to_so3

ORDERS = (1, 2, 3, 4, 6)
"""Angular orders n."""
ANGLES = 360
"""Points of the grid on which densities are read: fine enough for their sums to turn with the pattern."""
STEP = 2.0 * math.pi / ANGLES
"""Distance of neighbouring grid points in radians."""
PEAKS = 6
"""Peaks of a density that are looked for."""
WINDOW = 6
"""Grid points on either side of a peak whose probability belongs to it."""
TOP_CELLS = 16
"""Cells that are looked at; the others hold next to no probability near a mode."""
NEGLIGIBLE = 1e-6
"""Peaks with less than this share of the most probable cell's probability are dropped."""
MODES = 6
"""Modes that are found: the candidates of a pattern."""
MODE_RADIUS = math.radians(10.0)
"""Peaks further from a mode's centre than this do not enter its mean: wide enough for those around a zone axis to have
one."""
MEANS = 12
"""Means that are taken around each other: then it does not matter which of nearly equal peaks came first."""
CONFIDENCE_RADIUS = math.radians(4.0)
"""A mode's probability counts the peaks this near: 3 degrees and the cells' own spread."""
_MODE_PART, _CONFIDENCE_PART = (math.sin(radius / 2.0) ** 2 for radius in (MODE_RADIUS, CONFIDENCE_RADIUS))


def density_of_waves(points: int = ANGLES) -> Tensor:
    """Matrix (W, points) that takes waves to the log-density, up to a constant, on a grid around the circle."""
    turned = (
        torch.tensor(ORDERS)[:, None] * torch.arange(points, dtype=torch.float64) * (2.0 * math.pi / points)
    )
    return torch.cat([turned.cos(), -turned.sin()]).float()


def find_modes(
    logits: Tensor, waves: Tensor, density: Tensor, frames: Tensor, cell_phase: Tensor, operators: Tensor
) -> Candidates:
    """Find the posterior's most probable modes, one after the other.

    The peaks are those of the in-plane density in the most probable cells. A mode is the weighted mean rotation of the
    peaks near the heaviest one, equivalents taken together; its peaks then leave. Where none is left, a mode has the
    probability 0. None is valid where "no crystal" is more probable than all of them.

    Parameters
    ----------
    logits : Tensor, shape (B, K + 1)
        Of the cells and of "no crystal".
    waves : Tensor, shape (B, K, W)
        In-plane waves of each cell.
    density : Tensor, shape (W, ANGLES)
        As `density_of_waves` returns it.
    frames : Tensor, shape (K, 3, 3)
        Rotation of each cell at in-plane angle 0.
    cell_phase : Tensor, shape (K,)
        Phase of each cell.
    operators : Tensor, shape (P, G, 3, 3)
        Proper operators of each phase.

    Returns
    -------
    Candidates
        `MODES` for each pattern, the most probable first.
    """
    probability = logits.softmax(-1)
    top, cells = probability[:, :-1].topk(min(TOP_CELLS, logits.shape[1] - 1), -1)
    angle, mass = _peaks(waves.gather(1, cells[..., None].expand(-1, -1, waves.shape[-1])), density)
    weight = top[..., None] * mass
    weight = torch.where(weight < NEGLIGIBLE * top[:, :1, None], 0.0, weight).flatten(1)  # (B, C)
    peaks = _turned(frames[cells], angle).flatten(3).flatten(1, 2)  # (B, C, 9)
    phase = cell_phase[cells][..., None].expand_as(angle).flatten(1)

    found = []
    for _ in range(MODES):
        heaviest = weight.argmax(1, keepdim=True)
        mode_phase = phase.gather(1, heaviest)
        same = phase == mode_phase
        centre = peaks.gather(1, heaviest[..., None].expand(-1, -1, 9))  # (B, 1, 9)
        near = _nearest_equivalents(peaks, centre, operators[mode_phase[:, 0]])
        for _ in range(MEANS):
            fall = (1.0 - _part_of_turn(near, centre) / _MODE_PART).clamp(
                min=0.0
            ) ** 2  # smoothly to nothing at the radius
            centre = _mean(near, weight * same * fall)
        part = _part_of_turn(near, centre)
        counts = weight * (same & (part < _CONFIDENCE_PART))
        found.append((torch.unflatten(centre[:, 0], 1, (3, 3)), mode_phase[:, 0], counts.sum(1)))
        leaves = (same & (part < _MODE_PART)).scatter(1, heaviest, 1)  # True cannot be traced
        weight = weight.masked_fill(leaves, 0.0)
    matrix, phases, probabilities = (torch.stack(part, 1) for part in zip(*found, strict=True))
    order = probabilities.argsort(dim=1, descending=True, stable=True)
    total = probabilities.sum(-1, keepdim=True)
    return Candidates(
        matrix.gather(1, order[..., None, None].expand_as(matrix)),
        phases.gather(1, order),
        # neighbouring peaks of a density may share grid points, which then count for both
        probabilities.gather(1, order) / total.clamp(min=1.0),
        probability[:, -1] < total[:, 0],
    )


def _peaks(waves: Tensor, density: Tensor) -> tuple[Tensor, Tensor]:
    """Highest peaks of densities (..., W): their angles in radians and their probabilities, (..., PEAKS) each."""
    log_density = (waves @ density).log_softmax(-1)
    is_peak = (log_density >= log_density.roll(1, -1)) & (log_density > log_density.roll(-1, -1))
    height, index = log_density.masked_fill(~is_peak, -torch.inf).topk(PEAKS, -1)
    window = torch.arange(-WINDOW, WINDOW + 1, device=index.device)
    around = (index[..., None] + window) % ANGLES
    mass = log_density.exp().gather(-1, around.flatten(-2)).view(around.shape).sum(-1)
    return _climb(waves, index.float() * STEP), mass.masked_fill(height.isinf(), 0.0)


def _climb(waves: Tensor, start: Tensor, steps: int = 3) -> Tensor:
    """From grid points (..., P) to the maxima beside them, by Newton's method within one grid step."""
    a, b = waves[..., None, :].chunk(2, -1)
    orders = torch.tensor(ORDERS, device=start.device)
    angle = start
    for _ in range(steps):
        turned = angle[..., None] * orders
        cos, sin = turned.cos(), turned.sin()
        slope = -(orders * (a * sin + b * cos)).sum(-1)
        curvature = -(orders**2 * (a * cos - b * sin)).sum(-1)
        step = torch.where(curvature < 0.0, -slope / curvature.clamp(max=-1e-6), slope.sign() * STEP)
        angle = start + (angle + step - start).clamp(-STEP, STEP)
    return angle


def _turned(frames: Tensor, angle: Tensor) -> Tensor:
    """Frames (B, T, 3, 3), each turned about its own z axis by its angles (B, T, P): (B, T, P, 3, 3)."""
    x, y, z = frames[:, :, None].unbind(-1)  # columns
    cos, sin = angle.cos()[..., None], angle.sin()[..., None]
    turned = x * cos + y * sin
    return torch.stack([turned, y * cos - x * sin, z.expand_as(turned)], -1)


def _nearest_equivalents(peaks: Tensor, centre: Tensor, group: Tensor) -> Tensor:
    """Of each peak (B, C, 9) the equivalent nearest to the centre (B, 1, 9).

    An operator S of the group (B, G, 3, 3) takes a peak R as near to the centre as its inverse takes the centre to R;
    and tr(R^T S^T centre) is a sum over products of entries.
    """
    of_centre = (group.mT.flatten(1, 2) @ torch.unflatten(centre[:, 0], 1, (3, 3))).view_as(group)
    operator = (peaks @ of_centre.flatten(2).mT).argmax(-1)
    nearest = group.flatten(2).gather(1, operator[..., None].expand(-1, -1, 9))
    return (torch.unflatten(nearest, 2, (3, 3)) @ torch.unflatten(peaks, 2, (3, 3))).flatten(2)


def _part_of_turn(rotations: Tensor, centre: Tensor) -> Tensor:
    """(B, C): how far rotations (B, C, 9) are from a centre (B, 1, 9), as sin^2 of half the angle."""
    return (3.0 - (rotations * centre).sum(-1)) / 4.0


def _mean(rotations: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean rotation (B, 1, 9)."""
    total = (weight[:, None] @ rotations)[:, 0]
    return project_to_so3(torch.unflatten(total, 1, (3, 3))).flatten(1)[:, None]
