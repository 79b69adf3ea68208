"""The symmetry-min geodesic loss and the projection onto rotations, as differentiable torch operators.

Both run in the C++ core: on the CPU without copies, on a GPU on torch's current stream. Gradients of
gradients are refused.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from microinfer import _core
from microinfer.ops.operators import device_and_stream, refuse_gradient, register_gradient, register_operator
from microinfer.ops.procrustes import nearest_rotation


def symmetry_min_geodesic(predicted: Tensor, label: Tensor, operators: Tensor) -> Tensor:
    r"""Misorientation angle between predictions and labels, the smallest over the symmetry equivalents.

    .. math:: \min_g \operatorname{atan2}\left(
        \tfrac{1}{2} \lVert \operatorname{vee}(R_g - R_g^T) \rVert,
        \tfrac{1}{2} (\operatorname{tr} R_g - 1) \right),
        \quad R_g = (g\,\mathrm{label})\,\mathrm{predicted}^T

    Parameters
    ----------
    predicted : Tensor
        Predicted orientations, (B, 3, 3) float32 or float64. They need not be exact rotations: the formula
        holds.
    label : Tensor
        Label orientations, (B, 3, 3), of the same dtype.
    operators : Tensor
        Proper symmetry operators g, (G, 3, 3), of the same dtype, applied to the label from the left. They
        get no gradient.

    Returns
    -------
    Tensor
        Angles in radians, (B,), differentiable in `predicted` and `label`. At an angle of exactly 0 or pi the
        gradient is defined as zero.

    Raises
    ------
    TypeError
        If the dtypes differ or are not float32 or float64.
    ValueError
        If a shape does not fit; the message names the argument.

    Notes
    -----
    The same angle taken from the trace by arccos loses half the digits, and the gradient, near 0 and pi.
    The paper's name: "symmetry-aware geodesic loss" (Methods).
    """
    return symmetry_min_geodesic_index(predicted, label, operators)[0]


def symmetry_min_geodesic_index(predicted: Tensor, label: Tensor, operators: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles of `symmetry_min_geodesic` and the operators that give them.

    Returns
    -------
    angle : Tensor
        Radians, (B,).
    index : Tensor
        Index of the nearest operator, (B,) int64; the lowest where several are equally near.
    """
    angle, index = torch.ops.microinfer.symmetry_min_geodesic(predicted, label, operators)
    return angle, index


def project_to_so3(matrix: Tensor) -> Tensor:
    r"""Rotation nearest to each matrix in the Frobenius norm (special orthogonal Procrustes).

    For :math:`M = U \Sigma V^T` it is :math:`U \operatorname{diag}(1, 1, \det(U V^T)) V^T`.

    Parameters
    ----------
    matrix : Tensor
        (B, 3, 3) float32 or float64.

    Returns
    -------
    Tensor
        Rotations, (B, 3, 3), differentiable in `matrix`, also at equal singular values. Where the nearest
        rotation is not unique (s2 + det(U V^T) s3 = 0) it is one of the nearest (the identity for a zero
        matrix) and its gradient is defined as zero. A matrix with a NaN or infinite element gives NaN.

    Raises
    ------
    TypeError
        If the dtype is not float32 or float64.
    ValueError
        If the shape is not (B, 3, 3).

    References
    ----------
    Levinson et al., "An Analysis of SVD for Deep Rotation Estimation", NeurIPS 2020.
    """
    if (
        torch._C._get_tracing_state() is not None
    ):  # a graph that leaves Python knows torch's own operators alone
        return nearest_rotation(matrix)
    rotation: Tensor = torch.ops.microinfer.project_to_so3(matrix)
    return rotation


# --- torch operators --------------------------------------------------------------------------------------


