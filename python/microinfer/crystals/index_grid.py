"""How far py4DSTEM must be asked to go so that it makes every reflection that is wanted."""

import numpy as np
from numpy.typing import NDArray

_SUMS = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [1, -1, 1], [1, 1, -1], [1, -1, -1]]
)  # fmt: skip


def complete_k_max(basis: NDArray[np.float64], k_max: float, *, dynamical: bool = False) -> float:
    """The k_max at which py4DSTEM's grid of indices holds all reflections up to this one.

    py4DSTEM 0.14.18 lets h, k and l run to k_max over the shortest of ten sums of reciprocal lattice vectors. In
    oblique cells, hexagonal ones with a > c among them, indices up to k_max times the longest of a, b, c are needed,
    which may be more. For its dynamical structure factors the sums are those of the rows of the matrix that has the
    reciprocal vectors as columns.

    Parameters
    ----------
    basis : ndarray, shape (3, 3)
        Lattice vectors as rows, in Angstrom.
    k_max : float
        In 1/Angstrom.
    dynamical : bool
        For `calculate_dynamical_structure_factors` in the place of `calculate_structure_factors`.

    Returns
    -------
    float
        At least k_max; for right-angled cells k_max itself.
    """
    reciprocal = np.linalg.inv(basis)
    shortest = np.linalg.norm(_SUMS @ (reciprocal if dynamical else reciprocal.T), axis=1).min()
    needed = np.floor(k_max * np.linalg.norm(basis, axis=1).max() + 1e-9)
    return max(k_max, float(needed * shortest))
