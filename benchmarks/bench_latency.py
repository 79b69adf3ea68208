"""How long a row of patterns waits for its answers, from C++ and from Python, with and without refinement.

    python benchmarks/bench_latency.py --model cu --threads 2 1

builds the C++ example, exports the model in both formats and prints a table for each number of threads. Every row of
patterns is answered by itself, medians of one run. The ratio is to the engine in Python: tokenization, inference and
refinement, without the mapper's stream around them. "stream" answers all rows as fast as they come.
`--formats torchscript` leaves AOTInductor, which compiles for minutes, out; `--model paper` takes the paper's
model, with random weights; `--device cuda` runs it on a GPU, where there is no core.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from paper_procedure import paper_model

import microinfer as mi
from microinfer import _core
from microinfer.export import export_model
from microinfer.mapping.inference import Inference
from microinfer.models import OrientationModel
from microinfer.ops.tokens import tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks

EXAMPLE = Path(__file__).parents[1] / "cpp" / "examples" / "acquisition"
PATTERNS, ROWS = 10_240, 200
"""Patterns of all rows of a case, and the most rows."""


class Timing(NamedTuple):
    first: float
    """Of the first call, in ms."""
    median: float
    """Of a row, in ms."""
    rate: float
    """Patterns per second of all rows."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="cu", help="a shipped model's name, a checkpoint's path, or paper")
    parser.add_argument("--formats", nargs="*", default=["torchscript", "aoti"], help="whose graphs to run")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16, everywhere")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--columns", nargs="+", type=int, default=[1, 256], help="patterns in a row")
    parser.add_argument("--threads", nargs="+", type=int, default=[_core.num_threads()])
    arguments = parser.parse_args()
    model = mi.load_model("cu" if arguments.model == "paper" else arguments.model)
    if arguments.model == "paper":
        model = paper_model(model.phases)
    model = model.to(arguments.device)
    gpu = arguments.device == "cuda"
    print(
        f"{arguments.model}, {torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability()}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graphs = arguments.formats if gpu else ["core", *arguments.formats]
        exported = {graph: folder / graph for graph in graphs}
        for graph, path in exported.items():
            began = time.perf_counter()
            file_format = "torchscript" if graph == "core" else graph
            export_model(model, path, format=file_format, dtype=arguments.dtype, device=arguments.device)
            print(f"{graph}: exported in {time.perf_counter() - began:.0f} s", flush=True)
        program = build_example(folder / "build")
        for threads in arguments.threads:
            _core.set_num_threads(threads)
            torch.set_num_threads(threads)
            print(f"\n{threads} threads\n")
            print("| | row of | refined | first call, ms | median, ms | to the engine | stream, patterns/s |")
            print("|---|---|---|---|---|---|---|")
            for columns in arguments.columns:
                for refine in (None, "kinematic") if "voltage" in model.card else (None,):
                    compare(model, columns, refine, arguments.dtype, program, exported)


def compare(
    model: OrientationModel,
    columns: int,
    refine: str | None,
    dtype: str,
    program: Path,
    exported: dict[str, Path],
) -> None:
    """Print the table's rows for scan rows of so many patterns."""
    scan = demo_rows(columns, min(ROWS, max(3, PATTERNS // columns)))
    ways = {"the engine": engine(model, refine, dtype), "the mapper": mapper(model, refine, dtype)}
    if "core" in exported:
        ways["eager torch"] = engine(model, refine, dtype, fused=False)
    timings = {f"Python, {name}": in_python(way, scan) for name, way in ways.items()}
    peaks = program.with_name("peaks.csv")
    write_csv(peaks, scan)
    for graph, path in exported.items():
        what = "C++, the core" if graph == "core" else f"C++, {graph} graph"
        timings[what] = in_cpp(program, path, peaks, refine, graph != "core")
    show(timings, columns, refine)


def demo_rows(columns: int, rows: int) -> list[BraggPeaks]:
    """Rows of the demo scan's crystalline patterns, each a scan of its own."""
    peaks = mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5")
    crystalline = np.flatnonzero(np.diff(peaks.offsets) > 3)
    chosen = np.random.default_rng(0).choice(crystalline, (rows, columns))
    patterns = [peaks.pattern(*divmod(int(index), peaks.scan_shape[1])) for index in chosen.ravel()]
    return [
        BraggPeaks.from_patterns(patterns[row * columns : (row + 1) * columns], (1, columns))
        for row in range(rows)
    ]


def write_csv(path: Path, scan: list[BraggPeaks]) -> None:
    lines = ["row,column,qx,qy,intensity"]
    for i, row in enumerate(scan):
        column = np.repeat(np.arange(len(row)), np.diff(row.offsets))
        table = zip(column, row.qx, row.qy, row.intensity, strict=True)
        lines += [f"{i},{j},{x:.9g},{y:.9g},{s:.9g}" for j, x, y, s in table]
    path.write_text("\n".join(lines) + "\n")


def mapper(model: OrientationModel, refine: str | None, dtype: str) -> Callable[[BraggPeaks], object]:
    device = model.operators.device
    return lambda row: mi.map_orientations(row, model, device=device, refine=refine, dtype=dtype)


def engine(
    model: OrientationModel, refine: str | None, dtype: str, fused: bool = True
) -> Callable[[BraggPeaks], object]:
    """Tokenization, inference and refinement alone; not fused: in torch, padded."""
    inference = Inference(model, refine, 8192, dtype)
    if not fused:
        inference.fused = None
    return lambda row: inference(
        tokenize(row, model.spec), np.ones(row.scan_shape, np.bool_), lambda done: None
    )


def in_python(run: Callable[[BraggPeaks], object], scan: list[BraggPeaks]) -> Timing:
    first, *_ = [timed(run, scan[0]) for _ in range(3)]
    times = [timed(run, row) for row in scan]
    return Timing(first, float(np.median(times)), sum(map(len, scan)) / (sum(times) / 1e3))


def timed(run: Callable[[BraggPeaks], object], row: BraggPeaks) -> float:
    began = time.perf_counter()
    run(row)
    return (time.perf_counter() - began) * 1e3


def build_example(build: Path) -> Path:
    package = subprocess.run(
        [sys.executable, "-m", "microinfer", "--cmake-dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    prefixes = f"-DCMAKE_PREFIX_PATH={package};{torch.utils.cmake_prefix_path}"
    subprocess.run(["cmake", "-S", EXAMPLE, "-B", build, prefixes], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    return build / "acquisition"


def in_cpp(program: Path, model: Path, peaks: Path, refine: str | None, graph: bool) -> Timing:
    options = ["--graph"] * graph + ["--no-refine"] * (refine is None)
    environment = {**os.environ, "OMP_NUM_THREADS": str(_core.num_threads())}
    text = subprocess.run(
        [program, model, peaks, *options], capture_output=True, text=True, check=True, env=environment
    ).stderr
    (median,) = re.findall(r"row +median ([0-9.]+)", text)
    (rate,) = re.findall(r"([0-9]+) per second", text)
    return Timing(float(re.findall(r"warm-up +([0-9.]+)", text)[0]), float(median), float(rate))


def show(timings: dict[str, Timing], columns: int, refine: str | None) -> None:
    engine = timings["Python, the engine"].median
    for what, timing in timings.items():
        print(
            f"| {what} | {columns} | {'no' if refine is None else 'yes'} | {timing.first:.1f} "
            f"| {timing.median:.2f} | {timing.median / engine:.2f} | {timing.rate:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
