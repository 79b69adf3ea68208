"""Tokens of Bragg peaks: polar coordinates, relative intensities and their bins, padded to equal length.

The rule, for every pattern (scan position) by itself:

1. A NaN or infinite value anywhere in a pattern makes it invalid, with no disks.
2. Peaks nearer to the centre than ``direct_beam_radius`` (the direct beam), farther than ``radius_max``, or
   not brighter than zero are dropped. Intensities are divided by the strongest that is left; peaks then below
   ``intensity_min`` are dropped.
3. The disks are ordered by falling intensity, ties by qx, then qy, so that the order of the peaks in the
   input does not matter. The first ``max_disks`` stay.
4. The pattern is valid where at least ``min_disks`` stay.

The bins follow from the float32 features:

- radius: floor(radius / radius_max * radius_bins); radius_max itself falls in the last bin;
- angle: floor((angle + pi) / (2 pi) * angle_bins) mod angle_bins;
- intensity: floor((intensity - intensity_min) / (1 - intensity_min) * intensity_bins); 1 falls in the last
  bin.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microinfer import _core
from microinfer.ops.operators import device_and_stream, refuse_gradient, register_operator
from microinfer.ops.token_spec import DEFAULT_SPEC, TokenSpec
from microinfer.peaks.bragg_peaks import BraggPeaks


class Tokens(NamedTuple):
    """Tokens of B patterns, padded with zeros to L disks."""

    radius: Tensor
    """Distance from the centre, 1/Angstrom; (B, L) float32."""
    angle: Tensor
    """Polar angle atan2(qy, qx), radians in (-pi, pi]; (B, L) float32."""
    intensity: Tensor
    """Intensity over that of the pattern's strongest disk; (B, L) float32."""
    radius_bin: Tensor
    """Radial bins; (B, L) int32."""
    angle_bin: Tensor
    """Polar-angle bins; (B, L) int32."""
    intensity_bin: Tensor
    """Intensity bins; (B, L) int32."""
    mask: Tensor
    """True where there is a disk; (B, L) bool."""
    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    """Disks of each pattern; (B,) int32."""
    valid: Tensor
    """True where a pattern may be used; (B,) bool."""


def tokenize(peaks: BraggPeaks, spec: TokenSpec = DEFAULT_SPEC) -> Tokens:
    """Turn the Bragg peaks of a scan into tokens by the rule of this module.

    Parameters
    ----------
    peaks : BraggPeaks
        Peaks of N scan positions.
    spec : TokenSpec
        Ranges, bins and limits.

    Returns
    -------
    Tokens
        On the CPU, B = N patterns in row-major order, L the largest number of disks at any position.
    """
    flat = (peaks.qx, peaks.qy, peaks.intensity, peaks.offsets)
    length = int(_core.count_disks(*flat, spec.core).max(initial=0))
    return Tokens(*map(torch.from_numpy, _core.tokenize(*flat, spec.core, length)))


def tokenize_arrays(
    qx: Tensor,
    qy: Tensor,
    intensity: Tensor,
    offsets: Tensor,
    spec: TokenSpec = DEFAULT_SPEC,
    length: int | None = None,
) -> Tokens:
    """Turn flat arrays of Bragg peaks, on the CPU or a GPU, into tokens on the same device.

    Parameters
    ----------
    qx, qy : Tensor
        Coordinates, (P,) float32, 1/Angstrom.
    intensity : Tensor
        Intensities, (P,) float32, any unit.
    offsets : Tensor
        Pattern i holds the peaks ``offsets[i]:offsets[i + 1]``; (B + 1,) int64. On a GPU its values are not
        checked, which would wait for the device: a pattern whose offsets do not lie within the peaks is
        invalid.
    spec : TokenSpec
        Ranges, bins and limits.
    length : int, optional
        Disks per row of the result; of a pattern with more, the strongest stay, as with ``max_disks``. Where
        it is not given it is the largest number of disks of any pattern; a GPU is waited for to find it.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If shapes do not fit, `offsets` (on the CPU) do not rise from 0 to P, or `length` is negative.
    """
    flat = (qx, qy, intensity, offsets)
    numbers = tuple(spec.to_dict().values())
    if length is None:
        count = torch.ops.microinfer.count_disks(*flat, *numbers)
        length = int(count.max()) if count.numel() else 0
    return Tokens(*torch.ops.microinfer.tokenize(*flat, length, *numbers))


# --- torch operators --------------------------------------------------------------------------------------

