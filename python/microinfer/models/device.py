"""The devices that a model runs on, and what its matrix products multiply."""

from collections.abc import Sequence

import torch

from microinfer import _core


def torch_device(name: str | torch.device) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : str or torch.device
        ``"auto"`` takes a CUDA GPU where there is one, else the CPU; or one of torch's.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch knows no such device, or finds no CUDA GPU for it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto' or one of torch's, such as 'cpu' or 'cuda', got {name!r}"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {str(name)!r}: torch finds {torch.cuda.device_count()} CUDA GPUs here")
    return device


def torch_devices(names: str | torch.device | Sequence[str | torch.device]) -> list[torch.device]:
    """Return the devices that share a piece of work.

    Parameters
    ----------
    names : str, torch.device or sequence of them
        As `torch_device` takes them, also with commas between them; but ``"auto"`` takes every CUDA GPU where
        there are any.

    Returns
    -------
    list of torch.device

    Raises
    ------
    ValueError
        As `torch_device`, and where there is none.
    """
    names = torch_device_names(names)
    if not names:
        raise ValueError("device must name at least one device, got none")
    if names == ["auto"] and torch.cuda.device_count() > 1:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [torch_device(name) for name in names]


def torch_device_names(names: str | torch.device | Sequence[str | torch.device]) -> list[str | torch.device]:
    """Return the names that `torch_devices` takes, one by one."""
    if isinstance(names, str):
        return list(names.split(","))
    return [names] if isinstance(names, torch.device) else list(names)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 matrices."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _core.multiplies_bfloat16()


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 matrices make the device faster: neither Intel's CPUs nor GPUs.

    On GPUs the float64 between the products costs more time than they save (an H100: 1.2 to 1.7 times float32's).
    """
    return device.type == "cpu" and _core.gains_by_bfloat16()


def product_dtype(devices: Sequence[torch.device], name: str) -> torch.dtype:
    """Return what a network's matrix products multiply, on all devices alike.

    Parameters
    ----------
    devices : sequence of torch.device
        Where the network runs.
    name : str
        ``"auto"`` is bfloat16 where all devices gain by it, else float32; or one of the two.

    Returns
    -------
    torch.dtype

    Raises
    ------
    ValueError
        For another name, and for bfloat16 on a device that does not multiply it.
    """
    if name not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"dtype must be 'auto', 'float32' or 'bfloat16', got {name!r}")
    if name == "auto":
        return torch.bfloat16 if all(map(gains_by_bfloat16, devices)) else torch.float32
    if name == "float32":
        return torch.float32
    for device in devices:
        if not multiplies_bfloat16(device):
            raise ValueError(f"dtype 'bfloat16': the device {str(device)!r} has no instructions for it")
    return torch.bfloat16
