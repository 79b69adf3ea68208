"""The commands that look at scans: map, info."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microinfer.cli.about import about_frames, about_map, about_model
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
    open_scan,
)
from microinfer.cli.masks import load_mask
from microinfer.cli.match import choose_model, print_check, warn
from microinfer.cli.outputs import HDF5, PICTURES, Output, Overwrite, check_outputs
from microinfer.cli.show import errors, facts, histogram, literal, map_summary, say, warnings_as_lines
from microinfer.cli.stop import exit_status

if TYPE_CHECKING:
    from microinfer.crystals.phase import CrystalPhase
    from microinfer.crystals.structure import Structure

Scan = Annotated[
    Path,
    typer.Argument(
        metavar="SCAN",
        help="HDF5 file of Bragg peaks, py4DSTEM's or microinfer's; microinfer map takes a camera's frames, too.",
    ),
]
Name = Annotated[
    str | None, typer.Option(help="Which BraggVectors group to read, where the file has several.")
]
Calibrated = Annotated[
    bool,
    typer.Option("--calibrated", help="The file's peaks are already in 1/Å and centred (py4DSTEM 0.13)."),
]
PixelSize = Annotated[
    float | None, typer.Option(help="1/Å per detector pixel, in place of the file's own calibration.")
]
Voltage = Annotated[
    str | None,
    typer.Option(help="Accelerating voltage in kV (or V), in place of what the file's metadata say."),
]
Device = Annotated[
    str, typer.Option(help="auto (every GPU, else the CPU), cpu, cuda:0, or several with commas.")
]


def map_scan(
    scan: Scan,
    model: Annotated[
        str | None,
        typer.Option(help="A shipped model's name, or a checkpoint's path; asked for where it is missing."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The map to write (HDF5).")] = Path("map.h5"),
    plot: Annotated[Path | None, typer.Option(help="Draw IPF maps and confidence to this file.")] = None,
    ang: Annotated[Path | None, typer.Option(help="Export to an .ang file (EDAX, MTEX, orix).")] = None,
    ctf: Annotated[Path | None, typer.Option(help="Export to a .ctf file (HKL, MTEX).")] = None,
    roi: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(
            metavar="X0 X1 Y0 Y1", help="Map only scan rows X0 to X1 and columns Y0 to Y1 (ends excluded)."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Map only where this boolean .npy array, shaped like the scan, is true."),
    ] = None,
    min_disks: Annotated[
        int | None,
        typer.Option(
            help="Positions with fewer disks are invalid; by default the model's own limit, usually 2."
        ),
    ] = None,
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
    keep_peaks: Annotated[
        Path | None, typer.Option(help="Write the peaks that are found in frames to this file (HDF5).")
    ] = None,
    device: Device = "auto",
    block_rows: Annotated[int | None, typer.Option(help="Scan rows read at a time.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Patterns given to the model at once; by default 1024 on a CPU and 4096 on a GPU."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Of the model's matrix products: auto, float32 or bfloat16.")
    ] = "auto",
    refine: Annotated[
        bool, typer.Option(help="Polish the answers against the measured disks and rank them again.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    overwrite: Overwrite = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Map on the workers of this Dask scheduler, e.g. tcp://host:8786: only on a network you trust, or tls://.",
        ),
    ] = None,
) -> None:
    """Map crystal orientation and phase over a scan, given by its Bragg peaks or by the camera's frames.

    First it says whether the peaks lie on the rings of the model's phases, and whether voltage and camera fit.

    After Ctrl-C or an error the rows that are done stay beside the map, in a file that ends in .part:
    **--resume** goes on from there.
    """
    from microinfer.mapping import check_scan, map_to_file
    from microinfer.mapping.job import selected_positions
    from microinfer.maps.map_file import load_map
    from microinfer.models import load_model
    from microinfer.models.checkpoint import model_path
    from microinfer.unfinished import partial_path

    if resume and out.exists() and not partial_path(out).exists():
        raise FileExistsError(
            errno.EEXIST,
            "is there already, no unfinished work beside it: nothing is left to resume",
            str(out),
        )
    selection = None if mask is None else load_mask(mask)
    with (
        warnings_as_lines(),
        open_scan(
            scan,
            FrameOptions(scan_shape, step, probe, vacuum, centre, detector_mask, min_snr, settings),
            keep_peaks,
            name=name,
            calibrated=calibrated,
            pixel_size=pixel_size,
            voltage=voltage,
        ) as reader,
    ):
        model = model or choose_model(reader)
        check_outputs(
            [
                Output("the map", out, HDF5),
                Output("the plot", plot, PICTURES),
                Output("the .ang file", ang, [".ang"]),
                Output("the .ctf file", ctf, [".ctf"]),
                Output("the peaks", keep_peaks, HDF5),
            ],
            {
                "the scan": scan,
                "the model": model_path(model),
                "the mask": mask,
                "the detector's mask": detector_mask,
            },
            overwrite=overwrite,
        )
        loaded = load_model(model)
        try:
            check = check_scan(reader, loaded, selected_positions(reader.scan_shape, roi, selection))
            print_check(check)
            report = map_to_file(
                reader,
                loaded,
                out,
                resume=resume,
                overwrite=overwrite,
                device=device,
                progress=True,
                block_rows=block_rows,
                batch_size=batch_size,
                dtype=dtype,
                min_disks=min_disks,
                roi=roi,
                mask=selection,
                refine="kinematic" if refine else None,
                cluster=cluster,
                check=check,
            )
        except KeyboardInterrupt as stopped:
            kept = partial_path(out)
            rows = (
                f"the finished rows are in {kept}: go on with --resume"
                if kept.exists()
                else "no row was finished"
            )
            errors.print(f"Stopped; {literal(rows)}", soft_wrap=True)
            raise typer.Exit(exit_status(stopped)) from None
    map_summary(report, f"Map of {scan} written to {out}")
    if plot is not None or ang is not None or ctf is not None:
        omap = load_map(out)
        with warnings_as_lines():
            for path, write in ((plot, omap.plot), (ang, omap.to_ang), (ctf, omap.to_ctf)):
                if path is not None:
                    write(path, overwrite=overwrite)
                    say(f"Wrote {path}")


def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A scan (HDF5 file of Bragg peaks, or a camera's frames), an orientation map, or a model.",
        ),
    ],
    phase: Annotated[
        str | None,
        typer.Option(
            help="Compare with the rings of a CIF file (FILE or FILE#BLOCK) or a built-in phase (Cu, Cu2O)."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Compare with the rings of this model's phases, a name or a path.")
    ] = None,
    radius_max: Annotated[
        float | None, typer.Option(help="Outer end of the histogram in 1/Å, by default where the peaks end.")
    ] = None,
    name: Name = None,
    calibrated: Calibrated = False,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
    scan_shape: ScanShape = None,
) -> None:
    """Show a scan's calibration and peaks beside a phase's rings, or what frames, a map or a model hold.

    Whether scan and phase fit is said: a wrong crystal, pixel size, voltage or model is told here.
    """
    from microinfer.detection.source import holds_frames
    from microinfer.file_kinds import FileKind, file_kind
    from microinfer.mapping.check import check_scan
    from microinfer.models import shipped_models
    from microinfer.peaks import open_peaks
    from microinfer.peaks.agreement import ring_agreement
    from microinfer.peaks.radial import phase_rings, radial_histogram

    if not file.exists():
        file = shipped_models().get(str(file), file)
    about = {FileKind.MAP: about_map, FileKind.MODEL: about_model}.get(file_kind(file))
    if about is not None:
        if (phase, model, name, pixel_size, voltage) != (None,) * 5 or calibrated:
            raise typer.BadParameter("the options are for scans: a map or a model is shown as it is")
        about(file)
        return
    if phase is not None and model is not None:
        raise typer.BadParameter("give --phase or --model, not both")
    if holds_frames(file):
        if phase is not None or calibrated:
            raise typer.BadParameter(
                "--phase and --calibrated are for peaks: find them first, microinfer peaks"
            )
        about_frames(file, scan_shape, model, name=name, pixel_size=pixel_size, voltage=voltage)
        return
    if scan_shape is not None:
        raise typer.BadParameter(f"{file} holds peaks: --scan-shape is for frames")
    structure = _structure(phase)
    with (
        warnings_as_lines(),
        open_peaks(file, name=name, calibrated=calibrated, pixel_size=pixel_size, voltage=voltage) as reader,
    ):
        result = radial_histogram(reader, radius_max)
        phases: tuple[CrystalPhase, ...] = ()
        if structure is not None:
            phases = (structure.phase(result.radius_max),)
        rows, columns = reader.scan_shape
        facts(
            str(file),
            {
                "Scan": f"{rows} x {columns} positions, step {reader.scan_step:g} {reader.scan_units}",
                "Peaks": f"{result.disks.sum():,}, {result.disks.mean():.1f} per position, at most "
                f"{result.disks.max():,}; {(result.disks == 0).sum():,} positions without any",
                "Voltage": "not known" if reader.voltage is None else f"{reader.voltage / 1e3:g} kV",
                "Frame": "of the scan (rotation applied)" if reader.qr_calibrated else "of the detector",
                "Beyond": f"{result.outside:,} peaks farther out than {result.radius_max:g} 1/Å",
                "Read from": f"{reader.source}, {reader.description['format']}",
                "Calibration": ", ".join(
                    f"{key} {text}" for key, text in reader.description["found"].items() if text != "None"
                )
                or "none",
                "Applied": ", ".join(reader.description["applied"]) or "nothing",
            },
        )
        if model is not None:
            from microinfer.models import load_model

            loaded = load_model(model)
            phases = loaded.phases
            print_check(check_scan(reader, loaded))
        elif phases:
            rings = ring_agreement(reader, phases)
            text = f"Crystal: {rings.describe(reader.pixel_size)}"
            if rings.wrong:
                warn(text)
            else:
                say(text)
    for crystal in phases:
        histogram(result, phase_rings(crystal, result.radius_max), crystal.name)
    if not phases:
        histogram(result, [], "")


def _structure(phase: str | None) -> "Structure | None":
    if phase is None:
        return None
    from microinfer.crystals.structure import load_structure
    from microinfer.extras import require_packages

    structure = load_structure(phase)
    require_packages("info --phase", "py4DSTEM")  # for its scattering factors: which rings are strong
    say(structure.summary())
    return structure
