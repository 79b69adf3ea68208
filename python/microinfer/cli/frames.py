"""A scan that is given by its frames: the options of the commands that take one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from microinfer.cli.masks import load_mask
from microinfer.cli.show import facts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from microinfer.detection import DetectedScan, DetectionSettings
    from microinfer.detection import Probe as Template
    from microinfer.frames import FrameSource
    from microinfer.peaks.scan import PeakSource

ScanShape = Annotated[
    str | None,
    typer.Option(metavar="ROWSxCOLUMNS", help="Of the scan, for frames that do not state it: 256x256."),
]
Step = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help='Distance of scan positions in nm, or with its unit ("25 A"), of frames that do not state it.',
    ),
]
Probe = Annotated[
    str | None,
    typer.Option(
        metavar="RADIUS|spot:SIGMA|FILE",
        help="Template of a disk: its radius in pixels, a spot of this standard deviation (parallel beam), or a file "
        "of vacuum frames. By default it is made like the direct beam.",
    ),
]
Vacuum = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option(
        metavar="X0 X1 Y0 Y1",
        help="Take the template from these scan rows and columns, which lie in vacuum (ends excluded).",
    ),
]
Centre = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="QX QY", help="About where the direct beam is, in pixels, e.g. below a beam stop."),
]
DetectorMask = Annotated[
    Path | None,
    typer.Option(
        help="Boolean .npy array, true for detector pixels without a right signal: a beam stop. Defects are found "
        "without it."
    ),
]
MinSnr = Annotated[
    float | None,
    typer.Option(
        help="Weakest disk, in standard deviations of its own and the background's counts; 3 by default."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting of the detection by py4DSTEM's name, e.g. minPeakSpacing=6; again for more.",
    ),
]


class FrameOptions(NamedTuple):
    """What the options say of frames and of the disks in them."""

    scan_shape: str | None = None
    step: str | None = None
    probe: str | None = None
    vacuum: tuple[int, int, int, int] | None = None
    centre: tuple[float, float] | None = None
    detector_mask: Path | None = None
    min_snr: float | None = None
    settings: list[str] | None = None

    def refuse(self, path: Path, *further: str) -> None:
        """Refuse options that are given where a scan holds peaks; `further` are others of the same kind."""
        given = [
            "--set" if name == "settings" else f"--{name.replace('_', '-')}"
            for name, value in self._asdict().items()
            if value is not None and value != []
        ]
        if given or further:
            raise typer.BadParameter(f"{path} holds peaks: {', '.join([*given, *further])} is for frames")


def open_detected(
    path: Path,
    options: FrameOptions,
    stack: ExitStack,
    *,
    name: str | None,
    pixel_size: float | None,
    voltage: str | None,
    unit: float | None = None,
) -> "DetectedScan":
    """Open a camera's file as a scan whose peaks are found.

    Parameters
    ----------
    path, name, pixel_size, voltage
        As in `microinfer.open_frames`.
    options : FrameOptions
    stack : ExitStack
        Closes what is opened here.
    unit : float, optional
        Taken for the pixel size, whatever it is: 1 gives peaks in pixels.

    Raises
    ------
    ValueError, OSError
        As `microinfer.find_peaks`, and for options that cannot be read.
    """
    from microinfer.detection import DetectedScan
    from microinfer.frames import open_frames

    frames = stack.enter_context(
        open_frames(
            path,
            scan_shape=_shape(options.scan_shape),
            step=options.step,
            pixel_size=pixel_size,
            voltage=voltage,
            name=name,
        )
    )
    return DetectedScan(
        frames,
        probe=_probe(options, frames),
        pixel_size=unit,
        centre=options.centre,
        mask=None if options.detector_mask is None else load_mask(options.detector_mask),
        settings=_settings(options),
    )


@contextmanager
def open_scan(
    path: Path,
    options: FrameOptions,
    keep: Path | None,
    *,
    name: str | None,
    calibrated: bool,
    pixel_size: float | None,
    voltage: str | None,
) -> "Iterator[PeakSource]":
    """Open a scan, peaks or frames; of frames the peaks are kept in a file where one is asked for.

    Raises
    ------
    ValueError, OSError
        As `microinfer.open_peaks` and `open_detected`, and where options for frames are given with peaks.
    """
    from microinfer.detection.source import holds_frames
    from microinfer.peaks import open_peaks

    with ExitStack() as stack:
        if not holds_frames(path):
            options.refuse(path, *([] if keep is None else ["--keep-peaks"]))
            yield stack.enter_context(
                open_peaks(path, name=name, calibrated=calibrated, pixel_size=pixel_size, voltage=voltage)
            )
            return
        from microinfer.detection.kept import KeptPeaks, detected_calibration

        scan = open_detected(path, options, stack, name=name, pixel_size=pixel_size, voltage=voltage)
        facts(f"Frames of {path}", scan.facts())
        if keep is None:
            yield scan
        else:
            calibration = detected_calibration(scan.pixel_size, given=pixel_size is not None)
            yield stack.enter_context(KeptPeaks(scan, keep, calibration))


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"--scan-shape must be ROWSxCOLUMNS, e.g. 256x256, got {text!r}")
    return int(parts[0]), int(parts[1])


def _probe(options: FrameOptions, frames: "FrameSource") -> "Template | float | NDArray[Any] | None":
    if options.vacuum is not None:
        if options.probe is not None:
            raise typer.BadParameter("give --probe or --vacuum, not both")
        x0, x1, y0, y1 = options.vacuum
        rows, columns = frames.scan_shape
        if not (0 <= x0 < x1 <= rows and 0 <= y0 < y1 <= columns):
            raise typer.BadParameter(f"--vacuum must lie within the scan's {rows} rows and {columns} columns")
        return frames.read_rows(x0, x1)[:, y0:y1]
    if options.probe is None:
        return None
    kind, _, size = options.probe.rpartition(":")
    if kind not in ("", "spot"):
        return _vacuum_frames(Path(options.probe))
    try:
        radius = float(size)
    except ValueError:
        return _vacuum_frames(Path(options.probe))
    if kind == "spot":
        from microinfer.detection import Probe as Template

        return Template.spot(radius, frames.frame_shape)
    return radius


def _vacuum_frames(path: Path) -> "NDArray[Any]":
    """The frames of a vacuum scan, as many as `BLOCK_BYTES` hold."""
    import numpy as np

    from microinfer.frames import open_frames

    with path.open("rb"):
        pass  # Python's own errors for a missing file, a folder and a lacking permission are the clearest
    if path.suffix.lower() == ".npy":
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        if array.ndim in (2, 3):
            return array
    with open_frames(path) as frames:
        return frames.read_rows(0, min(frames.block_rows, frames.scan_shape[0]))


def _settings(options: FrameOptions) -> "DetectionSettings":
    from microinfer.detection import DetectionSettings

    known = {field.name for field in fields(DetectionSettings)}
    chosen: dict[str, Any] = {} if options.min_snr is None else {"min_snr": options.min_snr}
    for text in options.settings or []:
        name, _, value = text.partition("=")
        if name not in known or not value:
            raise typer.BadParameter(
                f"--set must be NAME=VALUE with one of {', '.join(sorted(known))}, got {text!r}"
            )
        try:
            chosen[name] = value if name == "subpixel" else float(value)
        except ValueError:
            raise typer.BadParameter(f"--set {name} must be a number, got {value!r}") from None
    return DetectionSettings(**chosen)
