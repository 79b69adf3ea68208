"""Proper symmetry operators of a crystal, and grids of zone axes that fill one symmetry cell."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GENERIC_DIRECTION = np.array([0.21, 0.13, 0.9]) / np.linalg.norm([0.21, 0.13, 0.9])


def proper_operators(
    rotations: Iterable[NDArray[np.float64]], basis: NDArray[np.float64], *, laue: bool = True
) -> NDArray[np.float64]:
    """Proper rotations of a crystal, from its own operations.

    Parameters
    ----------
    rotations : iterable of ndarray, shape (3, 3)
        Rotational parts of the space group's operations, acting on fractional coordinates.
    basis : ndarray, shape (3, 3)
        Lattice vectors a, b, c as rows in the crystal's Cartesian frame.
    laue : bool
        Take improper operations times -1, which gives the proper group of the Laue class: what a diffraction
        pattern sees. With False only the crystal's own proper rotations count.

    Returns
    -------
    ndarray of float64, shape (G, 3, 3)
        The group, the identity first.

    Raises
    ------
    ValueError
        If an operation does not keep the lattice's metric, so that lattice and space group disagree.
    """
    to_cartesian = basis.T
    found: list[NDArray[np.float64]] = [np.eye(3)]
    for rotation in rotations:
        operator = to_cartesian @ np.asarray(rotation, np.float64) @ np.linalg.inv(to_cartesian)
        if not np.allclose(operator @ operator.T, np.eye(3), atol=1e-3):
            raise ValueError(
                f"the symmetry operation {np.asarray(rotation).tolist()} does not keep the lattice's lengths and "
                "angles: lattice parameters and space group disagree"
            )
        if np.linalg.det(operator) < 0:
            if not laue:
                continue
            operator = -operator
        u, _, vt = np.linalg.svd(operator)
        operator = u @ vt
        if not any(np.allclose(operator, other, atol=1e-3) for other in found):
            found.append(operator)
    return np.stack(found)


def fibonacci_sphere(count: int) -> NDArray[np.float64]:
    """Nearly even directions on the unit sphere, shape (count, 3)."""
    index = np.arange(count) + 0.5
    z = 1.0 - 2.0 * index / count
    azimuth = np.pi * (1.0 + np.sqrt(5.0)) * index
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=-1)


def in_fundamental_cell(directions: NDArray[np.float64], operators: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each direction lies in the group's fundamental cell.

    The cell holds the directions that are nearer to one generic direction than all their equivalents; its
    images under the group fill the sphere once.

    Parameters
    ----------
    directions : ndarray, shape (N, 3)
        Unit vectors in the crystal's Cartesian frame.
    operators : ndarray, shape (G, 3, 3)
        Proper operators.

    Returns
    -------
    ndarray of bool, shape (N,)
    """
    height = np.einsum("gij,nj,i->gn", operators, directions, _GENERIC_DIRECTION)
    return np.asarray(directions @ _GENERIC_DIRECTION >= height.max(axis=0) - 1e-9)


def zone_axis_grid(operators: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """Directions that fill one symmetry cell of the sphere of zone axes.

    Parameters
    ----------
    operators : ndarray, shape (G, 3, 3)
        Proper operators.
    spacing : float
        Distance of neighbours in degrees.

    Returns
    -------
    ndarray of float64, shape (K, 3)
        Unit vectors; the cubic group 432 at 1.8 degrees has about 600.
    """
    if not 0.1 <= spacing <= 30:
        raise ValueError(f"spacing must lie between 0.1 and 30 degrees, got {spacing}")
    area = np.deg2rad(spacing) ** 2 * np.sqrt(3.0) / 2.0
    sphere = fibonacci_sphere(round(4.0 * np.pi / area))
    return sphere[in_fundamental_cell(sphere, operators)]


def zone_axis_frames(zone_axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """One rotation for each zone axis with that axis as its third column, shape (K, 3, 3)."""
    up = np.where(np.abs(zone_axes[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    x = np.cross(up, zone_axes)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return np.stack([x, np.cross(zone_axes, x), zone_axes], axis=-1)


def random_orientations(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniformly random rotation matrices, shape (count, 3, 3)."""
    q = rng.normal(size=(count, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def misorientation(
    first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]], operators: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Symmetry-reduced misorientation angles.

    Parameters
    ----------
    first, second : ndarray, shape (N, 3, 3)
        Orientations.
    operators : ndarray, shape (G, 3, 3)
        Proper operators, which act on the left.

    Returns
    -------
    ndarray of float64, shape (N,)
        Radians.
    """
    from microinfer import _core

    angle, _ = _core.symmetry_min_geodesic(
        np.ascontiguousarray(first, np.float64),
        np.ascontiguousarray(second, np.float64),
        np.ascontiguousarray(operators, np.float64),
    )
    return np.asarray(angle)
