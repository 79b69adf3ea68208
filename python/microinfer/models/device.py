"""The devices that models run on. torch is imported for GPUs alone."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from microinfer import _core

if TYPE_CHECKING:
    import torch

    Device = str | torch.device


def devices(names: "Device | Sequence[Device]") -> list[str]:
    """Return the names of the devices that share a piece of work.

    Parameters
    ----------
    names : str, torch.device or sequence of them
        ``"cpu"``, or one of torch's for a GPU, also with commas between them. ``"auto"`` takes every CUDA GPU where
        there are any, else the CPU.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If torch knows no such device, or finds no CUDA GPU for it, and where there is none.
    """
    listed = device_names(names)
    if not listed:
        raise ValueError("device must name at least one device, got none")
    if listed == ["auto"] and _may_have_gpus():
        import torch

        count = torch.cuda.device_count()
        return [f"cuda:{index}" for index in range(count)] if count else ["cpu"]
    return [_checked(name) for name in listed]


def device_names(names: "Device | Sequence[Device]") -> list[str]:
    """Return the names that `devices` takes, one by one."""
    if isinstance(names, str):
        return names.split(",")
    return [str(name) for name in names] if isinstance(names, Sequence) else [str(names)]


def first_device(name: "Device") -> str:
    """Return the one device of a name; ``"auto"`` is the first GPU where there is one, else the CPU."""
    return devices(name)[0]


def product_dtype(on: Sequence[str], dtype: str) -> str:
    """Return what the models' matrix products multiply on all of some devices, ``"float32"`` or ``"bfloat16"``.

    Parameters
    ----------
    on : sequence of str
        The devices.
    dtype : str
        ``"auto"`` is bfloat16 where all devices gain by it, AMD's CPUs with instructions for it; or one of the two.

    Raises
    ------
    ValueError
        For another name, and for bfloat16 on a GPU or a CPU without instructions for it.
    """
    if dtype not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"dtype must be 'auto', 'float32' or 'bfloat16', got {dtype!r}")
    if dtype == "auto":
        return "bfloat16" if all(map(gains_by_bfloat16, on)) else "float32"
    for device in on:
        if dtype == "bfloat16" and not (device == "cpu" and _core.multiplies_bfloat16()):
            raise ValueError(f"dtype 'bfloat16': the device {device!r} does not multiply it here")
    return dtype


def gains_by_bfloat16(device: str) -> bool:
    """Whether products of bfloat16 matrices make a device faster."""
    return device == "cpu" and _core.gains_by_bfloat16()


def _checked(name: str) -> str:
    if name in ("cpu", "auto"):
        return "cpu"
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto' or one of torch's, such as 'cpu' or 'cuda', got {name!r}"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: torch finds {torch.cuda.device_count()} CUDA GPUs here")
    return str(device)


def _may_have_gpus() -> bool:
    """Whether there may be a CUDA GPU, which torch would take a second to deny."""
    return os.name == "nt" or any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
