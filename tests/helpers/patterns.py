"""Random patterns of disks, and rotations about the beam."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from microinfer.peaks import BraggPeaks


def random_pattern(rng: np.random.Generator, disks: int) -> NDArray[np.float32]:
    """A pattern of so many disks, radii 0.3 to 1.9 1/Angstrom, (disks, 3)."""
    radius, angle = rng.uniform(0.3, 1.9, disks), rng.uniform(-np.pi, np.pi, disks)
    columns = [radius * np.cos(angle), radius * np.sin(angle), rng.uniform(0.05, 1.0, disks)]
    return np.column_stack(columns).astype(np.float32)


def random_patterns(seed: int, count: int = 6) -> list[NDArray[np.float32]]:
    """Patterns of 4 to 19 disks."""
    rng = np.random.default_rng(seed)
    return [random_pattern(rng, disks) for disks in rng.integers(4, 20, count)]


def awkward_patterns(seed: int, count: int) -> list[NDArray[np.float32]]:
    """Patterns with a direct beam of 0 to 34 disks; of every ten one is empty, one has more than tokens hold."""
    rng = np.random.default_rng(seed)
    patterns = []
    for index in range(count):
        disks = {1: 0, 5: int(rng.integers(76, 121))}.get(index % 10, int(rng.integers(0, 35)))
        beam = np.array([[0.001, 0.0, 50.0]], np.float32)[: index % 3]
        patterns.append(np.vstack([beam, random_pattern(rng, disks)]))
    return patterns


def scan_of(patterns: list[NDArray[np.float32]], angle: float = 0.0) -> BraggPeaks:
    """The patterns as a scan of one column, turned in the detector's plane."""
    turn = about_z(angle)[:2, :2]
    turned = [np.column_stack([pattern[:, :2] @ turn.T, pattern[:, 2]]) for pattern in patterns]
    return BraggPeaks.from_patterns(turned, (len(turned), 1))


def about_z(angle: float) -> NDArray[np.float64]:
    """Rotation about the beam by an angle in radians."""
    return Rotation.from_euler("z", angle).as_matrix()
