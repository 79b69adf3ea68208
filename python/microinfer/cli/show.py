"""What the commands print: summaries of a map, of a scan, of models."""

import math
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from microinfer.mapping import MapReport
    from microinfer.peaks.radial import RadialHistogram, Ring

console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

HEIGHT = 8  # lines of the histogram
EIGHTHS = " ▁▂▃▄▅▆▇█"


def literal(text: object) -> str:
    """Text for the terminal as it stands: markup is none, and control characters show as they are escaped.

    Names in files and of files may hold both.
    """
    shown = "".join(
        character.encode("unicode_escape").decode() if _controls(character) else character
        for character in str(text)
    )
    return escape(shown)


def _controls(character: str) -> bool:
    """Whether a character steers the terminal, turns its direction of writing, or is half of another one."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def say(text: str) -> None:
    """Print a line, unbroken however long it is, so that the paths in it can be copied."""
    console.print(literal(text), soft_wrap=True)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print the warnings raised inside as lines of their own, once the work is done or has failed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for message in dict.fromkeys(str(warning.message) for warning in caught):
                errors.print(f"[bold yellow]Warning:[/] {literal(message)}", soft_wrap=True)


def facts(title: str, rows: dict[str, str]) -> None:
    """Print names and values below a title, each on a line of its own, however long."""
    if title:
        say(title)
    width = max(map(len, rows))
    for name, value in rows.items():
        console.print(f"  [dim]{literal(name.ljust(width))}[/]  {literal(value)}", soft_wrap=True)


def map_summary(report: "MapReport", title: str) -> None:
    """Print what a mapping did on one screen."""
    rows = {"Positions": f"{report.positions:,}"}
    if report.resumed:
        rows["Done before"] = share(report.resumed, report.positions)
    rows["Valid"] = share(report.valid, report.positions)
    for name, count in report.phase_counts.items():
        rows[f"Phase {name}"] = share(count, report.positions)
    rows["Mean confidence"] = f"{report.mean_confidence:.3f}" if report.valid else "none"
    rows["Busy seconds"] = ", ".join(f"{stage} {value:.2f}" for stage, value in report.seconds.items())
    rows["Elapsed"] = f"{report.elapsed:.2f} s, {report.positions_per_second:,.0f} positions per second"
    facts(title, rows)


def histogram(result: "RadialHistogram", rings: "list[Ring]", phase: str) -> None:
    """Print a radial histogram as bars, a phase's rings below."""
    counts = np.sqrt(result.counts / max(1, result.counts.max()))
    eighths = np.rint(counts * HEIGHT * 8).astype(int)
    # a bin with any peak at all shows
    eighths = np.where(result.counts > 0, np.maximum(eighths, 1), 0)
    console.print(
        f"Peaks by distance from the centre (square root of the count), to {result.radius_max:.2f} 1/Å"
    )
    for level in range(HEIGHT - 1, -1, -1):
        line = "".join(EIGHTHS[int(np.clip(value - 8 * level, 0, 8))] for value in eighths)
        console.print(line.rstrip(), soft_wrap=True)
    bins = len(counts)
    if rings:
        marks = [" "] * bins
        for ring in rings:
            marks[min(bins - 1, int(ring.radius / result.radius_max * bins))] = "^"
        console.print(f"[cyan]{''.join(marks).rstrip()}[/]  rings of {literal(phase)}", soft_wrap=True)
    axis = [" "] * (bins + 4)
    for value in np.arange(0.0, result.radius_max + 1e-9, 0.5):
        at = int(value / result.radius_max * bins)
        axis[at : at + 3] = f"{value:.1f}"
    console.print("".join(axis).rstrip(), style="dim", soft_wrap=True)
    if rings:
        inner = ", ".join(f"{{{' '.join(map(str, ring.hkl))}}} {ring.radius:.3f}" for ring in rings[:5])
        console.print(f"Innermost rings of {literal(phase)}, in 1/Å: {inner}", soft_wrap=True)


def model_table(cards: dict[str, dict[str, Any]], phases: dict[str, str]) -> None:
    """Print the shipped models."""
    table = Table(box=None, pad_edge=False)
    for column in ("Model", "Phases", "Voltage", "k max", "Figures"):
        table.add_column(column)
    for name, card in cards.items():
        text = "\n".join(literal(f"{test}: {line}") for test, line in card_figures(card).items())
        table.add_row(
            literal(name),
            literal(phases[name]),
            f"{card['voltage'] / 1e3:g} kV" if "voltage" in card else "",
            f"{card['k_max']:g} 1/Å" if "k_max" in card else "",
            text,
        )
    console.print(table)


def card_figures(card: dict[str, Any]) -> dict[str, str]:
    """What `microinfer evaluate --write-card` found on each test set, in a line."""
    lines = {}
    for test, figures in card.get("figures", {}).items():
        if isinstance(figures, dict):  # cards of the first models hold numbers, of no test set in particular
            lines[test] = (
                f"mean {figures['mean_error_deg']:.2f} deg, median {figures['median_error_deg']:.2f} deg, "
                f"within 3 deg {figures['within_3_deg']:.1%}"
            )
            if "calibration_error" in figures:
                lines[test] += f", calibration error {figures['calibration_error']:.3f}"
    return lines


def duration(seconds: float) -> str:
    """Seconds, minutes or hours in words, rounded up."""
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds > size:
            count = math.ceil(seconds / size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "a minute" if seconds > 30 else "half a minute"


def share(part: int, whole: int) -> str:
    """A number, and what part of the whole it is."""
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"
