"""Bytes that tokenization and the fused loss read and write over time, beside the rate at which the device copies.

    python benchmarks/bandwidth.py --device cuda

Every array counts once, read or written. On a CPU one thread is measured, by its processor time.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from microinfer import _core
from microinfer.crystals.symmetry import random_orientations
from microinfer.evaluation import timing as bench
from microinfer.models import load_model
from microinfer.models.device import first_device
from microinfer.ops import rotations  # noqa: F401  # defines its operators
from microinfer.ops.tokens import tokenize_arrays

PAIRS = 1 << 20
COPIED = 1 << 28  # bytes
POSITIONS = (256, 256)


def size(*arrays: Tensor) -> int:
    return sum(array.numel() * array.element_size() for array in arrays)


def least(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of the fastest of some calls: processor time, on a GPU time."""

    def now() -> float:
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()

    call()
    times = []
    for _ in range(repeats):
        began = now()
        call()
        times.append(now() - began)
    return min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    device = torch.device(first_device(arguments.device))
    torch.set_num_threads(1)
    _core.set_num_threads(1)
    rng = np.random.default_rng(8_128)
    model = load_model("cu")
    patterns = bench.random_patterns(model.phases, model.voltage, model.k_max, 256, rng)
    blocks = list(bench.random_scan(patterns, POSITIONS, rng))
    counts = np.concatenate([block.counts for block in blocks])
    columns = [np.concatenate([getattr(b, name) for b in blocks]) for name in ("qx", "qy", "intensity")]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    peaks = [torch.from_numpy(array).to(device) for array in (*columns, offsets)]
    length = int(counts.max())
    tokens = tokenize_arrays(*peaks, model.spec, length)

    matrices = random_orientations(2 * PAIRS, rng).astype(np.float32).reshape(2, PAIRS, 3, 3)
    predicted, label = torch.from_numpy(matrices).to(device)
    pairs = predicted, label, torch.from_numpy(model.phases[0].operators).float().to(device)
    forward = torch.ops.microinfer.symmetry_min_geodesic
    backward = torch.ops.microinfer.symmetry_min_geodesic_backward
    angle, index = forward(*pairs)
    upstream = torch.ones_like(angle)
    source = torch.empty(COPIED // 4, device=device).fill_(1.0)
    target = torch.empty_like(source)
    runs = {
        "copy": (lambda: target.copy_(source), size(source, target)),
        f"tokenize, {len(counts):,} patterns": (
            lambda: tokenize_arrays(*peaks, model.spec, length), size(*peaks, *tokens),
        ),
        f"loss, {PAIRS:,} pairs, {len(pairs[2])} operators": (
            lambda: forward(*pairs), size(*pairs, angle, index),
        ),
        "its gradient": (
            lambda: backward(*pairs, index, upstream), size(*pairs, index, upstream, predicted, label),
        ),
    }  # fmt: skip
    copied = 0.0
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else f"{bench.machine()}, one thread")
    for name, (call, moved) in runs.items():
        rate = moved / least(call, device, arguments.repeats)
        copied = copied or rate
        print(f"{name:40s} {rate / 1e9:9.2f} GB/s  {rate / copied:6.1%} of the copy")
