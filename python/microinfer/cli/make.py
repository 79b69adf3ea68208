"""The commands that make models: simulate, train, export, and the list of those that exist."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microinfer.cli.outputs import GRAPHS, Output, Overwrite, check_outputs
from microinfer.cli.show import console, crystals, duration, facts, model_table, say, warnings_as_lines

if TYPE_CHECKING:
    from microinfer.training.config import Config


def train(
    config: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A TOML configuration, or a shipped recipe's name."),
    ] = None,
    cif: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A CIF file, or FILE#BLOCK: the crystal, in place of the configuration's."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for library, log and checkpoint; by default runs/NAME."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a model for your own crystal, from a CIF file or a configuration.

    **microinfer train --cif Cu.cif** simulates a pattern library and trains on it with the default
    settings. How long it will take is measured and said first.
    """
    from microinfer.crystals.cif import split_source
    from microinfer.training.config import default_config, load_config

    if config is None and cif is None:
        raise typer.BadParameter("give a configuration, or --cif FILE, or both")
    if cif is not None and not split_source(cif)[0].is_file():
        raise FileNotFoundError(f"{cif}: no such CIF file")
    settings: Config = load_config(config) if config is not None else default_config(str(cif))
    if cif is not None:
        settings = settings.for_structure(cif)
    folder = out or Path("runs") / settings.name
    from microinfer.training import estimate
    from microinfer.training import train as run

    with warnings_as_lines():
        if not resume:
            crystals(settings.phases)
            simulation, training = estimate(settings, folder, device=device)
            if simulation:
                console.print(f"The pattern library will take about {duration(simulation)}.")
            console.print(f"The training will take about {duration(training)}.")
        checkpoint = run(settings, folder, resume=resume, device=device, progress=True)
    say(
        f"Model written to {checkpoint}. Map with: microinfer map SCAN --model {shlex.quote(str(checkpoint))}"
    )


def simulate(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A TOML configuration, or a shipped recipe's name.")
    ],
    out: Annotated[Path, typer.Option(metavar="LIB.h5", help="The pattern library to write.")],
) -> None:
    """Simulate a library of diffraction patterns for training."""
    from microinfer.training.config import load_config

    settings = load_config(config)
    from microinfer.simulation import simulate_library

    with warnings_as_lines():
        crystals(settings.phases)
        library = simulate_library(settings, out, progress=True)
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
