"""Products of bfloat16 numbers as the C++ core forms them, in torch's own operators."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class RoundedProducts(TorchFunctionMode):
    """Within this context `functional.linear` and `torch.bmm` round both factors to bfloat16.

    All else stays float32: sums, products written ``@``, attention; torch's autocast rounds these too. On a GPU the
    factors of `functional.linear` are bfloat16 numbers to its matrix units, which sum in float32. Elsewhere the
    rounded factors are multiplied in float32, which is for answers as near to the core's as can be, not for speed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Round the factors of products."""
        if func is functional.linear and args[0].device.type == "cuda":
            return _linear_on_gpu(*args, **(kwargs or {}))
        if func in (functional.linear, torch.bmm):
            first, second, *rest = args
            args = (_rounded(first), _rounded(second), *rest)
        return func(*args, **(kwargs or {}))


def _linear_on_gpu(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rows = torch.mm(values.bfloat16().flatten(0, -2), weight.bfloat16().mT, out_dtype=torch.float32)
    product = rows.view(*values.shape[:-1], len(weight))
    return product if bias is None else product + bias


def _rounded(values: Tensor) -> Tensor:
    """The nearest bfloat16 numbers, ties to even, of normal numbers below 1e33.

    Compilers leave out a cast and the way back, and contract products with differences. Here the product is exact, and
    that changes nothing.
    """
    large = values * 2.0**16
    return large - (large - values)
