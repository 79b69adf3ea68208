"""CPU time of a map's stages for each pattern, and the model's share of the machine's matrix-product rate.

    python benchmarks/inference.py test_cu.h5 --model cu

One thread and processor time, so that other work on the machine counts little; the least of several repeats.
"""

import argparse
import time
from collections.abc import Callable

import torch

import microinfer as mi
from microinfer import _core
from microinfer.device import multiplies_bfloat16
from microinfer.mapping.inference import Inference
from microinfer.models.operations import matrix_operations
from microinfer.simulation import load_library


def least(call: Callable[[], object], repeats: int) -> float:
    """Processor seconds of a call."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def product_rate(dtype: torch.dtype, repeats: int, size: int = 1024) -> float:
    """Floating-point operations per second of a large matrix product."""
    a, b = torch.randn(2, size, size, dtype=dtype)
    return 2.0 * size**3 / least(lambda: a @ b, repeats)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("test_set")
    parser.add_argument("--model", default="cu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    _core.set_num_threads(1)
    peaks = load_library(arguments.test_set).peaks
    model = mi.load_model(arguments.model)
    tokens = mi.tokenize(peaks, model.spec)
    infer = Inference(model, "kinematic", len(peaks))
    if infer.fused is None:
        parser.error(f"{arguments.model} has no fused form: its stages cannot be told apart")
    found = infer.fused.candidates(tokens)
    stages = {
        "tokenize": lambda: mi.tokenize(peaks, model.spec),
        "model and decoding": lambda: infer.fused.candidates(tokens),
        "refinement": lambda: infer.refinement(tokens, found),
        "map, unrefined": lambda: mi.map_orientations(peaks, model, device="cpu", refine=None),
        "map": lambda: mi.map_orientations(peaks, model, device="cpu"),
    }
    seconds = {}
    for name, call in stages.items():
        call()
        seconds[name] = least(call, arguments.repeats)
        each = seconds[name] / len(peaks)
        print(f"{name:20s} {1e6 * each:8.1f} us for each pattern  {1 / each:10,.0f} patterns/s")
    operations = matrix_operations(model, tokens.count.numpy())
    achieved = operations / seconds["model and decoding"]
    dtype = torch.float32  # what the fused model multiplies in, also where bfloat16 is fast
    rate = product_rate(dtype, 3 * arguments.repeats)
    print(
        f"matrix products      {operations / len(peaks) / 1e6:8.2f} million operations for each pattern: "
        f"{achieved / 1e9:.1f} of {rate / 1e9:.1f} GFLOP/s, a utilisation of {achieved / rate:.0%} ({dtype})"
    )
    if multiplies_bfloat16(torch.device("cpu")):
        print(
            f"a large bfloat16 product runs at {product_rate(torch.bfloat16, arguments.repeats) / 1e9:.1f} GFLOP/s"
        )
