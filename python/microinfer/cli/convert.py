"""The command that changes the form of a scan: convert."""

from pathlib import Path
from typing import Annotated

import typer

from microinfer.cli.scan import Calibrated, Name, PixelSize, Scan, Voltage
from microinfer.cli.show import facts, warnings_as_lines


def convert(
    scan: Scan,
    out: Annotated[Path, typer.Option(metavar="PEAKS.h5", help="The file to write.")],
    name: Name = None,
    calibrated: Calibrated = False,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
) -> None:
    """Copy a scan's peaks to microinfer's own form: calibrated, compact, fast to read."""
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
