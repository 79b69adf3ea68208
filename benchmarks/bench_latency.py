"""How long a row of patterns waits for its answers, with and without refinement.

    python benchmarks/bench_latency.py --model cu --threads 2 1

Every row is answered by itself: by the engine (`Inference`: the C++ core, on a GPU torch and the core), by the mapper
around it, and by the model's TorchScript graph, which does not refine. Medians of one run; the ratio is to the engine.
"stream" answers all rows as fast as they come. `--model paper` takes the paper's model, with random weights.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from paper_procedure import paper_model

import microinfer as mi
from microinfer import _core
from microinfer.evaluation.timing import machine
from microinfer.mapping.inference import Inference
from microinfer.models import Model

PATTERNS, ROWS = 2_560, 100
"""Patterns of all rows of a case, and the most rows."""

Way = Callable[[mi.BraggPeaks], object]


def demo_rows(columns: int, rows: int) -> list[mi.BraggPeaks]:
    """Rows of the demo scan's crystalline patterns, each a scan of its own."""
    peaks = mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5")
    crystalline = np.flatnonzero(np.diff(peaks.offsets) > 3)
    chosen = np.random.default_rng(0).choice(crystalline, (rows, columns))
    patterns = [peaks.pattern(*divmod(int(index), peaks.scan_shape[1])) for index in chosen.ravel()]
    return [
        mi.BraggPeaks.from_patterns(patterns[row * columns : (row + 1) * columns], (1, columns))
        for row in range(rows)
    ]


def exported(model: Model, device: str) -> Way:
    """The model's TorchScript graph, from a file."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        mi.export_model(model, Path(folder) / "model.ts", device=device)
        graph = torch.jit.load(Path(folder) / "model.ts", map_location=device)

    def run(row: mi.BraggPeaks) -> list[torch.Tensor]:
        values = torch.from_numpy(np.column_stack([row.qx, row.qy, row.intensity])).to(device)
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            return [part.cpu() for part in graph.ragged(values, torch.from_numpy(row.offsets).to(device))]

    return run


def milliseconds(run: Way, row: mi.BraggPeaks) -> float:
    began = time.perf_counter()
    run(row)
    return (time.perf_counter() - began) * 1e3


def compare(model: Model, device: str, columns: int, refine: str | None, graph: Way) -> None:
    """Print the table's rows for scan rows of so many patterns."""
    scan = demo_rows(columns, min(ROWS, max(3, PATTERNS // columns)))
    ways: dict[str, Way] = {
        "engine": Inference(model, device, refine),
        "mapper": lambda row: mi.map_orientations(
            row, model, device=device, refine=refine, dtype="float32", check=False
        ),
    }
    if refine is None:
        ways["TorchScript"] = graph
    engine = None
    for name, run in ways.items():
        first, *_ = [milliseconds(run, scan[0]) for _ in range(3)]
        times = [milliseconds(run, row) for row in scan]
        median, rate = float(np.median(times)), sum(map(len, scan)) / (sum(times) / 1e3)
        engine = engine or median
        print(
            f"| {name} | {columns} | {'yes' if refine else 'no'} | {first:.1f} | {median:.2f} "
            f"| {median / engine:.2f} | {rate:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="cu", help="a shipped model's name, a checkpoint's path, or paper")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--columns", nargs="+", type=int, default=[1, 256], help="patterns in a row")
    parser.add_argument("--threads", nargs="+", type=int, default=[_core.num_threads()])
    arguments = parser.parse_args()
    model = mi.load_model("cu" if arguments.model == "paper" else arguments.model)
    if arguments.model == "paper":
        model = paper_model(model.phases)
    graph = exported(model, arguments.device)
    print(f"{model!r}, {torch.cuda.get_device_name() if arguments.device == 'cuda' else machine()}")
    for threads in arguments.threads:
        _core.set_num_threads(threads)
        torch.set_num_threads(threads)
        print(f"\n{threads} threads\n")
        print("| | row of | refined | first call, ms | median, ms | to the engine | stream, patterns/s |")
        print("|---|---|---|---|---|---|---|")
        for columns in arguments.columns:
            for refine in (None, "kinematic") if model.voltage else (None,):
                compare(model, arguments.device, columns, refine, graph)
