"""Frames of known disks for tests: soft disks on a diffuse background, counted as a camera counts them."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erfc


@dataclass
class SyntheticFrames:
    """A scan with its truth: x, y (detector pixels) and electrons of each frame's disks, the direct beam first."""

    frames: np.ndarray  # (Rx, Ry, Qx, Qy)
    disks: list[np.ndarray]  # of each position, (n, 3)
    radius: float
    good: np.ndarray  # (Qx, Qy)

    @property
    def centres(self) -> np.ndarray:
        return np.array([disks[0, :2] for disks in self.disks])


def draw_disk(image: np.ndarray, x: float, y: float, electrons: float, radius: float, edge: float) -> None:
    """Add a disk with a soft edge to an image, its part outside cut off."""
    reach = radius + 5.0 * edge + 1.0
    low = np.maximum(np.floor([x - reach, y - reach]), 0).astype(int)
    high = np.minimum(np.ceil([x + reach + 1, y + reach + 1]), image.shape).astype(int)
    fine = (np.arange(3) + 0.5) / 3 - 0.5
    rows = (np.arange(low[0], high[0])[:, None] + fine).ravel() - x
    columns = (np.arange(low[1], high[1])[:, None] + fine).ravel() - y
    r = np.hypot(rows[:, None], columns[None])
    disk = 0.5 * erfc((r - radius) / (np.sqrt(2.0) * edge))
    disk = disk.reshape(high[0] - low[0], 3, high[1] - low[1], 3).mean((1, 3))
    image[low[0] : high[0], low[1] : high[1]] += electrons * disk / (np.pi * radius**2)


def synthetic_frames(
    scan_shape: tuple[int, int],
    size: int = 128,
    *,
    electrons: float = 1e4,
    radius: float = 5.0,
    edge: float = 0.6,
    drift: float = 2.0,
    gain: float = 1.0,
    read_noise: float = 0.0,
    direct: float = 0.4,
    background: float = 0.25,
    grain: int = 4,
    seed: int = 0,
) -> SyntheticFrames:
    """Grains along the scan's rows, each with a lattice of its own.

    Parameters
    ----------
    electrons : float
        Of a frame; `direct` is the direct beam's share, `background` that of the diffuse background.
    drift : float
        How far the direct beam moves over the scan, in pixels.
    grain : int
        Positions of a grain.
    gain, read_noise : float
        Counts for one electron, and standard deviation of the camera's own noise in counts: 1 and 0 count electrons.
    """
    rng = np.random.default_rng(seed)
    grid = np.indices((size, size))
    frames, truth = [], []
    middle = (size - 1) / 2.0
    for rx, ry in np.ndindex(*scan_shape):
        share = np.array([rx / max(scan_shape[0] - 1, 1), ry / max(scan_shape[1] - 1, 1)]) - 0.5
        centre = middle + drift * share + rng.normal(0.0, 0.15, 2) + 0.3
        r = np.hypot(grid[0] - centre[0], grid[1] - centre[1])
        diffuse = 1.0 / (1.0 + (r / (0.12 * size)) ** 2)
        image = background * electrons * diffuse / diffuse.sum()
        if ry % grain == 0:
            crystal = lattice(rng, size, radius)
        points, weights = crystal
        weights = weights * rng.uniform(0.9, 1.1, len(weights))
        weights *= (1.0 - direct - background) * electrons / weights.sum()
        points = np.concatenate([[centre], centre + points])
        weights = np.concatenate([[direct * electrons], weights])
        inside = (points > radius + 1).all(1) & (points < size - 2 - radius).all(1)
        points, weights = points[inside], weights[inside]
        for (x, y), weight in zip(points, weights, strict=True):
            draw_disk(image, x, y, weight, radius, edge)
        counts = gain * rng.poisson(image)
        if read_noise:
            counts = (counts + rng.normal(0.0, read_noise, image.shape)).astype(np.float32)
        else:
            counts = counts.astype(np.uint16)
        frames.append(counts)
        truth.append(np.column_stack([points, weights]))
    stack = np.array(frames).reshape(*scan_shape, size, size)
    return SyntheticFrames(stack, truth, radius, np.ones((size, size), bool))


def lattice(rng: np.random.Generator, size: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of a lattice around 0, without 0, and weights that fall off with the distance."""
    length = rng.uniform(2.6, 5.0) * radius
    angle, between, ratio = rng.uniform(0, np.pi), rng.uniform(np.pi / 3, np.pi / 2), rng.uniform(1.0, 1.6)
    basis = length * np.array(
        [
            [np.cos(angle), np.sin(angle)],
            [ratio * np.cos(angle + between), ratio * np.sin(angle + between)],
        ]
    )
    index = np.stack(np.meshgrid(np.arange(-12, 13), np.arange(-12, 13)), -1).reshape(-1, 2)
    points = index[(index != 0).any(1)] @ basis
    distance = np.hypot(*points.T)
    weights = np.exp(-((distance / (0.35 * size)) ** 2)) * rng.gamma(0.8, 1.0, len(points))
    inside = distance < 0.8 * size
    return points[inside], weights[inside]


def matched(found: np.ndarray, truth: np.ndarray, within: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of found and true points that belong together, each once, the closest pairs first."""
    if len(found) == 0 or len(truth) == 0:
        return np.zeros(0, int), np.zeros(0, int)
    distance = np.hypot(found[:, None, 0] - truth[None, :, 0], found[:, None, 1] - truth[None, :, 1])
    first, second = [], []
    for flat in np.argsort(distance, axis=None):
        i, j = np.unravel_index(flat, distance.shape)
        if distance[i, j] > within:
            break
        if i not in first and j not in second:
            first.append(i)
            second.append(j)
    return np.array(first, int), np.array(second, int)
