"""Tokenization against vectorised NumPy, symmetry-min geodesic loss against plain torch; one thread."""

import numpy as np
import pytest
import torch
from torch import Tensor

from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import random_orientations
from microinfer.ops.rotations import symmetry_min_geodesic
from microinfer.ops.token_spec import DEFAULT_SPEC, TokenSpec
from microinfer.ops.tokens import tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks

BATCH = 1024


def numpy_tokenize(peaks: BraggPeaks, spec: TokenSpec) -> tuple[np.ndarray, ...]:
    """The rule of `microinfer.ops.tokens` on whole arrays: the same outputs in the same order."""
    patterns = len(peaks)
    of_pattern = np.repeat(np.arange(patterns), peaks.counts)  # [P]
    table = np.stack([peaks.qx, peaks.qy, peaks.intensity])
    finite = np.ones(patterns, bool)
    finite[of_pattern[~np.isfinite(table).all(axis=0)]] = False
    radius = np.hypot(table[0], table[1])
    keep = (radius >= np.float32(spec.direct_beam_radius)) & (radius <= np.float32(spec.radius_max))
    keep &= (table[2] > 0) & finite[of_pattern]
    table, radius, of_pattern = table[:, keep], radius[keep], of_pattern[keep]

    strongest = np.zeros(patterns, np.float32)
    np.maximum.at(strongest, of_pattern, table[2])
    relative = table[2] / strongest[of_pattern]
    keep = relative >= np.float32(spec.intensity_min)
    table, radius, relative, of_pattern = table[:, keep], radius[keep], relative[keep], of_pattern[keep]

    order = np.lexsort((table[1], table[0], -table[2], of_pattern))
    table, radius, relative, of_pattern = table[:, order], radius[order], relative[order], of_pattern[order]
    count = np.bincount(of_pattern, minlength=patterns)
    rank = np.arange(len(of_pattern)) - (np.cumsum(count) - count)[of_pattern]
    count = np.minimum(count, spec.max_disks)
    keep = rank < spec.max_disks
    place = (of_pattern[keep], rank[keep])
    shape = (patterns, count.max(initial=0))

    def padded(values: np.ndarray, dtype: type) -> np.ndarray:
        result = np.zeros(shape, dtype)
        result[place] = values[keep]
        return result

    angle = np.arctan2(table[1], table[0])
    turns = (angle + np.float32(np.pi)) / np.float32(2 * np.pi)
    angle_bin = np.floor(turns * spec.angle_bins).astype(np.int32) % spec.angle_bins
    radius_bin = np.minimum(
        (radius / spec.radius_max * spec.radius_bins).astype(np.int32), spec.radius_bins - 1
    )
    height = (relative - spec.intensity_min) / (1.0 - spec.intensity_min)
    intensity_bin = np.clip((height * spec.intensity_bins).astype(np.int32), 0, spec.intensity_bins - 1)
    return (
        padded(radius, np.float32),
        padded(angle, np.float32),
        padded(relative, np.float32),
        padded(radius_bin, np.int32),
        padded(angle_bin, np.int32),
        padded(intensity_bin, np.int32),
        np.arange(shape[1]) < count[:, None],
        count.astype(np.int32),
        finite & (count >= spec.min_disks),
    )


def plain_geodesic(predicted: Tensor, label: Tensor, operators: Tensor) -> Tensor:
    """The symmetry-min geodesic angle as its formula stands, (B,) radians."""
    R = torch.einsum("gij,bjk,blk->bgil", operators, label, predicted)  # [B, G, 3, 3]
    off = torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]])
    trace = R.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(off.norm(dim=0) / 2, (trace - 1) / 2).amin(dim=1)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("side", ["microinfer", "numpy"])
def test_tokenize(benchmark, scan: BraggPeaks, side: str) -> None:
    benchmark.group = "tokenize"
    benchmark.extra_info.update(side=side, patterns=len(scan))
    ways = {"microinfer": tokenize, "numpy": numpy_tokenize}
    tokens = benchmark.pedantic(ways[side], (scan, DEFAULT_SPEC), rounds=30, warmup_rounds=3)
    expected = tokenize(scan, DEFAULT_SPEC)
    np.testing.assert_array_equal(tokens[-2], expected.count)  # both sides do the same work
    np.testing.assert_allclose(tokens[0], expected.radius, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("side", ["microinfer", "plain torch"])
def test_loss(benchmark, side: str) -> None:
    """Forward and backward to the prediction, batch 1024, the 24 operators of Cu, float32."""
    benchmark.group = "loss"
    benchmark.extra_info.update(side=side, patterns=BATCH)
    rng = np.random.default_rng(5)
    predicted, label = torch.from_numpy(random_orientations(2 * BATCH, rng)).float().split(BATCH)
    predicted = predicted.clone().requires_grad_()
    operators = torch.from_numpy(load_structure("Cu").phase(2.0).operators).float()
    way = {"microinfer": symmetry_min_geodesic, "plain torch": plain_geodesic}[side]

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(way(predicted, label, operators).sum(), predicted)

    (gradient,) = benchmark.pedantic(step, rounds=50, warmup_rounds=5)
    assert gradient.isfinite().all()
