"""The commands that make models: simulate, train, export, and the list of those that exist."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microinfer.cli.outputs import GRAPHS, Output, Overwrite, check_outputs
from microinfer.cli.show import console, duration, facts, model_table, say, warnings_as_lines
from microinfer.cli.trainings import plan, stops_with_a_way_on, verdict

if TYPE_CHECKING:
    from microinfer.training.config import Config

LONG = 3600
"""Seconds; a training that takes longer says how to make it shorter, and asks before it begins."""


def train(
    config: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A TOML configuration, or a shipped recipe's name."),
    ] = None,
    cif: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A CIF file, or FILE#BLOCK: the crystal, in place of the configuration's. Again for each further "
            "phase of one model.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for library, log and checkpoint; by default runs/NAME."),
    ] = None,
    voltage: Annotated[
        str | None,
        typer.Option(metavar="KV", help="Accelerating voltage, in kilovolts or volts: 200 or 200e3."),
    ] = None,
    k_max: Annotated[
        float | None,
        typer.Option(metavar="K", help="Where the camera ends, in 1/Å; a smaller one trains faster."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A smaller library and a shorter training, a little less accurate."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however long it takes.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a model for your own crystal, from a CIF file or a configuration.

    **microinfer train --cif Ti.cif --voltage 200 --k-max 1.2** simulates a pattern library and trains on it. What it
    will do and how long that takes is said first. Ctrl-C stops it at any moment, and --resume goes on.
    """
    from microinfer.training.config import configure

    if config is None and not cif:
        raise typer.BadParameter("give a configuration, or --cif FILE, or both")
    with warnings_as_lines():
        settings = configure(config, cif or (), voltage=voltage, k_max=k_max, quick=quick)
    folder = out or Path("runs") / settings.name

    from microinfer.training.folder import may_resume

    with stops_with_a_way_on(lambda: may_resume(folder)), warnings_as_lines():
        _begin(settings, folder, resume=resume, device=device, ask=not yes)
        from microinfer.training import train as run

        checkpoint = run(settings, folder, resume=resume, device=device, progress=True)
    from microinfer.models import load_model

    found = load_model(checkpoint).card["verdict"]
    verdict(found)
    way = (
        f" Map with: microinfer map SCAN --model {shlex.quote(str(checkpoint))}"
        if found["good_enough"]
        else ""
    )
    say(f"Model written to {checkpoint}.{way}")


def _begin(settings: "Config", folder: Path, *, resume: bool, device: str, ask: bool) -> None:
    """Check what can be checked, and say what will be done and how long it takes; a long training asks first."""
    from microinfer.models.device import first_device
    from microinfer.simulation.simulate import load_structures
    from microinfer.training.folder import read_library
    from microinfer.training.start import require_folder

    where = first_device(device)
    require_folder(folder, resume=resume)
    plan(settings, load_structures(settings), f"Training {folder}", where)
    library = read_library(settings, folder)
    from microinfer.training.duration import estimate, scaled
    from microinfer.training.folder import remaining

    found = estimate(settings, library, device=where)
    if resume:
        found = remaining(found, settings, folder)
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in found._asdict().items() if seconds)
    begins = "What is left takes" if resume else "It will take"
    console.print(f"{begins} about {duration(found.total)}: {parts}.", soft_wrap=True)
    if resume or found.total <= LONG:
        return
    quick = scaled(found, settings, settings.quick())
    console.print(
        f"Shorter: --quick (about {duration(quick.total)}); --k-max, where your camera ends before "
        f"{settings.simulation.k_max:g} 1/Å; fewer zone_axes and samples in a configuration. Ctrl-C stops at any "
        "moment, and --resume goes on.",
        soft_wrap=True,
    )
    if ask and at_a_terminal() and not typer.confirm("Begin?", default=True):
        raise typer.Exit(1)


def at_a_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def simulate(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A TOML configuration, or a shipped recipe's name.")
    ],
    out: Annotated[Path, typer.Option(metavar="LIB.h5", help="The pattern library to write.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
) -> None:
    """Simulate a library of diffraction patterns for training."""
    from microinfer.simulation.simulate import load_structures, require_simulation, simulate_library
    from microinfer.simulation.unfinished import partial_path
    from microinfer.training.config import load_config

    require_simulation()
    with warnings_as_lines():
        settings = load_config(config)
    with stops_with_a_way_on(lambda: partial_path(out).exists()), warnings_as_lines():
        from microinfer.simulation.cost import library_seconds
        from microinfer.simulation.simulate import default_processes

        structures = load_structures(settings)
        plan(settings, structures, f"Simulating {out}")
        seconds = library_seconds(structures, settings.simulation, default_processes())
        console.print(f"It will take about {duration(seconds)}.")
        library = simulate_library(settings, out, resume=resume, progress=True)
    facts(
        f"Pattern library written to {out}",
        {"Patterns": f"{len(library):,}", "Phases": ", ".join(phase.name for phase in library.phases)},
    )


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A shipped model's name, or a checkpoint's path.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    device: Annotated[str, typer.Option(help="Where it is traced: cpu or cuda.")] = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Write a model as a TorchScript file, for whatever runs torch without microinfer.

    The file takes Bragg peaks in 1/Å and returns orientation, phase, confidence and validity, unrefined. microinfer's
    C++ library reads checkpoints themselves.
    """
    from microinfer.extras import require_packages
    from microinfer.models.checkpoint import model_path

    require_packages("microinfer export", "torch")
    check_outputs([Output("the graph", out, GRAPHS)], {"the model": model_path(model)}, overwrite=overwrite)
    from microinfer.models.graph import export_model

    export_model(model, out, device=device)
    say(f"Wrote {out}")


def models() -> None:
    """List the models that come with microinfer."""
    from microinfer.models import load_model, shipped_models

    loaded = {name: load_model(name) for name in shipped_models()}
    if not loaded:
        say("No models come with this installation: train one with microinfer train --cif FILE")
        return
    model_table(
        {name: model.card for name, model in loaded.items()},
        {name: ", ".join(phase.name for phase in model.phases) for name, model in loaded.items()},
    )
