"""The commands that give a scan or a map another form: convert, plot."""

from pathlib import Path
from typing import Annotated

import typer

from microinfer.cli.outputs import EXPORTS, HDF5, PICTURES, Output, Overwrite, check_outputs
from microinfer.cli.scan import Calibrated, Name, PixelSize, Voltage
from microinfer.cli.show import facts, say, warnings_as_lines


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="SCAN|MAP", help="HDF5 file of Bragg peaks, or an orientation map.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: .h5 of a scan; .ang (EDAX, MTEX, orix) or .ctf (HKL, MTEX) of a map."
        ),
    ],
    name: Name = None,
    calibrated: Calibrated = False,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
    frame: Annotated[
        str, typer.Option(help="Of a .ctf file's hexagonal axes: hkl, or orix as orix reads them.")
    ] = "hkl",
    overwrite: Overwrite = False,
) -> None:
    """Copy a scan's peaks to microinfer's own form, or export a map.

    The peaks of a scan become calibrated, compact and fast to read. A map becomes a file for other programs.
    """
    from microinfer.file_kinds import FileKind, file_kind

    if file_kind(file) is FileKind.MAP or out.suffix.lower() in EXPORTS:
        if (name, pixel_size, voltage) != (None,) * 3 or calibrated:
            raise typer.BadParameter(
                "--name, --calibrated, --pixel-size and --voltage are for scans, not for maps"
            )
        check_outputs([Output("the export", out, EXPORTS)], {"the map": file}, overwrite=overwrite)
        _export(file, out, frame, overwrite)
    else:
        check_outputs([Output("the copy", out, HDF5)], {"the scan": file}, overwrite=overwrite)
        _copy_peaks(file, out, name, calibrated, pixel_size, voltage)


def plot(
    file: Annotated[Path, typer.Argument(metavar="MAP", help="An orientation map that microinfer wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The picture, .png, .svg or .pdf; by default the map's name with .png."),
    ] = None,
    panel: Annotated[
        list[str] | None,
        typer.Option(
            help="One of x, y, z, confidence, score and phase, once for each panel; by default all that tell."
        ),
    ] = None,
    dpi: Annotated[float, typer.Option(help="Dots per inch.")] = 150.0,
    overwrite: Overwrite = False,
) -> None:
    """Draw a map: inverse pole figure maps, the confidence, and the phases where there are several."""
    from microinfer.maps.map_file import load_map

    omap = load_map(file)
    picture = out or file.with_suffix(".png")
    check_outputs([Output("the picture", picture, PICTURES)], {"the map": file}, overwrite=overwrite)
    with warnings_as_lines():
        omap.plot(picture, panels=panel, dpi=dpi, overwrite=overwrite)
    say(f"Wrote {picture}")


def _export(file: Path, out: Path, frame: str, overwrite: bool) -> None:
    from microinfer.maps.map_file import load_map

    omap = load_map(file)
    with warnings_as_lines():
        if out.suffix.lower() == ".ctf":
            omap.to_ctf(out, frame=frame, overwrite=overwrite)
            if frame == "hkl" and any(phase.lattice[5] == 120.0 for phase in omap.phases):
                say(
                    "Hexagonal axes as HKL's programs have them; orix reads them 30° off: for it give --frame orix"
                )
        else:
            omap.to_ang(out, overwrite=overwrite)
    say(f"Wrote {out}")


def _copy_peaks(
    scan: Path,
    out: Path,
    name: str | None,
    calibrated: bool,
    pixel_size: float | None,
    voltage: str | None,
) -> None:
    from microinfer.peaks import convert_peaks, open_peaks
    from microinfer.progress import ProgressBar

    with (
        warnings_as_lines(),
        open_peaks(scan, name=name, calibrated=calibrated, pixel_size=pixel_size, voltage=voltage) as reader,
    ):
        rows, columns = reader.scan_shape
        with ProgressBar("converting", rows * columns, unit="positions", visible=True) as bar:
            convert_peaks(reader, out, bar.advance)
        facts(
            f"Peaks of {scan} written to {out}",
            {
                "Scan": f"{rows} x {columns} positions, step {reader.scan_step:g} {reader.scan_units}",
                "Voltage": "not known, give it once with --voltage"
                if reader.voltage is None
                else f"{reader.voltage / 1e3:g} kV",
                "Applied": ", ".join(reader.description["applied"]) or "nothing",
                "Size": f"{out.stat().st_size / 1e6:,.1f} MB, before {scan.stat().st_size / 1e6:,.1f} MB",
            },
        )
