"""The file with the state of a training, from which it goes on: a line with a checksum, then what torch writes."""

import io
import json
import zlib
from pathlib import Path
from typing import Any

import torch

from microinfer.differences import differences
from microinfer.files import atomic_output


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state; OSError as of `atomic_output`."""
    buffer = io.BytesIO()  # torch ends the process where it writes to a full disk itself
    torch.save(state, buffer)
    content = buffer.getvalue()
    with atomic_output(path) as temporary:
        temporary.write_bytes(_head(content) + content)


def read_state(path: Path, device: torch.device | str) -> dict[str, Any]:
    """Read a state; ValueError, which names the file, for one that is not as it was written."""
    whole = path.read_bytes()
    content = whole[whole.find(b"\n") + 1 :]
    if not whole.startswith(_head(content)):
        raise ValueError(
            f"{path}: is damaged, or no state of a training with this version of microinfer: train anew in another "
            "folder"
        )
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return state


def require_same_settings(state: dict[str, Any], config: dict[str, Any], path: Path) -> None:
    """Refuse the state of a training with other settings; the ValueError names them."""
    if different := differences(json.loads(state["config"]), json.loads(json.dumps(config))):
        raise ValueError(
            f"{path}: the training was begun with other settings: {different}; give the old ones to go on, or train "
            "in another folder"
        )


def _head(content: bytes) -> bytes:
    return b"microinfer training state 1, CRC-32 %d\n" % zlib.crc32(content)
