"""Make the frames of the bundled demo and their truth, from the shipped scan `demo`.

python benchmarks/make_demo_frames.py python/microinfer/data/demo
"""

import sys
from pathlib import Path

import numpy as np

from microinfer.simulation import load_scan_settings, simulate_scan
from microinfer.simulation.scan.datacube import DatacubeWriter


def main(folder: Path) -> None:
    scan = simulate_scan(load_scan_settings("demo"))
    rows = scan.scan_shape[0]
    folder.mkdir(parents=True, exist_ok=True)
    with DatacubeWriter(folder / "frames.h5", scan, compress=True) as file:
        file.write_rows(0, scan.read_rows(0, rows))
    np.savez_compressed(
        folder / "frames_truth.npz",
        matrix=scan.truth.orientation[..., 0, :, :],
        interior=~scan.truth.vacuum & ~scan.truth.overlap,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
