"""Networks whose products multiply bfloat16 numbers as the C++ core does, in torch's own operators.

Rounding to bfloat16 magnifies differences, those between two orders of a sum included. So the factors lie on grids on
which float32 holds sums of their products exactly, but in rare cases, and norms, attention and other sums are float64,
rounded to float32 once. Answers then depend on the order of summing as little as those of float32 do.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, wrap_torch_function

GELU_TAIL = -3.8
"""Gelu of bfloat16 numbers is 0 below this, where the core's keeps too few digits to be rounded (`kGeluTail`)."""


class RoundedProducts(TorchFunctionMode):
    """Within this context `functional.linear` and `torch.bmm` round both factors.

    `functional.layer_norm` and what works on results of `precise` compute in float64, and `functional.gelu` rounds to
    bfloat16 what it takes. On a GPU the factors of `functional.linear` are bfloat16 numbers to its matrix units, which
    sum in float32, either half of a row apart. Elsewhere the rounded factors are multiplied in float64: for the core's
    answers, not for speed.

    Parameters stay rounded as they were when the context first met them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._parameters: dict[Tensor, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace what computes otherwise here."""
        if func is functional.linear:
            return self._linear(*args, **(kwargs or {}))
        return _REPLACED.get(func, func)(*args, **(kwargs or {}))

    def keep(self) -> None:
        """Put the rounded weights in the place of the parameters met so far, as bfloat16 numbers.

        Such parameters are taken as they are.
        """
        for weight, rounded in self._parameters.items():
            weight.data = rounded.bfloat16()

    def _linear(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if values.device.type != "cuda":
            product = functional.linear(_inputs(values).double(), self._rounded(weight)).float()
            # behind the sum; in float64, since compilers make an addition in float32 part of the product
            return product if bias is None else (product.double() + bias).float()
        halves = _inputs(values).bfloat16() if torch.compiler.is_exporting() else _halves(values)
        product = _by_halves(_on_matrix_units, halves.flatten(0, -2), self._rounded(weight))
        product = product.view(*values.shape[:-1], len(weight))
        return product if bias is None else product + bias

    def _rounded(self, weight: Tensor) -> Tensor:
        """A linear layer's weights, in bfloat16 on a GPU, elsewhere in float64."""
        if weight not in self._parameters:
            rounded = weight if weight.dtype == torch.bfloat16 else _weights(weight)
            rounded = rounded.bfloat16() if weight.device.type == "cuda" else rounded.double()
            if not isinstance(weight, nn.Parameter):  # which others may be made anew
                return rounded
            self._parameters[weight] = rounded
        return self._parameters[weight]


@wrap_torch_function(lambda values: (values,))
def precise(values: Tensor) -> Tensor:
    """Return the values, in float64 within `RoundedProducts`; a `float` behind it is where the core rounds."""
    return values


def _by_halves(multiply: Callable[[Tensor, Tensor], Tensor], values: Tensor, weight: Tensor) -> Tensor:
    """Products, summed over either half of a row apart, as in the core: not all whole sums are float32 numbers."""
    halves = zip(values.tensor_split(2, -1), weight.tensor_split(2, -1), strict=True)
    first, second = (multiply(*half) for half in halves)
    return first + second


def _on_matrix_units(values: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(values, weight.mT, out_dtype=torch.float32)


def _bmm(first: Tensor, second: Tensor) -> Tensor:
    return torch.bmm(_inputs(first), _weights(second.mT).mT)


def _layer_norm(values: Tensor, shape: list[int], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return functional.layer_norm(values.double(), shape, weight.double(), bias.double(), eps).float()


def _gelu(values: Tensor, approximate: str = "none") -> Tensor:
    values = _rounded(values)
    result = functional.gelu(values.double(), approximate=approximate).float()
    return torch.where(values < GELU_TAIL, 0.0, result)


_REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.bmm: _bmm,
    functional.layer_norm: _layer_norm,
    functional.gelu: _gelu,
    precise: torch.Tensor.double,
}


def _inputs(values: Tensor) -> Tensor:
    """Rows of bfloat16 numbers, multiples of 2^-9 of the power of two next to the largest."""
    values = _rounded(values.float())
    largest = values.abs().amax(-1, keepdim=True)
    return _to_multiples(values, 2.0**-9 * _rounded(largest, digits=1))


def _halves(values: Tensor) -> Tensor:
    """The same, as bfloat16 numbers and in fewer operations, which compilers would change."""
    halves = values.float().bfloat16()
    largest = halves.abs().amax(-1, keepdim=True).float()
    magic = 1.5 * 2.0**14 * _rounded(largest, digits=1)
    return ((halves + magic) - magic).bfloat16()


def _weights(values: Tensor) -> Tensor:
    """Rows of bfloat16 numbers, multiples of the power of two next to 2^-16 of the sum of their sizes."""
    values = _rounded(values)
    share = 2.0**-16 * values.double().abs().sum(-1, keepdim=True)
    return _to_multiples(values, _rounded(share.float(), digits=1))


def _rounded(values: Tensor, digits: int = 8) -> Tensor:
    """The nearest numbers of so many binary digits, bfloat16 has 8, ties to even; of normal numbers below 1e31.

    Compilers leave out a cast and the way back, and contract products with differences. Here the product is exact, and
    that changes nothing.
    """
    large = values * 2.0 ** (24 - digits)
    return large - (large - values)


def _to_multiples(values: Tensor, step: Tensor) -> Tensor:
    """The nearest multiples, fewer than 2^22, of a power of two, ties to even."""
    magic = 1.5 * 2.0**23 * step
    return (values + magic) - magic
