"""Products of bfloat16 numbers as the C++ core forms them, in torch's own operators."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_PRODUCTS = (functional.linear, torch.bmm)


class RoundedProducts(TorchFunctionMode):
    """Within this context `functional.linear` and `torch.bmm` round both factors to bfloat16.

    All else stays float32: sums, products written ``@``, attention; torch's autocast rounds these too. It is for
    answers as near to the core's as can be, not for speed: the rounded factors are multiplied in float32.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Round the factors of products."""
        if func in _PRODUCTS:
            first, second, *rest = args
            args = (_rounded(first), _rounded(second), *rest)
        return func(*args, **(kwargs or {}))


def _rounded(values: Tensor) -> Tensor:
    """The nearest bfloat16 numbers, by Veltkamp's splitting: compilers may leave out a cast and the way back."""
    scaled = values * (2.0**16 + 1.0)
    return scaled - (scaled - values)
