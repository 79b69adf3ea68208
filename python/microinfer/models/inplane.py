"""The density over the in-plane angle: ``p(phi) ~ exp Re sum_n u_n exp(i n phi)``.

The waves ``u_n`` stand as real parts, then imaginary parts, on a tensor's last axis (W = twice the orders). The density
is normalised on a grid of angles, which bounds how sharp it can become.
"""

import math

import torch
from torch import Tensor

ORDERS = (1, 2, 3, 4, 6)
"""Angular orders n."""
ANGLES = 180
"""Points of the grid."""
STEP = 2.0 * math.pi / ANGLES
"""Distance of neighbouring grid points in radians."""
PEAKS = 6
"""Peaks that `peaks` looks for."""
WINDOW = 3
"""Grid points on either side of a peak whose density belongs to it."""


def waves_of_angle() -> Tensor:
    """Matrix (W, ANGLES) that takes waves to the log-density on the grid, relative to that at the angle 0."""
    return _density_of_waves(torch.arange(ANGLES, dtype=torch.float64) * STEP).float().T.contiguous()


def peaks(waves: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Find the highest peaks of densities.

    Parameters
    ----------
    waves : Tensor, shape (..., W)
        The densities.
    table : Tensor, shape (W, ANGLES)
        As `waves_of_angle` returns it.

    Returns
    -------
    angle : Tensor, shape (..., PEAKS)
        Where the peaks are, in radians.
    mass : Tensor, shape (..., PEAKS)
        The probability of each, 0 where there are fewer peaks.
    """
    # The grid is laid upon the highest peak, so that it turns with the pattern, and the log-density is relative to
    # that peak's: where it counts it is small, so that float32 holds enough of its digits.
    top = _climb(waves, (waves @ table).argmax(-1, keepdim=True).float() * STEP)
    waves = _turn(waves, top)
    log_density = waves @ table
    is_peak = (log_density >= log_density.roll(1, -1)) & (log_density > log_density.roll(-1, -1))
    height, index = log_density.masked_fill(~is_peak, -torch.inf).topk(PEAKS, -1)
    angle = _climb(waves, index.float() * STEP)
    window = torch.arange(-WINDOW, WINDOW + 1, device=index.device)
    around = _turn(waves[..., None, :], angle[..., None]) @ table[:, window]
    higher = (waves[..., None, :] * _density_of_waves(angle).to(waves.dtype)).sum(-1)
    mass = (higher + around.logsumexp(-1) - log_density.logsumexp(-1, keepdim=True)).exp()
    return angle + top, mass.masked_fill(height.isinf(), 0.0)


def _density_of_waves(angle: Tensor) -> Tensor:
    """What waves of 1 add to the log-density at the angles (...), relative to that at the angle 0: (..., W) float64."""
    turned = angle.double()[..., None] * torch.tensor(ORDERS, device=angle.device)
    return torch.cat([turned.cos() - 1.0, -turned.sin()], -1)


def _turn(waves: Tensor, angle: Tensor) -> Tensor:
    """Waves (..., W) of the density whose zero lies at the angle (..., 1)."""
    a, b = waves.chunk(2, -1)
    turned = angle.double() * torch.tensor(ORDERS, device=angle.device)
    cos, sin = turned.cos().to(waves.dtype), turned.sin().to(waves.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


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
