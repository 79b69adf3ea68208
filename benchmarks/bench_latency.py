"""How long a row of patterns waits for its answers: C++ beside Python, TorchScript beside AOTInductor beside eager.

    python benchmarks/bench_latency.py --model cu

builds the C++ example, exports the model in both formats and prints one table, medians of one run; refinement is off.
`--formats torchscript` leaves AOTInductor, which compiles for minutes, out.
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

import numpy as np
import torch

import microinfer as mi
from microinfer.export import export_model
from microinfer.export.program import Program
from microinfer.peaks import BraggPeaks

EXAMPLE = Path(__file__).parents[1] / "cpp" / "examples" / "acquisition"
CASES = {"one pattern": (1, 100), "row of 256": (256, 20)}
"""Patterns in a row, and rows."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="cu", help="a shipped model's name, or a checkpoint's path")
    parser.add_argument("--formats", nargs="+", default=["torchscript", "aoti"])
    arguments = parser.parse_args()
    model = mi.load_model(arguments.model)
    print(
        f"{torch.get_num_threads()} threads, {model.card.get('name')}, {torch.backends.cpu.get_cpu_capability()}"
    )
    print("| | case | first call, ms | third call, ms | median, ms | stream, patterns/s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        exported = {}
        for name in arguments.formats:
            exported[name] = Path(folder) / name
            export_model(model, exported[name], format=name)
        program = build_example(Path(folder) / "build")
        for case, (columns, rows) in CASES.items():
            scan = demo_rows(columns, rows)
            write_csv(Path(folder) / "peaks.csv", scan)
            show("Python, the mapper", case, *in_python(mapper(model), scan))
            show("Python, eager program", case, *in_python(Program(model, torch.float32).ragged, scan))
            for name, path in exported.items():
                show(f"Python, {name}", case, *in_python(loaded(path, name), scan))
                show(f"C++, {name}", case, *in_cpp(program, path, Path(folder) / "peaks.csv"))


def demo_rows(columns: int, rows: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Rows of the demo scan's crystalline patterns: peaks (P, 3) and offsets (columns + 1,)."""
    peaks = mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5")
    table = np.stack([peaks.qx, peaks.qy, peaks.intensity], -1)
    crystalline = np.flatnonzero(np.diff(peaks.offsets) > 3)
    chosen = np.random.default_rng(0).choice(crystalline, (rows, columns))
    scan = []
    for row in chosen:
        patterns = [table[peaks.offsets[i] : peaks.offsets[i + 1]] for i in row]
        offsets = np.cumsum([0, *map(len, patterns)], dtype=np.int64)
        scan.append((torch.from_numpy(np.concatenate(patterns)), torch.from_numpy(offsets)))
    return scan


def write_csv(path: Path, scan: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    lines = ["row,column,qx,qy,intensity"]
    for i, (values, offsets) in enumerate(scan):
        column = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets.numpy()))
        lines += [f"{i},{j},{x:.9g},{y:.9g},{s:.9g}" for j, (x, y, s) in zip(column, values, strict=True)]
    path.write_text("\n".join(lines) + "\n")


def mapper(model: mi.models.OrientationModel) -> Callable[[torch.Tensor, torch.Tensor], object]:
    def run(values: torch.Tensor, offsets: torch.Tensor) -> object:
        columns = np.ascontiguousarray(values.numpy().T)
        peaks = BraggPeaks(offsets.numpy(), *columns, (1, len(offsets) - 1))
        return mi.map_orientations(peaks, model, device="cpu", refine=None)

    return run


def loaded(path: Path, name: str) -> Callable[[torch.Tensor, torch.Tensor], object]:
    if name == "torchscript":
        return torch.jit.load(path).ragged
    return torch._inductor.aoti_load_package(str(path), "ragged")


def in_python(
    run: Callable[[torch.Tensor, torch.Tensor], object], scan: list[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[float, float, float, float]:
    """First and third call and the median in milliseconds, and patterns per second of all rows."""
    with torch.inference_mode():
        warm = [timed(run, scan[0]) for _ in range(3)]
        times = [timed(run, row) for row in scan]
    patterns = sum(len(offsets) - 1 for _, offsets in scan)
    return warm[0], warm[2], float(np.median(times)), patterns / (sum(times) / 1e3)


def timed(
    run: Callable[[torch.Tensor, torch.Tensor], object], row: tuple[torch.Tensor, torch.Tensor]
) -> float:
    began = time.perf_counter()
    run(*row)
    return (time.perf_counter() - began) * 1e3


def build_example(build: Path) -> Path:
    package = subprocess.run(
        [sys.executable, "-m", "microinfer", "--cmake-dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    prefixes = f"-DCMAKE_PREFIX_PATH={package};{torch.utils.cmake_prefix_path}"
    subprocess.run(["cmake", "-S", EXAMPLE, "-B", build, prefixes], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    return build / "acquisition"


def in_cpp(program: Path, model: Path, peaks: Path) -> tuple[float, float, float, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    text = subprocess.run(
        [program, model, peaks, "--no-refine"], capture_output=True, text=True, check=True, env=environment
    ).stderr
    warm = [float(value) for value in re.findall(r"warm-up +([0-9.]+)", text)]
    (median,) = re.findall(r"row +median ([0-9.]+)", text)
    (rate,) = re.findall(r"([0-9]+) per second", text)
    return warm[0], warm[2], float(median), float(rate)


def show(what: str, case: str, first: float, third: float, median: float, rate: float) -> None:
    print(f"| {what} | {case} | {first:.1f} | {third:.1f} | {median:.2f} | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
