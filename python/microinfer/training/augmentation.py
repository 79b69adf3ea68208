"""Batches of patterns as an experiment would give them, made from a library on the fly."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from microinfer.models.network import NO_CRYSTAL
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens, tokenize_arrays
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.library import PatternLibrary
from microinfer.training.config import AugmentationConfig

CHUNK_BATCHES = 64
"""Batches that are drawn together, so that patterns of nearly equal length can be put in one batch."""


class Batch(NamedTuple):
    """Tokenized patterns and their labels."""

    tokens: Tokens
    orientation: Tensor
    """(B, 3, 3) float32."""
    phase: Tensor
    """(B,) int64, `NO_CRYSTAL` for patterns of false disks alone."""

    def peaks(self) -> BraggPeaks:
        """The disks as Bragg peaks, a scan row for each pattern."""
        mask = self.tokens.mask.numpy()
        radius, angle, intensity = (values.numpy()[mask] for values in self.tokens[:3])
        offsets = np.concatenate([[0], np.cumsum(mask.sum(1))])
        return BraggPeaks(offsets, radius * np.cos(angle), radius * np.sin(angle), intensity, (len(mask), 1))


class _Flat(NamedTuple):
    """Ragged disks as flat arrays; `pattern` says which pattern a disk belongs to."""

    q: NDArray[np.float32]  # (P, 2)
    intensity: NDArray[np.float32]  # (P,)
    pattern: NDArray[np.int64]  # (P,)

    def keep(self, which: NDArray[np.bool_]) -> "_Flat":
        return _Flat(self.q[which], self.intensity[which], self.pattern[which])


def training_batches(
    library: PatternLibrary,
    members: NDArray[np.int64],
    spec: TokenSpec,
    augmentation: AugmentationConfig,
    batch_size: int,
    seed: int,
    first_chunk: int = 0,
) -> Iterator[tuple[int, Batch]]:
    """Yield (chunk number, batch) without end; each chunk depends on the seed and its own number alone.

    Parameters
    ----------
    library : PatternLibrary
        The patterns.
    members : ndarray of int64
        Which of them to draw.
    spec : TokenSpec
        Token ranges.
    augmentation : AugmentationConfig
        What happens to a pattern.
    batch_size : int
        Patterns in a batch; their numbers of disks are as equal as a chunk allows.
    seed, first_chunk : int
        Where the stream begins.

    Raises
    ------
    ValueError
        If hardly any pattern has enough disks.
    """
    chunk = first_chunk
    while True:
        rng = np.random.default_rng([seed, chunk])
        drawn = rng.choice(members, CHUNK_BATCHES * batch_size)
        batch = augmented(library, drawn, spec, augmentation, rng)
        usable = batch.tokens.valid.nonzero()[:, 0]
        if len(usable) < 2:
            raise ValueError(
                f"{len(usable)} of {len(drawn):,} patterns drawn from the library hold the {spec.min_disks} disks "
                "that tokens.min_disks asks for, within the ranges of [tokens]: there is nothing to train with"
            )
        by_length = usable[torch.argsort(batch.tokens.count[usable], dim=0, stable=True)]
        parts = torch.split(by_length, batch_size)
        for index in rng.permutation(len(parts)):
            if len(parts[index]) > 1:
                yield chunk, subset(batch, parts[index])
        chunk += 1


def turned(library: PatternLibrary, members: NDArray[np.int64], spec: TokenSpec, seed: int) -> Batch:
    """Patterns with a random in-plane rotation and nothing else, for validation."""
    rng = np.random.default_rng(seed)
    flat, orientation = _turn(library, members, rng)
    return _tokenized(flat, orientation, library.phase[members], spec)


def augmented(
    library: PatternLibrary,
    members: NDArray[np.int64],
    spec: TokenSpec,
    augmentation: AugmentationConfig,
    rng: np.random.Generator,
) -> Batch:
    """Turn, disturb and tokenize some patterns of a library (the paper's Supplementary Text S3)."""
    count = len(members)
    flat, orientation = _turn(library, members, rng)
    phase = library.phase[members].copy()

    empty = rng.random(count) < augmentation.no_crystal
    phase[empty] = NO_CRYSTAL
    flat = flat.keep(~empty[flat.pattern])
    flat = _dim(_distort(flat, count, augmentation, rng), count, augmentation, rng)
    false_mean = rng.uniform(0.0, 2.0 * augmentation.false_disks, count)
    false_mean[empty] = rng.uniform(*augmentation.no_crystal_disks, int(empty.sum()))
    flat = _add_false_disks(flat, false_mean, library.simulation.k_max, rng)
    flat = _hide(flat, count, library.simulation.k_max, augmentation, rng)
    return _tokenized(flat, orientation, phase, spec)


def joined(first: Batch, second: Batch) -> Batch:
    """The patterns of two batches, one after the other."""
    length = max(first.tokens.radius.shape[1], second.tokens.radius.shape[1])
    parts = [
        torch.cat(
            [functional.pad(part, (0, length - part.shape[1])) if part.dim() == 2 else part for part in pair]
        )
        for pair in zip(first.tokens, second.tokens, strict=True)
    ]
    return Batch(
        Tokens(*parts),
        torch.cat([first.orientation, second.orientation]),
        torch.cat([first.phase, second.phase]),
    )


def subset(batch: Batch, rows: Tensor) -> Batch:
    """Some patterns of a batch, padded no further than the longest of them."""
    length = int(batch.tokens.count[rows].max())
    parts = [part[rows, :length] if part.dim() == 2 else part[rows] for part in batch.tokens]
    return Batch(Tokens(*parts), batch.orientation[rows], batch.phase[rows])


def _turn(
    library: PatternLibrary, members: NDArray[np.int64], rng: np.random.Generator
) -> tuple[_Flat, NDArray[np.float32]]:
    """Some patterns, each turned in the detector plane; M becomes M Rz(phi) transposed."""
    flat, orientation = _gather(library, members)
    bound = 2.0 * np.pi if library.in_plane_bound is None else library.in_plane_bound[members]
    angle = rng.uniform(0.0, bound, len(members))
    rz = np.zeros((len(members), 3, 3), np.float32)
    rz[:, 0, 0] = rz[:, 1, 1] = np.cos(angle)
    rz[:, 1, 0] = np.sin(angle)
    rz[:, 0, 1] = -rz[:, 1, 0]
    rz[:, 2, 2] = 1.0
    q = np.einsum("pij,pj->pi", rz[flat.pattern, :2, :2], flat.q)
    return flat._replace(q=q), orientation @ rz.transpose(0, 2, 1)


def _gather(library: PatternLibrary, members: NDArray[np.int64]) -> tuple[_Flat, NDArray[np.float32]]:
    peaks = library.peaks
    counts = peaks.counts[members]
    pattern = np.repeat(np.arange(len(members)), counts)
    first = np.repeat(peaks.offsets[members] - (np.cumsum(counts) - counts), counts)
    disks = first + np.arange(len(pattern))
    q = np.stack([peaks.qx[disks], peaks.qy[disks]], axis=-1)
    return _Flat(q, peaks.intensity[disks], pattern), library.orientation[members]


def _distort(flat: _Flat, count: int, augmentation: AugmentationConfig, rng: np.random.Generator) -> _Flat:
    """Positions as a calibration leaves them: scale, ellipse and centre a little wrong, every disk jittered."""
    level = rng.random((count, 1))  # each pattern its own share of everything
    scale, stretch, shear = (
        level
        * rng.standard_normal((count, 3)).T[..., None]
        * np.array([augmentation.scale_error, augmentation.ellipticity, augmentation.ellipticity]).reshape(
            3, 1, 1
        )
    )
    distortion = np.array([[1.0 + scale + stretch, shear], [shear, 1.0 + scale - stretch]])[..., 0]
    shift = augmentation.centre_shift * level * rng.standard_normal((count, 2))
    jitter = augmentation.position_jitter * rng.random((count, 1))[flat.pattern]
    q = np.einsum("ijp,pj->pi", distortion[..., flat.pattern], flat.q) + shift[flat.pattern]
    q = q + jitter * rng.standard_normal(flat.q.shape)
    if augmentation.radial_jitter or augmentation.angular_jitter:
        polar = rng.random((count, 1))[flat.pattern] * rng.standard_normal(flat.q.shape)
        turned = np.exp(1j * np.radians(augmentation.angular_jitter) * polar[:, 0]) * (q[:, 0] + 1j * q[:, 1])
        turned *= 1.0 + augmentation.radial_jitter * polar[:, 1] / np.maximum(np.abs(turned), 1e-9)
        q = np.stack([turned.real, turned.imag], axis=-1)
    return flat._replace(q=q.astype(np.float32))


def _dim(flat: _Flat, count: int, augmentation: AugmentationConfig, rng: np.random.Generator) -> _Flat:
    """Intensities as a camera gives them: jittered, compressed or flattened, the weak ones lost."""
    jitter = augmentation.intensity_jitter * rng.random(count)[flat.pattern]
    intensity = flat.intensity * np.exp(jitter * rng.standard_normal(len(flat.pattern)))
    strongest = np.zeros(count)
    np.maximum.at(strongest, flat.pattern, intensity)
    intensity /= np.maximum(strongest, 1e-30)[flat.pattern]
    power = np.where(rng.random(count) < augmentation.compress, rng.uniform(0.3, 1.0, count), 1.0)
    power[rng.random(count) < augmentation.flatten] = 0.0
    intensity = intensity ** power[flat.pattern]
    threshold = rng.uniform(0.0, augmentation.lose_weak_threshold, count)
    threshold[rng.random(count) >= augmentation.lose_weak] = 0.0
    visible = intensity >= threshold[flat.pattern]
    return flat._replace(intensity=intensity.astype(np.float32)).keep(visible)


def _hide(
    flat: _Flat, count: int, k_max: float, augmentation: AugmentationConfig, rng: np.random.Generator
) -> _Flat:
    """Lose what lies beyond the detector's edge, or behind the bar of a beam stop."""
    edge = np.full(count, k_max)
    cropped = rng.random(count) < augmentation.cropped
    edge[cropped] = rng.uniform(*augmentation.edge_range, int(cropped.sum()))
    angle = rng.uniform(0.0, 2.0 * np.pi, count)[flat.pattern]
    along = flat.q[:, 0] * np.cos(angle) + flat.q[:, 1] * np.sin(angle)
    across = flat.q[:, 1] * np.cos(angle) - flat.q[:, 0] * np.sin(angle)
    width = np.where(rng.random(count) < augmentation.beam_stop, rng.uniform(0.02, 0.15, count), -1.0)
    behind = (along > 0.0) & (np.abs(across) < width[flat.pattern])
    return flat.keep((np.abs(flat.q).max(axis=1, initial=0.0) <= edge[flat.pattern]) & ~behind)


def _add_false_disks(flat: _Flat, mean: NDArray[np.float64], k_max: float, rng: np.random.Generator) -> _Flat:
    """Add disks, uniform over the detector, with 2 to 20 % of the strongest disk's intensity."""
    number = rng.poisson(mean)
    pattern = np.repeat(np.arange(len(mean)), number)
    radius = k_max * np.sqrt(rng.random(len(pattern)))
    angle = rng.uniform(0.0, 2.0 * np.pi, len(pattern))
    q = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).astype(np.float32)
    intensity = rng.uniform(0.02, 0.2, len(pattern)).astype(np.float32)
    return _Flat(
        np.concatenate([flat.q, q]),
        np.concatenate([flat.intensity, intensity]),
        np.concatenate([flat.pattern, pattern]),
    )


def _tokenized(
    flat: _Flat, orientation: NDArray[np.float32], phase: NDArray[np.int64], spec: TokenSpec
) -> Batch:
    order = np.argsort(flat.pattern, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(flat.pattern, minlength=len(phase)))])
    tokens = tokenize_arrays(
        torch.from_numpy(flat.q[order, 0].astype(np.float32)),
        torch.from_numpy(flat.q[order, 1].astype(np.float32)),
        torch.from_numpy(flat.intensity[order].astype(np.float32)),
        torch.from_numpy(offsets),
        spec,
    )
    return Batch(tokens, torch.from_numpy(orientation), torch.from_numpy(phase))
