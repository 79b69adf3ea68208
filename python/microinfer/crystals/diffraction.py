"""Kinematic diffraction geometry: which reflections an orientation puts near the Ewald sphere, and where."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase

PLANCK = 6.62607015e-34  # J s
ELEMENTARY_CHARGE = 1.602176634e-19  # C
ELECTRON_MASS = 9.1093837015e-31  # kg
LIGHT_SPEED = 299792458.0  # m/s


class DiffractedBeams(NamedTuple):
    """The diffracted beams of one orientation.

    Attributes
    ----------
    hkl : ndarray of int64, shape (n, 3)
        Miller indices.
    q : ndarray of float64, shape (n, 2)
        qx (down the detector) and qy (to the right), in 1/Angstrom.
    excitation_error : ndarray of float64, shape (n,)
        Signed distance from the Ewald sphere along the beam, in 1/Angstrom.
    intensity : ndarray of float64, shape (n,)
        Kinematic intensity |F|^2 under the excitation-error envelope.
    """

    hkl: NDArray[np.int64]
    q: NDArray[np.float64]
    excitation_error: NDArray[np.float64]
    intensity: NDArray[np.float64]


class ZoneAxis(NamedTuple):
    """A lattice direction and how far the beam is from it."""

    uvw: tuple[int, int, int]
    """Miller indices."""
    deviation: float
    """In degrees."""
    indices: tuple[int, ...]
    """As they are written: Miller-Bravais indices UVTW in a hexagonal cell, else uvw."""


def electron_wavelength(voltage: float) -> float:
    """Relativistic electron wavelength.

    Parameters
    ----------
    voltage : float
        Accelerating voltage in V.

    Returns
    -------
    float
        Wavelength in Angstrom.
    """
    if not voltage > 0:
        raise ValueError(f"voltage must be positive, in V, got {voltage}")
    energy = ELEMENTARY_CHARGE * voltage
    momentum = np.sqrt(2.0 * ELECTRON_MASS * energy * (1.0 + energy / (2.0 * ELECTRON_MASS * LIGHT_SPEED**2)))
    return float(PLANCK / momentum * 1e10)


def excitation_errors(g_lab: NDArray[np.float64], wavelength: float) -> NDArray[np.float64]:
    r"""Excitation errors for a beam along -z and a foil normal to it.

    With k0 = (0, 0, -1/wavelength), the point k0 + g + s z lies on the Ewald sphere, to first order in s, for

    .. math:: s = (2 g_z - \lambda |g|^2) / (2 - 2 \lambda g_z),

    which is py4DSTEM's formula (``Crystal.excitation_errors``).

    Parameters
    ----------
    g_lab : ndarray of float64, shape (..., 3)
        Reciprocal lattice vectors in the lab frame, in 1/Angstrom.
    wavelength : float
        Electron wavelength in Angstrom.

    Returns
    -------
    ndarray of float64, shape (...)
        In 1/Angstrom.
    """
    gz = g_lab[..., 2]
    return np.asarray((2.0 * gz - wavelength * np.sum(g_lab**2, axis=-1)) / (2.0 - 2.0 * wavelength * gz))


def diffracted_beams(
    phase: CrystalPhase,
    matrix: NDArray[np.float32] | NDArray[np.float64],
    voltage: float,
    *,
    k_max: float | None = None,
    excitation_sigma: float = 0.02,
) -> DiffractedBeams:
    """Reflections of a phase that an orientation brings within 3 sigma of the Ewald sphere.

    Parameters
    ----------
    phase : CrystalPhase
        Its ``reflections`` are the candidates.
    matrix : ndarray, shape (3, 3)
        Orientation, ``v_crystal = matrix @ v_lab``; a reflection lands at ``matrix.T @ g``.
    voltage : float
        Accelerating voltage in V.
    k_max : float, optional
        Largest length of a reciprocal lattice vector, in 1/Angstrom. All of the phase's reflections by
        default.
    excitation_sigma : float, default: 0.02
        Width of the Gaussian envelope over the excitation error, in 1/Angstrom.

    Returns
    -------
    DiffractedBeams
        In the order of ``phase.reflections``.
    """
    hkl = phase.reflections[:, :3]
    g_lab = hkl @ phase.reciprocal @ np.asarray(matrix, np.float64)
    error = excitation_errors(g_lab, electron_wavelength(voltage))
    keep = np.abs(error) <= 3.0 * excitation_sigma
    if k_max is not None:
        keep &= np.linalg.norm(g_lab, axis=1) <= k_max
    envelope = np.exp(-(error[keep] ** 2) / (2.0 * excitation_sigma**2))
    return DiffractedBeams(
        hkl=np.rint(hkl[keep]).astype(np.int64),
        q=g_lab[keep, :2],
        excitation_error=error[keep],
        intensity=phase.reflections[keep, 3] ** 2 * envelope,
    )


def nearest_zone_axis(
    phase: CrystalPhase,
    matrix: NDArray[np.float32] | NDArray[np.float64],
    *,
    tolerance: float = 2.0,
    max_index: int = 7,
) -> ZoneAxis:
    """Lattice direction of small indices that lies along the beam.

    Parameters
    ----------
    phase : CrystalPhase
        The lattice.
    matrix : ndarray, shape (3, 3)
        Orientation; the beam is its third column.
    tolerance : float, default: 2.0
        In degrees: the direction with the smallest indices within it is taken.
    max_index : int, default: 7
        Largest index tried; where no direction fits, the nearest of them is the answer.

    Returns
    -------
    ZoneAxis
    """
    beam = np.asarray(matrix, np.float64)[:, 2]
    span = np.arange(-max_index, max_index + 1)
    uvw = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
    uvw = uvw[np.gcd.reduce(uvw, axis=1) == 1]
    direction = uvw @ phase.basis
    along = direction @ beam
    across = np.linalg.norm(np.cross(direction, beam), axis=1)
    deviation = np.rad2deg(np.arctan2(across, along))
    largest = np.abs(uvw).max(axis=1)
    for index in range(1, max_index + 1):
        best = int(np.argmin(np.where(largest <= index, deviation, np.inf)))
        if deviation[best] <= tolerance:
            break
    u, v, w = (int(i) for i in uvw[best])
    indices = four_index_direction(u, v, w) if phase.hexagonal_axes else (u, v, w)
    return ZoneAxis((u, v, w), float(deviation[best]), indices)


def four_index_direction(u: int, v: int, w: int) -> tuple[int, int, int, int]:
    """Miller-Bravais indices [UVTW] of a direction [uvw] of a hexagonal cell, without a common divisor."""
    indices = np.array([2 * u - v, 2 * v - u, -(u + v), 3 * w])
    a, b, c, d = (int(i) for i in indices // max(1, np.gcd.reduce(indices)))
    return a, b, c, d