_PEAKS = "Tensor qx, Tensor qy, Tensor intensity, Tensor offsets"
_SPEC = (
    "float radius_max, int radius_bins, int angle_bins, float intensity_min, int intensity_bins, "
    "float direct_beam_radius, int max_disks, int min_disks"
)
_PADDED_DTYPES = (torch.float32,) * 3 + (torch.int32,) * 3 + (torch.bool,)


def _empty_tokens(qx: Tensor, patterns: int, length: int) -> tuple[Tensor, ...]:
    padded = tuple(qx.new_empty((patterns, length), dtype=dtype) for dtype in _PADDED_DTYPES)
    return (*padded, qx.new_empty(patterns, dtype=torch.int32), qx.new_empty(patterns, dtype=torch.bool))


def _core_spec(*numbers: Any) -> _core.TokenSpec:
    return TokenSpec(*numbers).core


_Flat = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def _host_peaks(qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor) -> _Flat:
    x, y, i, o = (array.detach().contiguous().numpy() for array in (qx, qy, intensity, offsets))
    return x, y, i, o


def _count_disks_cpu(qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor, *numbers: Any) -> Tensor:
    flat = _host_peaks(qx, qy, intensity, offsets)
    return torch.from_numpy(_core.count_disks(*flat, _core_spec(*numbers)))


def _tokenize_cpu(
    qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor, length: int, *numbers: Any
) -> tuple[Tensor, ...]:
    flat = _host_peaks(qx, qy, intensity, offsets)
    return tuple(map(torch.from_numpy, _core.tokenize(*flat, _core_spec(*numbers), length)))


def _device_peaks(qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor) -> list[Tensor]:
    """Check what the core's CUDA functions, which see addresses alone, rely on."""
    flat = {"qx": qx, "qy": qy, "intensity": intensity, "offsets": offsets}
    for name, array in flat.items():
        dtype = torch.int64 if name == "offsets" else torch.float32
        if array.dtype != dtype:
            raise TypeError(f"{name} must have dtype {dtype}, got {array.dtype}")
        if array.device != qx.device:
            raise ValueError(f"{name} must be on the device of qx, {qx.device}, got {array.device}")
        if array.ndim != 1 or (name != "offsets" and array.shape != qx.shape):
            raise ValueError(f"{name} must be flat and as long as qx, got shape {tuple(array.shape)}")
    if len(offsets) < 1:
        raise ValueError("offsets must have shape (N + 1,), got (0,)")
    return [array.contiguous() for array in flat.values()]


def _count_disks_cuda(qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor, *numbers: Any) -> Tensor:
    x, y, i, o = _device_peaks(qx, qy, intensity, offsets)
    count = x.new_empty(len(o) - 1, dtype=torch.int32)
    _core.count_disks_cuda(
        *(x.data_ptr(), y.data_ptr(), i.data_ptr(), o.data_ptr()),
        *(len(o) - 1, len(x)),
        _core_spec(*numbers),
        count.data_ptr(),
        *device_and_stream(x),
    )
    return count


def _tokenize_cuda(
    qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor, length: int, *numbers: Any
) -> tuple[Tensor, ...]:
    x, y, i, o = _device_peaks(qx, qy, intensity, offsets)
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}")
    tokens = _empty_tokens(x, len(o) - 1, length)
    _core.tokenize_cuda(
        *(x.data_ptr(), y.data_ptr(), i.data_ptr(), o.data_ptr()),
        *(len(o) - 1, len(x)),
        _core_spec(*numbers),
        length,
        [array.data_ptr() for array in tokens],
        *device_and_stream(x),
    )
    return tokens


def _count_disks_fake(qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor, *_: Any) -> Tensor:
    return qx.new_empty(offsets.shape[0] - 1, dtype=torch.int32)


def _tokenize_fake(
    qx: Tensor, qy: Tensor, intensity: Tensor, offsets: Tensor, length: int, *_: Any
) -> tuple[Tensor, ...]:
    return _empty_tokens(qx, offsets.shape[0] - 1, length)


register_operator(
    f"count_disks({_PEAKS}, {_SPEC}) -> Tensor",
    cpu=_count_disks_cpu,
    cuda=_count_disks_cuda,
    fake=_count_disks_fake,
)
register_operator(
    f"tokenize({_PEAKS}, int length, {_SPEC}) -> ({', '.join(['Tensor'] * 9)})",
    cpu=_tokenize_cpu,
    cuda=_tokenize_cuda,
    fake=_tokenize_fake,
)
refuse_gradient("count_disks", "the number of disks")
refuse_gradient("tokenize", "tokenization")
