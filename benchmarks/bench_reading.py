"""Reading a file that py4DSTEM wrote: `read_peaks` against py4DSTEM's reader, every position calibrated."""

from pathlib import Path

import numpy as np
import pytest

from microinfer.peaks import read_peaks
from microinfer.peaks.bragg_peaks import BraggPeaks


def read_with_py4dstem(path: Path) -> list[np.ndarray]:
    """The calibrated peaks of every position, (n, 3) in 1/Angstrom."""
    import py4DSTEM

    vectors = py4DSTEM.read(str(path))
    rows, columns = vectors.Rshape
    points = [vectors.cal[rx, ry] for rx in range(rows) for ry in range(columns)]
    return [np.stack([point.qx, point.qy, point.I], axis=-1) for point in points]


@pytest.mark.parametrize("side", ["microinfer", "py4DSTEM"])
def test_read(benchmark, scan: BraggPeaks, scan_file: Path, side: str) -> None:
    benchmark.group = "read"
    benchmark.extra_info.update(side=side, patterns=len(scan))
    if side == "microinfer":
        peaks = benchmark.pedantic(read_peaks, (scan_file,), rounds=10, warmup_rounds=2)
        first = peaks.pattern(0, 0)
    else:
        first = benchmark.pedantic(read_with_py4dstem, (scan_file,), rounds=3, warmup_rounds=1)[0]
    np.testing.assert_allclose(first, scan.pattern(0, 0), rtol=1e-4, atol=1e-5)
