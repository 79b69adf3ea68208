"""CPU time of a map's stages for each pattern, and the models' share of the machine's matrix-product rate.

    python benchmarks/inference.py --model cu

On one thread, by processor time, so that other work on the machine counts little. Beside the model the paper's stands,
at its own size (width 384), with random weights.
"""

import argparse

import numpy as np
import torch
from paper_procedure import paper_model

import microinfer as mi
from microinfer import benchmark as bench
from microinfer.cli.benchmark import describe
from microinfer.mapping.inference import Inference

PATTERNS = 4096


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="cu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    model = mi.load_model(arguments.model)
    rng = np.random.default_rng(8_128)
    patterns = bench.random_patterns(model.phases, model.card["voltage"], model.card["k_max"], 256, rng)
    peaks = next(bench.random_scan(patterns, (1, PATTERNS), rng))
    infer = Inference(model, "kinematic", PATTERNS)
    tokens = mi.tokenize(peaks, model.spec)
    found = infer.fused.candidates(tokens)
    stages = {
        "tokenize": lambda: mi.tokenize(peaks, model.spec),
        "model and decoding": lambda: infer.fused.candidates(tokens),
        "refinement": lambda: infer.refinement(tokens, found),
        "map, unrefined": lambda: mi.map_orientations(peaks, model, device="cpu", refine=None),
        "map": lambda: mi.map_orientations(peaks, model, device="cpu"),
    }
    print(f"{bench.machine()}, one thread; {tokens.count.float().mean():.1f} disks in a pattern")
    with bench.one_thread():
        for name, call in stages.items():
            seconds = bench.least(call, torch.device("cpu"), arguments.repeats) / PATTERNS
            print(f"{name:20s} {1e6 * seconds:8.1f} us for each pattern  {1 / seconds:10,.0f} patterns/s")
    for name, each in {arguments.model: model, "the paper's model": paper_model(model.phases)}.items():
        print(f"{name}: {describe(bench.utilisation(each, peaks, repeats=arguments.repeats))}")
