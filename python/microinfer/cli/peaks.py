"""The command that finds the Bragg disks in frames: peaks."""

import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

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
from microinfer.cli.outputs import HDF5, PICTURES, Output, Overwrite, check_outputs
from microinfer.cli.show import facts, say, warnings_as_lines


def peaks(
    raw: Annotated[
        Path,
        typer.Argument(metavar="RAW", help="A camera's file of frames: .mib, .dm4, .blo, HDF5 and others."),
    ],
    out: Annotated[Path, typer.Option(help="The file of peaks to write (HDF5).")] = Path("peaks.h5"),
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw some frames, with the disks that were found, and the disks' distances."),
    ] = None,
    scan_shape: ScanShape = None,
    step: Step = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(help="1/Å per detector pixel, in place of the file's; microinfer calibrate finds it."),
    ] = None,
    voltage: Annotated[
        str | None, typer.Option(help="Accelerating voltage in kV (or V), in place of the file's.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Which frames, where the file has several sets.")] = None,
    probe: Probe = None,
    vacuum: Vacuum = None,
    centre: Centre = None,
    detector_mask: DetectorMask = None,
    min_snr: MinSnr = None,
    settings: Set = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the Bragg disks in a camera's frames, and write them as peaks.

    The peaks are written in pixels, beside what is known of their calibration: **microinfer calibrate** adds what is
    missing, **microinfer map** and **info** apply it.
    """
    from microinfer.detection.kept import detected_calibration
    from microinfer.peaks import PeakWriter
    from microinfer.progress import ProgressBar

    check_outputs(
        [Output("the file of peaks", out, HDF5), Output("the plot", plot, PICTURES)],
        {"the frames": raw, "the detector's mask": detector_mask},
        overwrite=overwrite,
    )
    options = FrameOptions(scan_shape, step, probe, vacuum, centre, detector_mask, min_snr, settings)
    began = time.perf_counter()
    with warnings_as_lines(), ExitStack() as stack:
        scan = open_detected(raw, options, stack, name=name, pixel_size=pixel_size, voltage=voltage, unit=1.0)
        known = scan.frames.pixel_size
        calibration = detected_calibration(known, given=pixel_size is not None)
        positions = scan.scan_shape[0] * scan.scan_shape[1]
        found = 0
        with (
            PeakWriter(out, scan.scan, calibration=calibration) as writer,
            ProgressBar("finding disks", positions, unit="frames", visible=True) as bar,
        ):
            for block in scan.found_rows(0, scan.scan_shape[0]):
                pixels = block.peaks(scan.scan, 1.0)
                writer.write_rows(pixels)
                bar.advance(len(pixels))
                found += pixels.n_peaks
        elapsed, busy = time.perf_counter() - began, dict(scan.seconds)
        if plot is not None:
            from microinfer.detection import plot_disks

            plot_disks(scan, plot, overwrite=True)
    rates = ", ".join(
        f"{stage} {seconds:.2f} ({positions / seconds:,.0f} frames/s)"
        for stage, seconds in busy.items()
        if seconds > 0
    )
    facts(
        f"Peaks of {raw} written to {out}",
        {
            "Positions": f"{positions:,}",
            "Peaks": f"{found:,}, {found / positions:.1f} a position",
            **{key.capitalize(): text for key, text in scan.facts().items()},
            "Pixel size": "not known" if known is None else f"{known:g} 1/Å",
            "Busy seconds": rates,
            "Elapsed": f"{elapsed:.2f} s, {positions / elapsed:,.0f} frames per second",
        },
    )
    if plot is not None:
        say(f"Wrote {plot}")
    command = "calibrate" if known is None else "info"
    say("Go on with them:")
    say(f"  microinfer {command} {shlex.quote(str(out))} --model MODEL")
