"""The paper's Fig. 3 and Tables S2 to S4 on this machine: scans from 8 x 8 to 1024 x 1024 positions.

    python benchmarks/paper_figure3.py --out benchmarks/reports/figure3

Four ways on the same patterns, from a file that py4DSTEM reads to a map: py4DSTEM's template matching, the paper's
procedure, the paper's model in microinfer, and microinfer as it is shipped, which maps every scan whole. One run of the
others handles at most as many positions as fit into --seconds by the rate of the size before; beyond that, times are
extrapolated from a part of the scan and marked with ~ (hollow in the figure). Writes OUT.md and OUT.png.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from paper_procedure import BATCH, MAX_DISKS, WIDTH, map_as_in_the_paper, paper_model
from py4dstem_file import write_py4dstem

from microinfer.evaluation import timing as bench
from microinfer.evaluation.timing import Runs
from microinfer.mapping import map_to_file
from microinfer.models import load_model

SEED = 8_128
TIMES = ("elapsed", "user", "system")
Way = Callable[[Path], dict[str, float]]


def measure(way: Way, size: int, seconds: float, repeats: int, rate: float, draw: Callable) -> Runs:
    """Time one way on a square scan, or on as many of its rows as fit into `seconds` at `rate` per second."""
    rows = int(np.clip(seconds / size * rate, 1, size))
    with tempfile.TemporaryDirectory(prefix="microinfer-") as folder:
        path = Path(folder) / "scan.h5"
        draw(path, (rows, size))
        return bench.repeat(lambda: way(path), size * size, rows * size, repeats)


def table(results: dict[str, dict[int, Runs]], repeats: int) -> str:
    lines = [
        f"{bench.machine()}; seconds, mean ± standard deviation of {repeats} runs after one that is not counted; "
        "~ extrapolated from a part of the scan. The paper's model has width "
        f"{WIDTH}, and in its own procedure {MAX_DISKS} tokens to a pattern and {BATCH} patterns to a batch.",
        "",
    ]
    for name, sizes in results.items():
        stages = list(next(iter(sizes.values())).stages[0])
        columns = [*TIMES, *stages]
        lines += [
            f"## {name}",
            "",
            "| scan | " + " | ".join(columns) + " |",
            "|---" * (1 + len(columns)) + "|",
        ]
        for size, runs in sizes.items():
            cells = [runs.cell(key) for key in columns]
            lines.append(f"| {size} x {size} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def draw_figure(results: dict[str, dict[int, Runs]], path: Path) -> None:
    staged = [(name, sizes) for name, sizes in results.items() if next(iter(sizes.values())).stages[0]]
    figure, axes = plt.subplots(2, 2, figsize=(9.0, 8.0), layout="constrained")
    total, *apart = axes.ravel()
    for name, sizes in results.items():
        x = [size * size for size in sizes]
        elapsed = [runs.times("elapsed").mean() for runs in sizes.values()]
        (line,) = total.loglog(x, elapsed, label=name)
        for at, value, runs in zip(x, elapsed, sizes.values(), strict=True):
            colour = "white" if runs.extrapolated else line.get_color()
            total.plot(at, value, "o", color=line.get_color(), markerfacecolor=colour)
    total.set(xlabel="scan positions", ylabel="seconds from file to map", title="hollow: extrapolated")
    total.set_ylim(top=100.0 * total.get_ylim()[1])  # room for the names
    total.legend(frameon=False, loc="upper left")
    for axis, (name, sizes) in zip(apart, staged, strict=True):
        for stage in next(iter(sizes.values())).stages[0]:
            axis.loglog(
                [s * s for s in sizes], [r.times(stage).mean() for r in sizes.values()], "o-", label=stage
            )
        axis.set(xlabel="scan positions", ylabel="seconds in each stage", title=name)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("figure3"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0, help="longest run before extrapolating")
    parser.add_argument("--model", default="cu")
    parser.add_argument("--structure", default="Cu")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    model = load_model(arguments.model)
    voltage, k_max = model.voltage, model.k_max
    patterns = bench.random_patterns(model.phases, voltage, k_max, 256, rng)
    matcher = bench.template_matcher(arguments.structure, voltage, k_max)
    reference = paper_model(model.phases)
    network = reference.network(arguments.device)

    def draw(path: Path, shape: tuple[int, int]) -> None:
        write_py4dstem(path, bench.random_scan(patterns, shape, rng), shape, rng)

    def match(path: Path) -> dict[str, float]:
        from microinfer.peaks import read_peaks

        matcher(read_peaks(path))
        return {}

    def ours(path: Path) -> dict[str, float]:
        return map_to_file(
            path, model, path.with_name("map.h5"), device=arguments.device, overwrite=True
        ).seconds

    def paper(path: Path) -> dict[str, float]:
        return map_as_in_the_paper(path, network)

    def paper_in_microinfer(path: Path) -> dict[str, float]:
        to = path.with_name("map.h5")
        return map_to_file(path, reference, to, device=arguments.device, refine=None, overwrite=True).seconds

    shipped = f"microinfer {arguments.model}, as shipped"
    ways: dict[str, Way] = {
        "template matching (py4DSTEM)": match,
        "the paper's procedure": paper,
        "microinfer, the paper's model": paper_in_microinfer,
        shipped: ours,
    }
    results: dict[str, dict[int, Runs]] = {name: {} for name in ways}
    rates = dict.fromkeys(ways, np.inf)  # the smallest scan is handled whole
    for size in arguments.sizes:
        for name, way in ways.items():
            seconds = np.inf if name == shipped else arguments.seconds
            runs = measure(way, size, seconds, arguments.repeats, rates[name], draw)
            results[name][size] = runs
            rates[name] = size * size / runs.times("elapsed").mean()
            print(f"{size:5d} x {size:<5d} {name:60s} {runs.cell('elapsed')} s", flush=True)
        arguments.out.with_suffix(".md").write_text(table(results, arguments.repeats))
        draw_figure(results, arguments.out.with_suffix(".png"))
