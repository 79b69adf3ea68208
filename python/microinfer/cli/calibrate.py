"""The command that measures the calibration of a scan on the rings of a known crystal."""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microinfer.cli.frames import (
    Centre,
    DetectorMask,
    FrameOptions,
    MinSnr,
    Probe,
    ScanShape,
    Set,
    Step,
    Vacuum,
    open_detected,
)
from microinfer.cli.match import warn
from microinfer.cli.outputs import HDF5, Output, Overwrite, check_outputs
from microinfer.cli.scan import Calibrated, Name, PixelSize, Voltage
from microinfer.cli.show import facts, say, warnings_as_lines

if TYPE_CHECKING:
    from microinfer.crystals.phase import CrystalPhase
    from microinfer.peaks import PeakSource
    from microinfer.peaks.pixels import PixelCalibration

K_MAX = 2.5  # 1/Angstrom, of the rings of CIF files


def calibrate(
    scan: Annotated[
        Path, typer.Argument(metavar="RAW|PEAKS", help="A camera's file, or an HDF5 file of Bragg peaks.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The phases that the scan holds: those of this model, a name or a path."),
    ] = None,
    cif: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Or a CIF file, FILE#BLOCK, or a built-in phase (Cu, Cu2O). Again for each further phase.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the peaks with their calibration to this file (.h5)."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Let what is measured take the place of what the file states, or was given."
        ),
    ] = False,
    name: Name = None,
    calibrated: Calibrated = False,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
    scan_shape: ScanShape = None,
    step: Step = None,
    probe: Probe = None,
    vacuum: Vacuum = None,
    centre: Centre = None,
    detector_mask: DetectorMask = None,
    min_snr: MinSnr = None,
    settings: Set = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure the direct beam, the ellipse and the pixel size of a scan on the rings of a known crystal.

    Without --out it only says what it finds; with --overwrite alone it writes into a file of peaks itself. What the
    file states stays as it is and is compared; **--replace** puts what was measured in its place.
    """
    from microinfer.detection.source import holds_frames
    from microinfer.peaks.calibrate import calibrate as measure
    from microinfer.peaks.calibrate import write_calibrated

    if (model is None) == (not cif):
        raise typer.BadParameter("give the crystal: --model or --cif, not both")
    frames = holds_frames(scan)
    target = out or (scan if overwrite and not frames else None)
    check_outputs(
        [Output("the calibrated peaks", target, HDF5)],
        {"the scan": scan if frames or not overwrite else None},
        overwrite=overwrite,
    )
    phases = _phases(model, cif or [])
    with ExitStack() as stack:
        stack.enter_context(warnings_as_lines())
        options = FrameOptions(scan_shape, step, probe, vacuum, centre, detector_mask, min_snr, settings)
        source, known = _in_pixels(scan, options, stack, name, calibrated, pixel_size, voltage)
        found = measure(source, phases, known)
        facts(f"Calibration of {scan} on {', '.join(phase.name for phase in phases)}", found.facts())
        for text in found.warnings:
            warn(text)
        if found.verdict == "refused":
            raise ValueError(f"{scan}: the rings do not decide: {found.reason}")
        if target is None:
            return
        settled = found.measured if replace else found.calibration
        write_calibrated(source, target, settled)
        facts(f"Wrote {target}", settled.describe())
        say("Go on with it:")
        say(f"  microinfer map {shlex.quote(str(target))} --model {shlex.quote(model or 'MODEL')}")
        if not replace and found.warnings:
            say("What was known is kept; --replace puts what was measured in its place")


def _in_pixels(
    scan: Path,
    options: FrameOptions,
    stack: ExitStack,
    name: str | None,
    calibrated: bool,
    pixel_size: float | None,
    voltage: str | None,
) -> "tuple[PeakSource, PixelCalibration]":
    """Peaks in pixels, found in frames or read from a file, and what is known of their calibration."""
    from microinfer.detection.kept import detected_calibration
    from microinfer.detection.source import holds_frames
    from microinfer.peaks import open_peaks

    if not holds_frames(scan):
        options.refuse(scan)
        reader = open_peaks(
            scan, name=name, calibrated=calibrated, pixel_size=pixel_size, voltage=voltage, in_pixels=True
        )
        return stack.enter_context(reader), reader.known
    found = open_detected(scan, options, stack, name=name, pixel_size=pixel_size, voltage=voltage, unit=1.0)
    return found, detected_calibration(found.frames.pixel_size, given=pixel_size is not None)


def _phases(model: str | None, cif: list[str]) -> "tuple[CrystalPhase, ...]":
    if model is not None:
        from microinfer.models import load_model

        return load_model(model).phases
    from microinfer.crystals.structure import load_structure

    return tuple(load_structure(source).phase(K_MAX) for source in cif)
