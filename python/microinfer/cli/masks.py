"""Masks in files."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def load_mask(path: Path) -> "NDArray[np.bool_]":
    """Read a boolean array of an .npy file; ValueError, which names it, for what is none."""
    with path.open("rb"):
        pass  # Python's own errors for a missing file, a folder and a lacking permission are the clearest
    try:
        # mapped: a file that is shorter than its header says is refused before memory is taken
        mask: NDArray[np.bool_] = np.array(np.lib.format.open_memmap(path, mode="r"))  # type: ignore[no-untyped-call]
    except Exception as error:  # of a damaged header NumPy's parsers raise whatever they meet
        raise ValueError(f"{path}: not an .npy array: {error}") from error
    if mask.dtype != np.bool_:
        raise ValueError(f"{path}: expected a boolean .npy array, got {mask.dtype}")
    return mask
