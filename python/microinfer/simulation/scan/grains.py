"""The microstructure of a synthetic scan: which crystals, how bent and how thick, lie at each position."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from microinfer.crystals.symmetry import random_orientations
from microinfer.simulation.scan.settings import ScanSettings

_SCANS = 0x4D57
"""Last word of the seeds: no library and no test set draws from generators of as many words."""
GRAINS, CENTRES, PIXELS, NOISE = 1, 2, 3, 4
"""What is random in a scan; each has generators of its own."""


def generator(seed: int, what: int, row: int = 0) -> np.random.Generator:
    """The generator of one of the random things of a scan, or of a row of it."""
    return np.random.Generator(np.random.SFC64([seed, what, row, _SCANS]))


@dataclass(frozen=True, eq=False)
class Crystals:
    """The crystals at some scan positions: two places each, the first for the crystal whose grain it is.

    Attributes
    ----------
    grain : ndarray of int32, shape (Rx, Ry, 2)
        Index of the grain; -1 where there is no crystal.
    bend : ndarray of float64, shape (Rx, Ry, 2)
        Degrees by which the crystal is turned against its grain's mean orientation.
    thickness : ndarray of float64, shape (Rx, Ry, 2)
        In Angstrom; 0 where there is no crystal.
    """

    grain: NDArray[np.int32]
    bend: NDArray[np.float64]
    thickness: NDArray[np.float64]


class Microstructure:
    """Voronoi grains in a round particle.

    Parameters
    ----------
    settings : ScanSettings
        Seed, scan and grains count.

    Attributes
    ----------
    phase : ndarray of int64, shape (G,)
        Phase of each grain.
    """

    def __init__(self, settings: ScanSettings) -> None:
        self._shape, self._config = settings.scan.shape, settings.grains
        rng = generator(settings.seed, GRAINS)
        count = self._config.count
        shares = np.cumsum([phase.share for phase in settings.phases])
        quotas = np.searchsorted(shares / shares[-1], (np.arange(count) + 0.5) / count)
        self.phase = rng.permutation(np.minimum(quotas, len(shares) - 1))
        self._orientation = random_orientations(count, rng)
        self._axis = _directions(rng, count, 3)  # of bending, in the lab's frame
        self._along = _directions(rng, count, 2)  # in the scan
        low, high = (10.0 * bound for bound in self._config.thickness_nm)
        self._thickness = rng.uniform(low, high, count)
        rows, columns = np.indices(self._shape)
        radius = self._radius(np.stack([rows, columns], axis=-1))
        self._rim = np.quantile(radius, 1.0 - self._config.vacuum) if self._config.vacuum else np.inf
        self._centres = self._random_centres(rng)
        area = (1.0 - self._config.vacuum) * np.prod(self._shape)
        self._diameter = 2.0 * np.sqrt(area / (np.pi * count))
        self._tree = cKDTree(self._centres)

    def _radius(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance from the middle of the scan, in half its sides."""
        half = 0.5 * np.array(self._shape)
        return np.asarray(np.linalg.norm((positions + 0.5 - half) / half, axis=-1))

    def _random_centres(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Random points within the particle, shape (G, 2)."""
        found = np.zeros((0, 2))
        while len(found) < self._config.count:
            points = rng.uniform(-0.5, np.array(self._shape) - 0.5, (self._config.count, 2))
            found = np.concatenate([found, points[self._radius(points) <= self._rim]])
        return found[: self._config.count]

    def thicknesses(self, grain: int) -> tuple[float, float]:
        """Smallest and largest thickness in Angstrom that a grain's crystal may have at a position."""
        low, high = (10.0 * bound for bound in self._config.thickness_nm)
        if self._config.thickness == "grains":
            low = high = float(self._thickness[grain])
        return (0.0 if self._config.overlap else low), high

    def orientations(self, grain: NDArray[np.integer[Any]], bend: NDArray[np.float64]) -> NDArray[np.float64]:
        """Orientations of grains where they are bent by some degrees, shape (..., 3, 3)."""
        turns = Rotation.from_rotvec(
            np.radians(np.reshape(bend, (-1, 1))) * self._axis[np.ravel(grain)]
        ).as_matrix()
        # the crystal turns in the lab: v_crystal = M @ v_lab
        turned = self._orientation[np.ravel(grain)] @ np.swapaxes(turns, -1, -2)
        return np.asarray(turned.reshape(*np.shape(bend), 3, 3))

    def rows(self, start: int, stop: int) -> Crystals:
        """The crystals of the scan rows ``start`` to ``stop - 1``."""
        positions = np.stack(
            np.meshgrid(np.arange(start, stop), np.arange(self._shape[1]), indexing="ij"), axis=-1
        ).astype(np.float64)
        nearest = np.zeros((*positions.shape[:2], 2), np.int64)
        inside = np.full(positions.shape[:2], np.inf)  # distance from the boundary
        if len(self._centres) > 1:
            distance, nearest = self._tree.query(positions, k=2)
            apart = np.linalg.norm(np.diff(self._centres[nearest], axis=-2)[..., 0, :], axis=-1)
            inside = (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2.0 * np.maximum(apart, 1e-9))
        crystal = (self._radius(positions) <= self._rim) & (inside >= 0.5 * self._config.channel)
        width = self._config.overlap
        share = np.minimum(1.0, 0.5 + inside / width) if width else np.ones(inside.shape)
        part = np.stack([share, 1.0 - share], axis=-1) * crystal[..., None]
        if self._config.thickness == "grains":
            whole = self._thickness[nearest]
        else:
            low, high = (10.0 * bound for bound in self._config.thickness_nm)
            along = positions[..., :1] / max(1, self._shape[0] - 1)
            whole = low + (high - low) * along
        from_centre = np.einsum(
            "xyci,xyci->xyc", positions[:, :, None] - self._centres[nearest], self._along[nearest]
        )
        bend = 0.5 * self._config.bending * np.sin(np.pi * np.clip(from_centre / self._diameter, -0.5, 0.5))
        return Crystals(
            np.where(part > 0, nearest, -1).astype(np.int32), np.where(part > 0, bend, 0.0), part * whole
        )


def _directions(rng: np.random.Generator, count: int, dimensions: int) -> NDArray[np.float64]:
    vectors = rng.normal(size=(count, dimensions))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
