"""The rotation nearest to each matrix in torch's own operators, for models that leave Python."""

import torch
from torch import Tensor

POWER = 2**7
"""Twice an eigenvalue problem's matrix is taken to this power; see `nearest_rotation`."""

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
