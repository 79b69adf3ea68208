"""Euler angles of orientations."""

import warnings

import numpy as np
from numpy.typing import NDArray


def bunge_angles(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Passive Bunge Euler angles phi1, Phi, phi2 of lab-to-crystal rotations.

    Parameters
    ----------
    matrix : ndarray of float64, shape (N, 3, 3)

    Returns
    -------
    ndarray of float64, shape (N, 3)
        Radians; where Phi is 0 or pi, phi2 is 0.
    """
    from scipy.spatial.transform import Rotation

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock", category=UserWarning)
        return np.asarray(Rotation.from_matrix(matrix).inv().as_euler("ZXZ"))
