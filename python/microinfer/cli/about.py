"""What frames, a map and a model hold, in words: for info."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microinfer.cli.match import print_check
from microinfer.cli.show import card_figures, facts, say, share, warnings_as_lines

if TYPE_CHECKING:
    from microinfer.crystals.phase import CrystalPhase

TRUSTED = 0.9  # a confidence above which answers are counted apart


def about_frames(
    path: Path,
    scan_shape: str | None,
    model: str | None,
    *,
    name: str | None,
    pixel_size: float | None,
    voltage: str | None,
) -> None:
    """Print what a camera's file states of its scan and what some frames show, and whether they fit a model."""
    from microinfer.cli.frames import FrameOptions, open_detected

    with ExitStack() as stack:
        stack.enter_context(warnings_as_lines())
        scan = open_detected(
            path,
            FrameOptions(scan_shape),
            stack,
            name=name,
            pixel_size=pixel_size,
            voltage=voltage,
            unit=1.0,
        )
        known = scan.frames.pixel_size
        rows, columns = scan.scan_shape
        facts(
            str(path),
            {
                "Scan": f"{rows} x {columns} positions, step {scan.scan_step:g} {scan.scan_units}",
                "Voltage": "not known" if scan.voltage is None else f"{scan.voltage / 1e3:g} kV",
                "Pixel size": "not known" if known is None else f"{known:g} 1/Å",
                "Read from": str(getattr(scan.frames, "kind", "frames")),
                **{key.capitalize(): text for key, text in scan.facts().items()},
            },
        )
        if model is not None and known is not None:
            from microinfer.mapping.check import check_scan
            from microinfer.models import load_model

            scan = stack.enter_context(
                open_detected(
                    path, FrameOptions(scan_shape), stack, name=name, pixel_size=pixel_size, voltage=voltage
                )
            )
            print_check(check_scan(scan, load_model(model)))
    say("Find the disks and look at them:")
    say(f"  microinfer peaks {shlex.quote(str(path))} --out peaks.h5 --plot disks.png")


def about_map(path: Path) -> None:
    """Print what a map holds."""
    from microinfer.mapping.check import doubt_of
    from microinfer.maps.map_file import load_map

    omap = load_map(path)
    rows, columns = omap.scan_shape
    confidence = omap.confidence[omap.valid]
    lines = {
        "Scan": f"{rows} x {columns} positions, step {omap.scan_step:g} {omap.scan_units}",
        "Frame": "of the scan (rotation applied)" if omap.qr_calibrated else "of the detector",
        "Valid": share(len(confidence), omap.valid.size),
    }
    for index, phase in enumerate(omap.phases):
        lines[f"Phase {phase.name}"] = (
            f"{share(int((omap.phase[omap.valid] == index).sum()), omap.valid.size)}, {crystal(phase)}"
        )
    lines["Confidence"] = (
        f"mean {confidence.mean(dtype=np.float64):.3f}, median {np.median(confidence):.3f}, "
        f"above {TRUSTED:g} at {share(int((confidence > TRUSTED).sum()), omap.valid.size)}"
        if len(confidence)
        else "none"
    )
    refined = np.isfinite(omap.score).any()
    lines["Answers"] = (
        f"up to {omap.arrays['phase'].shape[2]} at a position, {'refined' if refined else 'not refined'}"
    )
    if omap.voltage is not None:
        lines["Scan's voltage"] = f"{omap.voltage / 1e3:g} kV"
    doubt = doubt_of(omap.model_card)
    if doubt and doubt not in omap.warnings:
        lines["Model in doubt"] = doubt
    for number, warning in enumerate(omap.warnings, 1):
        lines["Warning" if len(omap.warnings) == 1 else f"Warning {number}"] = warning
    facts(
        f"{path}: an orientation map",
        lines | _card(omap.model_card) | {"Mapped by": f"microinfer {omap.version}, {omap.dtype}"},
    )


def about_model(path: Path) -> None:
    """Print what a model holds."""
    from microinfer.mapping.check import doubt_of
    from microinfer.models import load_model

    model = load_model(path)
    doubt = doubt_of(model.card)
    lines = {"In doubt": doubt} if doubt else {}
    lines |= {f"Phase {phase.name}": crystal(phase) for phase in model.phases}
    a, b, c = model.calibration
    network = f"{model.config.kind}, {sum(values.size for values in model.weights.values()):,} weights"
    facts(
        f"{path}: a model",
        _card({"k_max": model.k_max} | model.card)
        | lines
        | {"Network": network, "Calibration": f"log-odds {a:.3g} ln p - {b:.3g} ln(1 - p) + {c:.3g}"}
        | {f"Test set {test}": line for test, line in card_figures(model.card).items()},
    )


def crystal(phase: "CrystalPhase") -> str:
    """Space group and cell of a phase."""
    cell: Sequence[float] = phase.lattice
    lengths, angles = (" ".join(f"{value:g}" for value in part) for part in (cell[:3], cell[3:]))
    return f"{phase.space_group or phase.point_group}, {lengths} Å, {angles}°"


def _card(card: dict[str, Any]) -> dict[str, str]:
    """What the card of a model says, as far as it says it."""
    voltage, k_max = card.get("voltage"), card.get("k_max")
    known = {
        "Model": card.get("name"),
        "Voltage": f"{voltage / 1e3:g} kV" if isinstance(voltage, int | float) else voltage,
        "k max": f"{k_max:g} 1/Å" if isinstance(k_max, int | float) else k_max,
        "Trained by": f"microinfer {card['version']}" if "version" in card else None,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
