"""What trainings and simulations say: what they will do, how to go on after an interruption, what came out."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from microinfer.cli.show import errors, facts, literal, say
from microinfer.interruption import Stopped, stoppable

if TYPE_CHECKING:
    from microinfer.crystals.structure import Structure
    from microinfer.training.config import Config


def plan(config: "Config", crystals: "Sequence[Structure]", title: str, device: str | None = None) -> None:
    """Print what will be simulated, and trained where there is a device."""
    from microinfer.simulation.cost import simulated
    from microinfer.simulation.simulate import default_processes

    simulation, cores = config.simulation, default_processes()
    zone_axes, thicknesses = simulated(simulation)
    if simulation.sampling != "random":
        thicknesses = simulation.thicknesses
    limits = [simulation.thickness_limits(crystal.lattice[0]) for crystal in crystals]
    rows = {}
    for crystal, phase in zip(crystals, config.phases, strict=True):
        say(crystal.summary(phase.symmetry))
    rows["Microscope"] = f"{simulation.voltage / 1e3:g} kV, disks to {simulation.k_max:g} 1/Å"
    rows["Patterns"] = (
        f"{len(crystals) * zone_axes * thicknesses:,}: {zone_axes:,} zone axes"
        f"{' of each phase' if len(crystals) > 1 else ''}, {thicknesses} thicknesses of "
        f"{min(limits)[0] / 10:.3g} to {max(limits)[1] / 10:.3g} nm"
    )
    if device is not None:
        rows["Training"] = f"{config.training.samples:,} samples on {device}"
    rows["Cores"] = f"{cores}, for as many worker processes, then threads"
    facts(title, rows)


def verdict(found: dict[str, Any]) -> None:
    """Print what a training came to."""
    say(
        f"On {found['patterns']:,} patterns of zone axes that it was not trained on, "
        f"{found['refined_within_3_deg']:.1%} of its answers are right to 3 degrees, median error "
        f"{found['refined_median_error_deg']:.2f} degrees (before refinement {found['within_3_deg']:.1%}, "
        f"{found['median_error_deg']:.2f} degrees). Usual for patterns with as many disks: "
        f"{found['usual_within_3_deg']:.0%}."
    )
    if not found["good_enough"]:
        errors.print(
            "[bold yellow]Not good enough to map with.[/] Train with more zone_axes and samples (without --quick).",
            soft_wrap=True,
        )


@contextmanager
def stops_with_a_way_on(kept: Callable[[], bool]) -> Iterator[None]:
    """End the command at Ctrl-C and SIGTERM with a message that names the command to go on with.

    Parameters
    ----------
    kept : callable
        Whether there is anything to go on with.
    """
    try:
        with stoppable():
            yield
    except Stopped as stopped:
        again = [argument for argument in sys.argv[1:] if argument != "--resume"]
        if kept():
            text, again = "Stopped; what is done is kept. Go on with:", [*again, "--resume"]
        else:
            text = "Stopped before there was anything to keep. Begin again with:"
        errors.print(literal(f"{text} {shlex.join(['microinfer', *again])}"), soft_wrap=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + stopped.number)  # everything is closed, and torch would take seconds to be taken down
