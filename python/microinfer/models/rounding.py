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

    Sums, biases and all else stay float32; torch's autocast rounds sums and attention too.
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
    return values.bfloat16().float()
