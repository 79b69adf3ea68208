"""The symmetry-min geodesic loss and the projection to SO(3) against plain torch."""

import math
import secrets

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.devices import DEVICES
from helpers.example_phases import PHASES
from microinfer import _core
from microinfer.crystals.symmetry import random_orientations
from microinfer.ops.procrustes import nearest_rotation
from microinfer.ops.rotations import project_to_so3, symmetry_min_geodesic, symmetry_min_geodesic_index

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(autouse=True)
def _fresh_numbers() -> None:
    seed = secrets.randbits(32)
    print("seed", seed)
    torch.manual_seed(seed)


def turn(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) about the axes (B, 3) by the angles (B,)."""
    x, y, z = (axis / axis.norm(dim=-1, keepdim=True)).unbind(-1)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return torch.eye(3, dtype=axis.dtype) + sine * K + (1 - cosine) * (K @ K)


def rotations(n: int) -> Tensor:
    """Uniformly random rotations, float64."""
    rng = np.random.default_rng(int(torch.randint(2**31, ())))
    return torch.from_numpy(np.ascontiguousarray(random_orientations(n, rng)))


def operators_of(name: str) -> Tensor:
    return torch.from_numpy(PHASES[name].operators)


def plain_geodesic(predicted: Tensor, label: Tensor, operators: Tensor) -> tuple[Tensor, Tensor]:
    """The formula as it stands."""
    R = torch.einsum("gij,bjk,blk->bgil", operators, label, predicted)  # [B, G, 3, 3]
    off = torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]])
    trace = R.diagonal(dim1=-2, dim2=-1).sum(-1)
    nearest = torch.atan2(off.norm(dim=0) / 2, (trace - 1) / 2).min(dim=1)  # [B]
    return nearest.values, nearest.indices


def plain_projection(matrix: Tensor) -> Tensor:
    U, _, Vh = torch.linalg.svd(matrix)
    sign = torch.linalg.det(U @ Vh)
    return U @ torch.diag_embed(torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)) @ Vh


def gradients(result: Tensor, weight: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((result * weight).sum(), inputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("crystal", ["Cu", "Ti", "triclinic"])
@pytest.mark.parametrize("distortion", [0.0, 0.3])
class TestLossAgainstPlainTorch:
    def test_forward_and_backward(
        self, device: str, dtype: torch.dtype, crystal: str, distortion: float
    ) -> None:
        n = 3001
        operators = operators_of(crystal).to(device, dtype)
        predicted, label = (
            (rotations(n) + distortion * torch.randn(n, 3, 3)).to(device, dtype).requires_grad_()
            for _ in range(2)
        )
        angle, index = symmetry_min_geodesic_index(predicted, label, operators)
        plain_angle, plain_index = plain_geodesic(predicted, label, operators)
        tolerance = 2e-5 if dtype == torch.float32 else 1e-13
        torch.testing.assert_close(angle, plain_angle, rtol=0, atol=tolerance)
        assert (index == plain_index).double().mean() > 0.999  # but for pairs on the border of two cells
        weight = torch.randn_like(angle)
        same = index == plain_index
        mine = gradients(angle, weight, predicted, label)
        for a, b in zip(mine, gradients(plain_angle, weight, predicted, label), strict=True):
            torch.testing.assert_close(a[same], b[same], rtol=100 * tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("device", DEVICES)
class TestLoss:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_known_angles_from_zero_to_pi(self, device: str, dtype: torch.dtype) -> None:
        angle = torch.cat([torch.logspace(-6, 0, 40), math.pi - torch.logspace(-6, 0, 40)]).double()
        label = rotations(len(angle))
        turned = turn(torch.randn(len(angle), 3, dtype=torch.float64), angle) @ label
        found = symmetry_min_geodesic(
            turned.to(device, dtype), label.to(device, dtype), torch.eye(3)[None].to(device, dtype)
        )
        tolerance = 1e-6 if dtype == torch.float32 else 1e-14
        torch.testing.assert_close(found.double().cpu(), angle, rtol=0, atol=tolerance)

    def test_the_index_is_that_of_the_nearest_operator(self, device: str) -> None:
        operators = operators_of("Cu")
        label = rotations(24)
        near = turn(torch.randn(24, 3, dtype=torch.float64), torch.full((24,), 0.1, dtype=torch.float64))
        angle, index = symmetry_min_geodesic_index(
            (near @ operators @ label).to(device), label.to(device), operators.to(device)
        )
        assert index.tolist() == list(range(24))
        torch.testing.assert_close(angle.cpu(), torch.full((24,), 0.1, dtype=torch.float64))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_ties_go_to_the_lowest_index_and_nan_nowhere(self, device: str, dtype: torch.dtype) -> None:
        operators = operators_of("Cu").to(device, dtype).repeat(3, 1, 1)
        predicted, label = rotations(500).to(device, dtype), rotations(500).to(device, dtype)
        predicted[1, 0, 0] = math.nan
        angle, index = symmetry_min_geodesic_index(predicted, label, operators)
        assert index.max() < 24
        assert angle.isnan().nonzero().tolist() == [[1]]  # NaN stays in its pair

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_the_gradient_is_zero_at_angles_of_exactly_zero_and_pi(
        self, device: str, dtype: torch.dtype
    ) -> None:
        label = torch.eye(3, dtype=dtype, device=device).expand(2, 3, 3).contiguous().requires_grad_()
        half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
        predicted = torch.stack([torch.eye(3), half_turn]).to(device, dtype).requires_grad_()
        angle = symmetry_min_geodesic(predicted, label, torch.eye(3)[None].to(device, dtype))
        torch.testing.assert_close(angle.tolist(), [0.0, math.pi])
        for gradient in gradients(angle, torch.ones_like(angle), predicted, label):
            assert torch.equal(gradient, torch.zeros_like(gradient))

    @pytest.mark.parametrize("angle", [1e-7, 1e-3, math.pi - 1e-3, math.pi - 1e-7])
    def test_the_gradient_keeps_its_length_near_zero_and_pi(self, device: str, angle: float) -> None:
        label = rotations(50).to(device)
        axis = torch.randn(50, 3, dtype=torch.float64)
        turned = turn(axis, torch.full((50,), angle, dtype=torch.float64)).to(device) @ label
        predicted = turned.requires_grad_()
        loss = symmetry_min_geodesic(predicted, label, torch.eye(3, dtype=torch.float64, device=device)[None])
        (gradient,) = gradients(loss, torch.ones_like(loss), predicted)
        along = (axis / axis.norm(dim=1, keepdim=True)).to(device)
        # d predicted / d angle = [axis]x predicted: the loss rises at unit rate
        slope = (gradient * torch.linalg.cross(along[:, :, None], predicted, dim=1)).sum((1, 2))
        torch.testing.assert_close(slope, torch.ones_like(slope), rtol=0, atol=1e-7)

    def test_gradcheck(self, device: str) -> None:
        predicted = (rotations(4) + 0.2 * torch.randn(4, 3, 3)).to(device).requires_grad_()
        label = (rotations(4) + 0.2 * torch.randn(4, 3, 3)).to(device).requires_grad_()
        operators = operators_of("Cu").to(device)
        assert torch.autograd.gradcheck(
            lambda p, q: symmetry_min_geodesic(p, q, operators), (predicted, label)
        )

    def test_opcheck(self, device: str) -> None:
        predicted, label = (rotations(4).to(device).requires_grad_() for _ in range(2))
        arguments = (predicted, label, operators_of("Cu").to(device))
        torch.library.opcheck(torch.ops.microinfer.symmetry_min_geodesic.default, arguments)
        backward = (*(a.detach() for a in arguments), torch.arange(4, device=device), torch.ones(4).double())
        torch.library.opcheck(
            torch.ops.microinfer.symmetry_min_geodesic_backward.default,
            tuple(a.to(device) for a in backward),
        )


@pytest.mark.parametrize("device", DEVICES)
class TestProjection:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_against_torch_svd(self, device: str, dtype: torch.dtype) -> None:
        matrix = torch.randn(2001, 3, 3, dtype=dtype, device=device, requires_grad=True)
        rotation, plain = project_to_so3(matrix), plain_projection(matrix)
        S = torch.linalg.svdvals(matrix)
        S = torch.cat([S[:, :2], (S[:, 2] * torch.linalg.det(matrix).sign())[:, None]], 1)
        clear = S[:, 1] + S[:, 2] > 0.02  # elsewhere the nearest rotation is hardly unique
        assert clear.double().mean() > 0.9
        tolerance = 1e-4 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(rotation[clear], plain[clear], rtol=0, atol=tolerance)
        weight = torch.randn_like(matrix)
        apart = torch.stack([S[:, 0] - S[:, 1], S[:, 1] - S[:, 2].abs()], 1).min(1).values > 0.02
        (mine,) = gradients(rotation, weight, matrix)
        (svd,) = gradients(plain, weight, matrix)
        chosen = clear & apart  # torch's gradient fails at equal singular values
        assert chosen.double().mean() > 0.8
        torch.testing.assert_close(mine[chosen], svd[chosen], rtol=100 * tolerance, atol=100 * tolerance)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
    def test_the_result_is_a_rotation_at_any_scale(
        self, device: str, dtype: torch.dtype, scale: float
    ) -> None:
        matrix = torch.randn(2000, 3, 3, dtype=dtype)
        matrix[:500, :, 2] = matrix[:500, :, 1] * 1e-4  # nearly of rank two
        matrix[500:1000] = matrix[500:1000, :, :1] * matrix[500:1000, :1, :]  # of rank one
        rotation = project_to_so3((matrix * scale).to(device)).cpu()
        tolerance = 2e-6 if dtype == torch.float32 else 4e-15
        eye = torch.eye(3, dtype=dtype).expand_as(rotation)
        torch.testing.assert_close(rotation @ rotation.mT, eye, rtol=0, atol=tolerance)
        assert (torch.linalg.det(rotation) > 0.9).all()

    def test_degenerate_matrices(self, device: str) -> None:
        matrix = torch.zeros(4, 3, 3, dtype=torch.float64)
        matrix[1, 0, 0] = 3.0
        matrix[2] = -torch.eye(3)
        matrix[3] = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
        matrix = matrix.to(device).requires_grad_()
        rotation = project_to_so3(matrix)
        assert torch.equal(rotation[0], torch.eye(3, dtype=torch.float64, device=device))
        assert (torch.linalg.det(rotation) - 1).abs().max() < 1e-14
        torch.testing.assert_close((rotation[1:] * matrix[1:]).sum((1, 2)).tolist(), [3.0, 1.0, 1.0])
        (gradient,) = gradients(rotation, torch.randn_like(rotation), matrix)
        assert torch.equal(gradient, torch.zeros_like(gradient))

    def test_equal_singular_values_have_a_gradient(self, device: str) -> None:
        matrix = (2 * rotations(5)).to(device).requires_grad_()
        assert torch.autograd.gradcheck(project_to_so3, matrix)

    def test_a_value_that_is_not_finite_gives_nan(self, device: str) -> None:
        matrix = torch.randn(3, 3, 3, device=device)
        matrix[1, 2, 0], matrix[2, 0, 1] = math.nan, math.inf
        assert project_to_so3(matrix).isfinite().flatten(1).all(1).tolist() == [True, False, False]

    def test_in_torchs_own_operators(self, device: str) -> None:
        matrix = torch.randn(5000, 3, 3, dtype=torch.float64, device=device)
        # where the two nearest rotations differ by little, so do the digits: leave these few out
        S = torch.linalg.svdvals(matrix)
        clear = S[:, 1] + torch.linalg.det(matrix).sign() * S[:, 2] > 0.01
        torch.testing.assert_close(
            nearest_rotation(matrix)[clear], project_to_so3(matrix)[clear], atol=1e-9, rtol=0
        )
        assert nearest_rotation(torch.zeros(2, 3, 3, device=device)).isfinite().all()

    def test_gradcheck(self, device: str) -> None:
        matrix = torch.randn(6, 3, 3, dtype=torch.float64, device=device, requires_grad=True)
        assert torch.autograd.gradcheck(project_to_so3, matrix)

    def test_opcheck(self, device: str) -> None:
        matrix = torch.randn(4, 3, 3, dtype=torch.float64, device=device, requires_grad=True)
        torch.library.opcheck(torch.ops.microinfer.project_to_so3.default, (matrix,))
        rotation = rotations(4).to(device)
        torch.library.opcheck(
            torch.ops.microinfer.project_to_so3_backward.default, (matrix.detach(), rotation, rotation)
        )


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_step_compiles_as_one_graph(device: str) -> None:
    operators = operators_of("Cu").float().to(device)
    label = rotations(16).float().to(device)

    def loss(raw: Tensor) -> Tensor:
        return symmetry_min_geodesic(project_to_so3(raw.reshape(-1, 3, 3)), label, operators).mean()

    raw = torch.randn(16, 9, device=device, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(raw)
    torch.testing.assert_close(compiled, loss(raw))
    torch.testing.assert_close(torch.autograd.grad(compiled, raw), torch.autograd.grad(loss(raw), raw))


@pytest.mark.parametrize("threads", [1, 3])
def test_numpy_and_torch_agree_on_any_number_of_threads(threads: int) -> None:
    before = _core.num_threads()
    predicted, label, operators = rotations(2000), rotations(2000), operators_of("Cu")
    angle, index = symmetry_min_geodesic_index(predicted, label, operators)
    rotation = project_to_so3(predicted + label)
    try:
        _core.set_num_threads(threads)
        found = _core.symmetry_min_geodesic(predicted.numpy(), label.numpy(), operators.numpy())
        np.testing.assert_array_equal(found[0], angle)
        np.testing.assert_array_equal(found[1], index)
        np.testing.assert_array_equal(_core.project_to_so3((predicted + label).numpy()), rotation)
    finally:
        _core.set_num_threads(before)


def test_an_empty_batch() -> None:
    empty = torch.zeros(0, 3, 3, requires_grad=True)
    angle = symmetry_min_geodesic(project_to_so3(empty), torch.zeros(0, 3, 3), torch.eye(3)[None])
    assert angle.shape == (0,)
    angle.sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == (0, 3, 3)


EYE = torch.eye(3)[None]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3, 3), (3, 3, 3), (1, 3, 3)), r"label must have shape \(2, 3, 3\), got \(3, 3, 3\)"),
        (((2, 9), (2, 3, 3), (1, 3, 3)), r"predicted must have shape \(n, 3, 3\), got \(2, 9\)"),
        (((2, 3, 3), (2, 3, 3), (3, 3)), r"operators must have shape \(n, 3, 3\), got \(3, 3\)"),
        (((2, 3, 3), (2, 3, 3), (0, 3, 3)), "operators must hold at least one operator"),
    ],
)
def test_wrong_shapes_are_named(shapes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        symmetry_min_geodesic(*map(torch.ones, shapes))
    with pytest.raises(ValueError, match=r"matrix must have shape \(n, 3, 3\), got \(3, 3\)"):
        project_to_so3(torch.eye(3))


def test_wrong_dtypes_are_named() -> None:
    with pytest.raises(TypeError, match="label must have dtype float32, got float64"):
        symmetry_min_geodesic(EYE, EYE.double(), EYE)
    with pytest.raises(TypeError, match="predicted must have dtype float32 or float64, got float16"):
        symmetry_min_geodesic(EYE.half(), EYE.half(), EYE.half())
    with pytest.raises(TypeError, match="matrix must have dtype float32 or float64, got int64"):
        project_to_so3(EYE.long())


def test_an_index_outside_the_operators_is_refused() -> None:
    eye = np.eye(3)[None]
    with pytest.raises(ValueError, match="index must be at least 0 and below the number of operators, 1"):
        _core.symmetry_min_geodesic_backward(eye, eye, eye, np.array([1]), np.ones(1))


def test_gradients_that_do_not_exist_are_refused() -> None:
    angle = symmetry_min_geodesic(EYE.clone().requires_grad_(), EYE, EYE.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="no gradient with respect to operators"):
        angle.sum().backward()
    matrix = rotations(2).requires_grad_()
    for name, result in (
        ("project_to_so3", project_to_so3(matrix)),
        ("symmetry_min_geodesic", symmetry_min_geodesic(matrix, rotations(2), operators_of("Cu"))),
    ):
        (gradient,) = torch.autograd.grad(result.sum(), matrix, create_graph=True)
        with pytest.raises(RuntimeError, match=f"the gradient of {name} has no gradient"):
            gradient.sum().backward()
