"""Patterns that an exported model must answer as the mapper does, and the comparison."""

import copy

import numpy as np
import torch

import microinfer as mi
from microinfer.crystals.symmetry import misorientation
from microinfer.models import OrientationModel, ReferenceModel
from microinfer.ops.tokens import tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks


def awkward_patterns(count: int, seed: int) -> list[np.ndarray]:
    """Random patterns, (n, 3) each: of every ten one is empty, one has one disk, one 76 to 120 and one a NaN."""
    rng = np.random.default_rng(seed)
    patterns = []
    for index in range(count):
        size = {1: 0, 3: 1, 5: int(rng.integers(76, 121))}.get(index % 10, int(rng.integers(2, 35)))
        radius, angle = rng.uniform(0.3, 1.9, size), rng.uniform(-np.pi, np.pi, size)
        # equal intensities now and then: their order is by position
        intensity = np.round(rng.uniform(0.01, 1.0, size), int(rng.integers(1, 6)))
        pattern = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), intensity])
        if index % 4 > 1:
            pattern = np.vstack([pattern, [0.001, 0.0, 50.0]])  # the direct beam
        if index % 10 == 7:
            pattern[rng.integers(len(pattern)), rng.integers(3)] = np.nan
        patterns.append(pattern.astype(np.float32))
    return patterns


def leave_some_open(model: ReferenceModel, seed: int) -> ReferenceModel:
    """Shift a model's outputs towards diag(1, 1, -1), till a part of random patterns gets no answer."""
    tokens = tokenize(scan_of(awkward_patterns(200, seed)), model.spec)
    bias = model.orientation_head[-1].bias
    outputs = []
    with (
        torch.inference_mode(),
        model.orientation_head.register_forward_hook(lambda *call: outputs.append(call[2])),
    ):
        model(tokens)
        bias -= outputs[0][tokens.valid].mean(0)
        for c in torch.linspace(0.8, 0.9, 101):
            shift = torch.diag(torch.tensor([1.0, 1.0, -c])).flatten()
            bias += shift
            answered = model.candidates(tokens).valid.sum() / tokens.valid.sum()
            if answered < 0.8:
                break
            bias -= shift
    assert 0.5 < answered < 0.8
    return model


def scan_of(patterns: list[np.ndarray]) -> BraggPeaks:
    """The patterns as a scan; it may hold no NaN, so those patterns are empty, and as invalid."""
    clean = [pattern if np.isfinite(pattern).all() else pattern[:0] for pattern in patterns]
    return BraggPeaks.from_patterns(clean, (len(clean), 1))


def ragged(patterns: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    offsets = np.cumsum([0, *map(len, patterns)], dtype=np.int64)
    return torch.from_numpy(np.concatenate(patterns)), torch.from_numpy(offsets)


def padded(patterns: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded with NaN, which no one should look at."""
    count = torch.tensor([len(pattern) for pattern in patterns])
    result = torch.full((len(patterns), int(count.max()), 3), torch.nan)
    for row, pattern in zip(result, patterns, strict=True):
        row[: len(pattern)] = torch.from_numpy(pattern)
    return result, count


def check_answers(
    answers: tuple[np.ndarray | torch.Tensor, ...],
    patterns: list[np.ndarray],
    model: OrientationModel,
    refine: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> None:
    """Compare matrix, phase, confidence and valid with those of the mapper."""
    matrix, phase, confidence, valid = (np.asarray(part) for part in answers)
    model = copy.deepcopy(model)  # which a map moves to its device
    omap = mi.map_orientations(scan_of(patterns), model, device=device, refine=refine, dtype=dtype)
    expected = omap.valid.ravel()
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(phase, omap.phase.ravel())
    assert np.isnan(matrix[~expected]).all()
    assert not confidence[~expected].any()
    assert expected.sum() > len(expected) / 3
    angle = misorientation(matrix[expected], omap.matrix.reshape(-1, 3, 3)[expected], np.eye(3)[None])
    error = np.abs(confidence - omap.confidence.ravel())[expected]
    near = (angle <= 1e-4) & (error <= 2e-4)
    assert near.all(), f"{np.sum(~near)} of {len(near)} differ: {angle.max():.2g} rad, {error.max():.2g}"
