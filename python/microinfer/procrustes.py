"""The rotation nearest to each matrix in torch's own operators alone, for models that leave Python."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

SQUARINGS = 14
"""Twice this often the gap between the two largest eigenvalues is doubled; see `nearest_rotation`."""

_portable = False


@contextmanager
def portable_operators() -> Iterator[None]:
    """Inside, `microinfer.losses.project_to_so3` runs in torch's own operators, for tracing and exporting.

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
    symmetric 4 x 4 matrix K (Davenport). Its eigenvector of the largest eigenvalue is found by squaring a shifted K
    again and again, which leaves that vector's projector.

    Parameters
    ----------
    matrix : Tensor
        (..., 3, 3).

    Returns
    -------
    Tensor
        Rotations of the same shape and dtype. Where the nearest rotation is not unique it is some rotation.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in matrix.double().unbind(-2))
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    k = torch.stack([torch.stack(row, -1) for row in rows], -2)
    # all eigenvalues lie between minus and plus this norm; shifted, none is negative
    size = k.square().sum((-2, -1), keepdim=True).sqrt().clamp(min=1e-30)
    power = k / size + torch.eye(4, dtype=k.dtype, device=k.device)
    for _ in range(SQUARINGS):
        power = power @ power
        power = power / power.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    # the projector's columns are all parallel to q: the longest is the most exact
    longest = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = power.gather(-1, longest[..., None, None].expand(*power.shape[:-1], 1))[..., 0]
    w, x, y, z = (q / q.square().sum(-1, keepdim=True).sqrt()).unbind(-1)
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rotation], -2).to(matrix.dtype)
