"""The command that times mapping on this machine: benchmark."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microinfer.cli.show import console, facts, say, warnings_as_lines

if TYPE_CHECKING:
    from microinfer.evaluation.timing import Runs

SEED = 8_128
PATTERNS = 256  # drawn; the scan repeats them, turned in-plane


def benchmark(
    model: Annotated[str, typer.Option(help="A shipped model's name, or a checkpoint's path.")] = "cu",
    shape: Annotated[
        tuple[int, int], typer.Option(metavar="ROWS COLUMNS", help="Scan positions of the synthetic scan.")
    ] = (64, 64),
    repeats: Annotated[int, typer.Option(min=1, help="Runs after a first one that is not counted.")] = 5,
    structure: Annotated[
        str | None,
        typer.Option(
            metavar="CRYSTAL",
            help="Beside template matching of this crystal, a CIF file or a built-in name (needs py4DSTEM).",
        ),
    ] = None,
    matched: Annotated[int, typer.Option(min=1, help="Patterns given to template matching.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    refine: Annotated[bool, typer.Option(help="Map with refinement.")] = True,
) -> None:
    """Time the stages of mapping on this machine, on a synthetic scan of the model's own phases."""
    import numpy as np

    from microinfer.extras import require_packages

    if structure is not None:
        from microinfer.crystals.structure import load_structure

        require_packages("--structure", "py4DSTEM")
        load_structure(structure)  # a file that cannot be read is found out before the work
    from microinfer.evaluation import timing as bench
    from microinfer.models import load_model

    loaded = load_model(model)
    if min(shape) < 1:
        raise ValueError(f"--shape must be two positive numbers, got {shape}")
    missing = [phase.name for phase in loaded.phases if not len(phase.reflections)]
    if missing or loaded.voltage is None:
        raise ValueError(
            f"{model}: the model does not state its voltage and reflections, which patterns need"
        )
    rng = np.random.default_rng(SEED)
    voltage, k_max = loaded.voltage, loaded.k_max
    patterns = bench.random_patterns(loaded.phases, voltage, k_max, PATTERNS, rng)
    positions = shape[0] * shape[1]
    with tempfile.TemporaryDirectory(prefix="microinfer-") as folder, warnings_as_lines():
        scan = Path(folder) / "scan.h5"
        bench.write_random_scan(scan, patterns, shape, rng)
        ours, report = bench.time_mapping(
            scan, loaded, positions, repeats, device=device, refine="kinematic" if refine else None
        )
    table("mapping", ours, list(report.seconds))
    facts(
        "",
        {
            "Machine": bench.machine(),
            "Model": f"{model}: {sum(values.size for values in loaded.weights.values()):,} weights, width "
            f"{loaded.config.width}, {', '.join(phase.name for phase in loaded.phases)}, "
            f"{'with' if refine else 'without'} refinement",
            "Scan": f"{shape[0]} x {shape[1]} positions, {np.mean([len(p) - 1 for p in patterns]):.1f} disks each",
            "Bottleneck": report.bottleneck,
            "Rate": f"{positions / ours.times('elapsed').mean():,.0f} positions per second",
        },
    )
    if structure is not None:
        peaks = next(bench.random_scan(patterns, (1, matched), rng))
        with warnings_as_lines():
            theirs = bench.time_template_matching(
                bench.template_matcher(structure, voltage, k_max), peaks, positions, 1
            )
        table("template matching", theirs, [])
        ratio = theirs.times("elapsed").mean() / ours.times("elapsed").mean()
        say(
            f"Template matching: {matched / theirs.total[0].elapsed:,.1f} positions per second; "
            f"microinfer is {ratio:,.0f} times as fast"
        )


def table(name: str, runs: "Runs", stages: list[str]) -> None:
    """Print seconds, mean and spread of the runs, stages apart."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False)
    for column in ("Seconds", "elapsed", "user", "system"):
        result.add_column(column)
    result.add_row(name, *(runs.cell(key) for key in ("elapsed", "user", "system")))
    for stage in stages:
        result.add_row(f"  {stage}, busy", runs.cell(stage), "", "")
    console.print(result)
