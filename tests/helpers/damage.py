"""Files that are damaged, cut or overwritten in part."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def damages(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged versions of a file, in turns: a bit or a byte changed, a run zeroed or overwritten, cut, repeated."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        data = bytearray(content)
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
        match index % 6:
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = (data[at] + int(rng.integers(1, 256))) % 256
            case 2:
                data[at : at + length] = bytes(len(data[at : at + length]))
            case 3:
                data[at : at + length] = rng.bytes(len(data[at : at + length]))
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[at : at + length]
        yield bytes(data)


def attempt(read: Callable[[Path], T], path: Path) -> T | str:
    """What reading a file gives, or the text of the ValueError by which it is refused."""
    try:
        return read(path)
    except ValueError as error:
        return str(error)
