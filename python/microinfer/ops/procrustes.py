"""The rotation nearest to each matrix in torch's own operators, for models that leave Python."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

POWER = 2**7
"""Twice an eigenvalue problem's matrix is taken to this power; see `nearest_rotation`."""
MOST_SENSITIVE = 50.0
"""See `is_determined`; the core's, in procrustes_math.hpp, is the same.

A change by a share of 1.4e-6, more than float32's rounding was seen to make of a network's output, then turns the
rotation by less than 1e-4 rad.
"""

_QUADRATIC = (
    # ww wx  wy  wz  xw xx xy xz  yw yx  yy yz  zw zx zy zz
    (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1),
    (0, 0, 0, -1, 0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 0),
    (0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0),
    (0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0),
    (1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1),
    (0, -1, 0, 0, -1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0),
    (0, 0, -1, 0, 0, 0, 0, 1, -1, 0, 0, 0, 0, 1, 0, 0),
    (0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0),
    (1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1),
)
"""Row by row, how the entries of a rotation follow from the products of two entries of its quaternion (w, x, y, z)."""

_portable = False


@contextmanager
def portable_operators() -> Iterator[None]:
    """Inside, `microinfer.ops.rotations.project_to_so3` runs in torch's own operators, for tracing and exporting.

    In all threads: the answers are the same to rounding.
    """
    global _portable
    before, _portable = _portable, True
    try:
        yield
    finally:
        _portable = before


def operators_are_portable() -> bool:
    """Whether the process is inside `portable_operators`."""
    return _portable


def nearest_rotation(matrix: Tensor) -> Tensor:
    r"""Rotation nearest to each matrix in the Frobenius norm.

    Written as a unit quaternion q, the rotation R maximises :math:`\operatorname{tr}(R^T M) = q^T K q` with a
    symmetric 4 x 4 matrix K (Davenport). Its eigenvector of the largest eigenvalue is found by a high power of a
    shifted K, which leaves that vector's projector. The operations are few and large, since each is one of an
    exported graph's.

    Parameters
    ----------
    matrix : Tensor
        (..., 3, 3).

    Returns
    -------
    Tensor
        Rotations of the same shape and dtype. Where the nearest rotation is not unique it is some rotation.
    """
    quadratic = torch.tensor(_QUADRATIC, dtype=torch.float64, device=matrix.device)
    k = torch.unflatten(matrix.double().flatten(-2) @ quadratic, -1, (4, 4))
    # all eigenvalues lie between minus and plus this norm; shifted, none is negative
    size = k.square().sum((-2, -1), keepdim=True).sqrt().clamp(min=1e-30)
    power = k / size + torch.eye(4, dtype=k.dtype, device=k.device)
    for _ in range(2):
        # the largest eigenvalue of a matrix of trace 1 is at least 1/4, whose power is far from underflow
        power = power / power.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        power = torch.linalg.matrix_power(power, POWER)
    # the projector's columns are all parallel to q: the longest is the most exact
    longest = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = power.gather(-1, longest[..., None, None].expand(*power.shape[:-1], 1))
    q = q / q.square().sum(-2, keepdim=True).sqrt()
    return torch.unflatten((q @ q.mT).flatten(-2) @ quadratic.mT, -1, (3, 3)).to(matrix.dtype)


def is_determined(matrix: Tensor, rotation: Tensor) -> Tensor:
    r"""Whether each matrix determines the rotation nearest to it.

    With the symmetric :math:`H = R^T M` and its trace t, the eigenvalues of :math:`K = t I - H` add up to 2 t. A small
    change of M, by a share :math:`\varepsilon` of t in the Frobenius norm, turns R by at most
    :math:`\sqrt 2 \, \varepsilon \, t^3 / \det K` radians, to first order.

    Parameters
    ----------
    matrix : Tensor
        M, (B, 3, 3).
    rotation : Tensor
        R, the rotation nearest to each, (B, 3, 3).

    Returns
    -------
    Tensor
        (B,) bool, whether :math:`t^3 / \det K` is below `MOST_SENSITIVE`. It is 27/8 where M is a rotation itself and
        infinite where several rotations are equally near. False where an element is not finite.
    """
    m = matrix.double()
    t = (rotation * m).sum((-2, -1))
    # det K from the invariants of H
    second = (t.square() - m.square().sum((-2, -1))) / 2
    third = (m[:, 0] * torch.linalg.cross(m[:, 1], m[:, 2])).sum(-1)
    determined: Tensor = t**3 < MOST_SENSITIVE * (t * second - third)
    return determined
