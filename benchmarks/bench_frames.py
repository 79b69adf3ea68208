"""How fast the formats of camera files are read, block by block.

    python benchmarks/bench_frames.py --megabytes 400

Each file is read twice and the second time counts, so that it comes from memory: what is measured is the reader, not
the disk, by its processor time. The memory is the most beyond what the process begins with, without pages of the file.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import hdf5plugin
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers import camera_files as files
from microinfer.frames import open_frames

FRAME = (128, 128)
WRITERS: dict[str, tuple[Callable[..., Path], str]] = {
    "a.npy": (files.write_npy, "u2"),
    "py4dstem.h5": (files.write_py4dstem_13, "u2"),
    "a.hspy": (files.write_hspy, "u2"),
    "plain.hspy": (partial(files.write_hspy, compression=None), "u2"),
    "a.zspy": (files.write_zspy, "u2"),
    "a.mib": (files.write_mib, "u2"),
    "a.dm4": (files.write_dm, "u2"),
    "a.blo": (files.write_blo, "u1"),
    "a_000.tvips": (files.write_tvips, "u2"),
    "a.mrc": (files.write_mrc, "u2"),
    "a.xml": (files.write_empad, "f4"),
    "a_master.h5": (partial(files.write_dectris, **hdf5plugin.Bitshuffle()), "u2"),
    "a.tif": (files.write_tiff, "u2"),
}


def read(path: Path, shape: tuple[int, int]) -> tuple[float, float]:
    """Seconds of the second reading, and the most memory beyond what the process began with, in MB."""
    process, seconds = psutil.Process(), 0.0
    began = most = process.memory_info().rss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            with open_frames(path, scan_shape=shape) as source:
                start = time.process_time()
                for block in source.blocks():
                    most = max(most, process.memory_info().rss)
                    block[..., 0, 0].max()
                seconds = time.process_time() - start
    return seconds, (most - began) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("formats", nargs="*", default=list(WRITERS))
    arguments = parser.parse_args()
    for name in arguments.formats:
        write, dtype = WRITERS[name]
        row = 64 * FRAME[0] * FRAME[1] * np.dtype(dtype).itemsize
        shape = (max(1, arguments.megabytes * 10**6 // row), 64)
        with tempfile.TemporaryDirectory() as folder:
            data = np.random.default_rng(0).poisson(3.0, (shape[0] // 8 + 1, 64, *FRAME)).astype(dtype)
            data = np.tile(data, (8, 1, 1, 1))[: shape[0]]
            path = write(Path(folder) / name, data)
            size = data.nbytes
            del data
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, memory = pool.apply(read, (path, shape))
        print(f"{name:12} {size / seconds / 1e6:8.0f} MB/s {memory:8.0f} MB of memory", flush=True)


if __name__ == "__main__":
    main()