def _host(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array


def _device(name: str, tensor: Tensor, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Check what the core's CUDA functions, which see addresses alone, rely on."""
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must have dtype float32 or float64, got {tensor.dtype}")
    if tensor.dtype != like.dtype:
        raise TypeError(f"{name} must have dtype {like.dtype}, got {tensor.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{name} must be on {like.device}, got {tensor.device}")
    if tensor.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    return tensor.contiguous()


def _device_pairs(predicted: Tensor, label: Tensor, operators: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pairs = (
        _device("predicted", predicted, predicted, (*predicted.shape[:1], 3, 3)),
        _device("label", label, predicted, (*predicted.shape[:1], 3, 3)),
        _device("operators", operators, predicted, (*operators.shape[:1], 3, 3)),
    )
    if len(operators) == 0:
        raise ValueError("operators must hold at least one operator, got shape (0, 3, 3)")
    return pairs


def _geodesic_cpu(predicted: Tensor, label: Tensor, operators: Tensor) -> tuple[Tensor, Tensor]:
    angle, index = _core.symmetry_min_geodesic(_host(predicted), _host(label), _host(operators))
    return torch.from_numpy(angle), torch.from_numpy(index)


def _geodesic_cuda(predicted: Tensor, label: Tensor, operators: Tensor) -> tuple[Tensor, Tensor]:
    p, q, g = _device_pairs(predicted, label, operators)
    angle = p.new_empty(len(p))
    index = p.new_empty(len(p), dtype=torch.int64)
    _core.symmetry_min_geodesic_cuda(
        p.dtype == torch.float64,
        *(p.data_ptr(), q.data_ptr(), g.data_ptr()),
        *(len(p), len(g)),
        *(angle.data_ptr(), index.data_ptr()),
        *device_and_stream(p),
    )
    return angle, index


def _geodesic_fake(predicted: Tensor, label: Tensor, operators: Tensor) -> tuple[Tensor, Tensor]:
    batch_size = predicted.shape[0]
    return predicted.new_empty(batch_size), predicted.new_empty(batch_size, dtype=torch.int64)


def _geodesic_backward_cpu(
    predicted: Tensor, label: Tensor, operators: Tensor, index: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    by_predicted, by_label = _core.symmetry_min_geodesic_backward(
        _host(predicted), _host(label), _host(operators), _host(index), _host(upstream)
    )
    return torch.from_numpy(by_predicted), torch.from_numpy(by_label)


def _geodesic_backward_cuda(
    predicted: Tensor, label: Tensor, operators: Tensor, index: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    p, q, g = _device_pairs(predicted, label, operators)
    weight = _device("upstream", upstream, p, (len(p),))
    by_predicted, by_label = torch.empty_like(p), torch.empty_like(p)
    _core.symmetry_min_geodesic_backward_cuda(
        p.dtype == torch.float64,
        *(p.data_ptr(), q.data_ptr(), g.data_ptr()),
        *(len(p), len(g)),
        *(index.contiguous().data_ptr(), weight.data_ptr()),
        *(by_predicted.data_ptr(), by_label.data_ptr()),
        *device_and_stream(p),
    )
    return by_predicted, by_label


def _geodesic_backward_fake(
    predicted: Tensor, label: Tensor, operators: Tensor, index: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    return predicted.new_empty(predicted.shape), predicted.new_empty(predicted.shape)


def _geodesic_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _geodesic_gradient(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
    if ctx.needs_input_grad[2]:
        raise RuntimeError("symmetry_min_geodesic has no gradient with respect to operators")
    saved = ctx.saved_tensors
    by_predicted, by_label = torch.ops.microinfer.symmetry_min_geodesic_backward(*saved, upstream)
    return by_predicted, by_label, None


def _project_cpu(matrix: Tensor) -> Tensor:
    return torch.from_numpy(_core.project_to_so3(_host(matrix)))


def _project_cuda(matrix: Tensor) -> Tensor:
    m = _device("matrix", matrix, matrix, (*matrix.shape[:1], 3, 3))
    rotation = torch.empty_like(m)
    _core.project_to_so3_cuda(
        m.dtype == torch.float64, m.data_ptr(), len(m), rotation.data_ptr(), *device_and_stream(m)
    )
    return rotation


def _project_fake(matrix: Tensor) -> Tensor:
    return matrix.new_empty(matrix.shape)


def _project_backward_cpu(matrix: Tensor, rotation: Tensor, upstream: Tensor) -> Tensor:
    return torch.from_numpy(_core.project_to_so3_backward(_host(matrix), _host(rotation), _host(upstream)))


def _project_backward_cuda(matrix: Tensor, rotation: Tensor, upstream: Tensor) -> Tensor:
    shape = (*matrix.shape[:1], 3, 3)
    m, r, u = (
        _device("matrix", matrix, matrix, shape),
        _device("rotation", rotation, matrix, shape),
        _device("upstream", upstream, matrix, shape),
    )
    gradient = torch.empty_like(m)
    _core.project_to_so3_backward_cuda(
        m.dtype == torch.float64,
        *(m.data_ptr(), r.data_ptr(), u.data_ptr()),
        len(m),
        gradient.data_ptr(),
        *device_and_stream(m),
    )
    return gradient


def _project_backward_fake(matrix: Tensor, rotation: Tensor, upstream: Tensor) -> Tensor:
    return matrix.new_empty(matrix.shape)


def _project_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs, output)


def _project_gradient(ctx: Any, upstream: Tensor) -> Tensor:
    gradient: Tensor = torch.ops.microinfer.project_to_so3_backward(*ctx.saved_tensors, upstream)
    return gradient


register_operator(
    "symmetry_min_geodesic(Tensor predicted, Tensor label, Tensor operators) -> (Tensor, Tensor)",
    cpu=_geodesic_cpu,
    cuda=_geodesic_cuda,
    fake=_geodesic_fake,
)
register_operator(
    "symmetry_min_geodesic_backward(Tensor predicted, Tensor label, Tensor operators, Tensor index, "
    "Tensor upstream) -> (Tensor, Tensor)",
    cpu=_geodesic_backward_cpu,
    cuda=_geodesic_backward_cuda,
    fake=_geodesic_backward_fake,
)
register_operator(
    "project_to_so3(Tensor matrix) -> Tensor", cpu=_project_cpu, cuda=_project_cuda, fake=_project_fake
)
register_operator(
    "project_to_so3_backward(Tensor matrix, Tensor rotation, Tensor upstream) -> Tensor",
    cpu=_project_backward_cpu,
    cuda=_project_backward_cuda,
    fake=_project_backward_fake,
)
register_gradient("symmetry_min_geodesic", _geodesic_gradient, _geodesic_context)
register_gradient("project_to_so3", _project_gradient, _project_context)
refuse_gradient("symmetry_min_geodesic_backward", "the gradient of symmetry_min_geodesic")
refuse_gradient("project_to_so3_backward", "the gradient of project_to_so3")
