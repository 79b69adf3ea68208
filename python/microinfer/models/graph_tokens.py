"""Tokenization in torch's own operators: the rule of `microinfer.ops.tokens`, for padded patterns."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens


def tokenize_padded(peaks: Tensor, count: Tensor, spec: TokenSpec) -> Tokens:
    """Turn padded Bragg peaks into tokens.

    Equal to `microinfer.ops.tokens.tokenize_arrays`, the angle to rounding, but that a pattern without disks shows
    the model one disk at radius 0, so that no answer becomes NaN on the way; its `count` stays 0.

    Parameters
    ----------
    peaks : Tensor
        qx and qy in 1/Angstrom and the intensity in any unit, (B, N, 3) float32.
    count : Tensor
        Peaks of each pattern, (B,) int64; what lies behind them is not looked at.
    spec : TokenSpec
        Ranges, bins and limits.

    Returns
    -------
    Tokens
        L = N disks in a row, but at least 2 and at most ``spec.max_disks``.
    """
    length = _between(2, peaks.shape[1], spec.max_disks)
    peaks = functional.pad(peaks, (0, 0, 0, 2))  # so that there are as many, however few are given
    place = torch.arange(peaks.shape[1], device=peaks.device)
    given = place < count[:, None]
    finite = (peaks.isfinite().all(-1) | ~given).all(-1)
    looked_at = given & finite[:, None]
    # + 0.0: negative zeros count as zeros
    qx, qy, intensity = (torch.where(looked_at[..., None], peaks, 0.0) + 0.0).unbind(-1)
    x, y = qx.double(), qy.double()  # their products are exact
    radius = (x * x + y * y).sqrt().float()
    angle = torch.atan2(y, x).float()
    angle = torch.where(angle <= -_PI, _PI, angle)
    in_range = (radius >= _single(spec.direct_beam_radius)) & (radius <= _single(spec.radius_max))
    in_range = in_range & (intensity > 0.0) & looked_at
    strongest = torch.where(in_range, intensity, 0.0).amax(1, keepdim=True)
    relative = intensity / torch.where(strongest > 0.0, strongest, 1.0)
    is_disk = in_range & (relative >= _single(spec.intensity_min))

    order = _order(torch.where(is_disk, intensity, -torch.inf), qx, qy)
    front = torch.arange(length, device=peaks.device)
    order = order.gather(1, front.expand(peaks.shape[0], -1))
    kept = is_disk.gather(1, order)
    number = kept.sum(1)
    radius, angle, relative = (
        torch.where(kept, values.gather(1, order), 0.0) for values in (radius, angle, relative)
    )
    return Tokens(
        radius,
        angle,
        relative,
        _bin(radius.double() / _single(spec.radius_max) * spec.radius_bins, kept, spec.radius_bins),
        _bin(
            (angle.double() + math.pi) / (2.0 * math.pi) * spec.angle_bins,
            kept,
            spec.angle_bins,
            periodic=True,
        ),
        _bin(
            (relative.double() - _single(spec.intensity_min))
            / (1.0 - _single(spec.intensity_min))
            * spec.intensity_bins,
            kept,
            spec.intensity_bins,
        ),
        kept | ((number == 0)[:, None] & (front == 0)),
        number.int(),
        finite & (number >= spec.min_disks),
    )


def pad_ragged(values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Lay ragged Bragg peaks out as `tokenize_padded` takes them.

    Parameters
    ----------
    values : Tensor
        Peaks of all patterns, (P, 3) float32.
    offsets : Tensor
        Pattern i holds the peaks ``offsets[i]:offsets[i + 1]``; (B + 1,) int64.

    Returns
    -------
    peaks : Tensor
        (B, N, 3), N the largest number of peaks of a pattern.
    count : Tensor
        (B,) int64.
    """
    count = offsets[1:] - offsets[:-1]
    place = torch.arange(_size(functional.pad(count, (0, 1)).amax()), device=values.device)
    # a row more, for places behind a pattern's last peak
    values = functional.pad(values, (0, 0, 0, 1))
    index = torch.where(place < count[:, None], offsets[:-1, None] + place, values.shape[0] - 1)
    return values[index], count


def _order(intensity: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
    """Places of the peaks by falling intensity, ties by rising qx, then qy."""
    order = qy.argsort(dim=1, stable=True)
    order = order.gather(1, qx.gather(1, order).argsort(dim=1, stable=True))
    return order.gather(1, intensity.gather(1, order).argsort(dim=1, stable=True, descending=True))


def _between(low: int, size: Any, high: int) -> Any:
    """The size of a tensor, within limits: a tensor where it is traced."""
    return size.clamp(low, high) if isinstance(size, Tensor) else min(max(low, size), high)


def _size(number: Tensor) -> Any:
    """A number as the size of a tensor, which is a tensor itself where it is traced."""
    return number if torch._C._get_tracing_state() is not None else int(number)


def _bin(position: Tensor, kept: Tensor, bins: int, periodic: bool = False) -> Tensor:
    index = position.floor().long()
    index = torch.where(index < bins, index, index - bins) if periodic else index.clamp(max=bins - 1)
    return torch.where(kept, index, 0).int()


def _single(value: float) -> float:
    """The number as the core has it, in float32."""
    return float(np.float32(value))


_PI = _single(math.pi)
