"""Which model maps a scan, and what is printed of how they go together."""

import sys
from typing import TYPE_CHECKING

import typer

from microinfer.cli.show import errors, literal, say

if TYPE_CHECKING:
    from microinfer.mapping import ScanCheck
    from microinfer.models import Model
    from microinfer.peaks import PeakSource


def choose_model(reader: "PeakSource") -> str:
    """Return the shipped model for the phases that a scan's metadata name, else ask; ValueError where nobody can be."""
    from microinfer.models import load_model, shipped_models

    models = {name: load_model(name) for name in shipped_models()}
    phases = getattr(reader, "phases", ())
    if phases:
        named = {name.casefold() for name in phases}
        fitting = [
            name
            for name, model in models.items()
            if {phase.name.casefold() for phase in model.phases} == named
        ]
        if len(fitting) == 1:
            say(f"Model {fitting[0]}: the scan's metadata name {', '.join(phases)}")
            return fitting[0]
    known = "; ".join(f"{name} ({_in_words(model)})" for name, model in models.items()) or "none"
    if not sys.stdin.isatty():
        raise ValueError(
            f"give --model, a name or a checkpoint's path. Models that come with microinfer: {known}. "
            "For another crystal train one: microinfer train --cif FILE"
        )
    errors.print(f"Models that come with microinfer: {literal(known)}", soft_wrap=True)
    errors.print("For another crystal train one: microinfer train --cif FILE", soft_wrap=True)
    return str(typer.prompt("Model, a name or a checkpoint's path", err=True))


def print_check(check: "ScanCheck") -> None:
    """Print how a scan and a model go together: what does not, as warnings."""
    doubtful = check.warnings
    for name, text in check.facts.items():
        if text in doubtful:
            warn(f"{name}: {text}")
        else:
            say(f"{name}: {text}")


def warn(text: str) -> None:
    """Print a warning at once."""
    errors.print(f"[bold yellow]Warning:[/] {literal(text)}", soft_wrap=True)


def _in_words(model: "Model") -> str:
    phases = ", ".join(phase.name for phase in model.phases)
    voltage = f", {model.voltage / 1e3:g} kV" if model.voltage else ""
    return f"{phases}{voltage}, to {model.k_max:g} 1/Å"
