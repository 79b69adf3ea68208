"""What is simulated: ``microinfer simulate CONFIG``, a pattern library, and ``microinfer simulate scan CONFIG``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from microinfer.cli import make
from microinfer.cli.outputs import HDF5, Output, Overwrite, check_outputs
from microinfer.cli.show import facts, share, warnings_as_lines


class _LibraryUnlessNamed(TyperGroup):
    """A group that takes what is no command of its own as the arguments of ``library``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["library", *args]
        return super().parse_args(ctx, args)


simulate = typer.Typer(
    cls=_LibraryUnlessNamed,
    name="simulate",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Simulate a library of diffraction patterns for training, or a whole 4D-STEM scan.\n\n"
    "**microinfer simulate CONFIG** is short for **microinfer simulate library CONFIG**.",
)
simulate.command("library")(make.simulate)


@simulate.command("scan")
def scan(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="A TOML file of a scan's settings, or a shipped scan's name."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for scan.h5, true_peaks.h5 and truth.h5; made if need be."),
    ],
    compress: Annotated[
        bool, typer.Option("--compress", help="Compress the frames: smaller, and slower to write and read.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a 4D-STEM scan: frames, true Bragg peaks and the truth.

    Shipped scans: figure6, dose-1e3, dose-1e4, dose-1e5, demo.
    """
    from microinfer.simulation.scan import ScanFiles, load_scan_settings, simulate_scan, write_scan
    from microinfer.simulation.simulate import require_simulation

    require_simulation()
    settings = load_scan_settings(config)
    files = ScanFiles.within(out)
    if out.is_dir():
        outputs = [Output(what, path, HDF5) for what, path in files.named().items()]
        check_outputs(outputs, {"the configuration": config}, overwrite=overwrite)
    else:
        out.mkdir(parents=True)
    with warnings_as_lines():
        synthetic = simulate_scan(settings, progress=True)
        written = write_scan(synthetic, out, compress=compress, overwrite=overwrite, progress=True)
    rows, columns = synthetic.scan_shape
    qx, qy = synthetic.frame_shape
    facts(
        f"Scan written to {files.frames}, true peaks to {files.peaks}, truth to {files.truth}",
        {
            "Frames": f"{rows} x {columns} of {qx} x {qy} pixels, {synthetic.dtype}, "
            f"{settings.probe.dose:,.0f} electrons each",
            "Disks": f"radius {synthetic.disk_radius:.1f} pixels, {written.peaks / (rows * columns):.1f} a frame",
            "Grains": f"{settings.grains.count}: {', '.join(phase.name for phase in synthetic.phases)}",
            "Vacuum": share(written.vacuum, rows * columns),
            "Two crystals": share(written.overlap, rows * columns),
        },
    )
