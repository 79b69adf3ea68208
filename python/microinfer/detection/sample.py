"""A few frames of a scan, from which probe, noise and origin are measured before the whole of it is read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microinfer.frames.source import FrameSource

ROWS = 16  # scan rows that are looked at
PAIRS = 128  # of neighbouring positions, in all
BYTES = 32 << 20  # of them, at most


@dataclass(frozen=True, eq=False)
class Sample:
    """Some frames of a scan, in pairs of neighbours along the scan's rows where it has any.

    Attributes
    ----------
    frames : ndarray of float32, shape (N, Qx, Qy)
    positions : ndarray of int64, shape (N, 2)
        Their scan positions.
    paired : bool
        Whether frames 2 i and 2 i + 1 are neighbours.
    """

    frames: NDArray[np.float32]
    positions: NDArray[np.int64]
    paired: bool


def sample_frames(source: FrameSource) -> Sample:
    """Read some frames, evenly spread over a scan: about 2 `PAIRS` of them, of at most `ROWS` rows, fewer large ones.

    Parameters
    ----------
    source : FrameSource

    Returns
    -------
    Sample
    """
    rows, columns = source.scan_shape
    most = int(np.clip(BYTES // (8 * np.prod(source.frame_shape)), 4, PAIRS))
    taken = np.unique(np.linspace(0, rows - 1, min(rows, ROWS, most)).round().astype(np.int64))
    paired = columns > 1
    if paired:
        pairs = min(columns // 2, max(1, most // len(taken)))
        first = np.linspace(0, columns - 2, pairs).round().astype(np.int64)
        chosen = np.stack([first, first + 1], axis=1).ravel()
    else:
        chosen = np.zeros(1, np.int64)
    frames = [source.read_rows(int(row), int(row) + 1)[0, chosen].astype(np.float32) for row in taken]
    positions = np.stack([np.repeat(taken, len(chosen)), np.tile(chosen, len(taken))], axis=1)
    return Sample(np.concatenate(frames), positions, paired)
