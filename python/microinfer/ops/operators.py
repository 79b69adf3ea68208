"""Making torch operators of the core's functions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

_LIBRARY = Library("microinfer", "DEF")  # type: ignore[no-untyped-call]  # torch's own is not typed


def register_operator(
    schema: str, *, cpu: Callable[..., Any], cuda: Callable[..., Any], fake: Callable[..., Any]
) -> None:
    """Make ``torch.ops.microinfer.<name in the schema>`` of its CPU, CUDA and shape-only functions."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, cpu, "CPU")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, cuda, "CUDA")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"microinfer::{name}", fake, lib=_LIBRARY)


def register_gradient(
    name: str, backward: Callable[..., Any], setup_context: Callable[..., None] | None = None
) -> None:
    """Give an operator its backward function."""
    torch.library.register_autograd(
        f"microinfer::{name}", backward, setup_context=setup_context, lib=_LIBRARY
    )


def refuse_gradient(name: str, what: str) -> None:
    """Make a backward pass through an operator a RuntimeError that says `what` has no gradient."""

    def backward(*_: Any) -> None:
        raise RuntimeError(f"{what} has no gradient")

    register_gradient(name, backward)


def device_and_stream(tensor: Tensor) -> tuple[int, int]:
    """Index of a CUDA tensor's device, and the address of that device's current stream."""
    index = tensor.device.index
    return index, torch.cuda.current_stream(index).cuda_stream
