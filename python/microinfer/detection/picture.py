"""The disks that were found, drawn over their frames, and their distances on the rings of crystals."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microinfer.crystals.phase import CrystalPhase
from microinfer.detection.detected_scan import DetectedScan
from microinfer.detection.find import frame_source
from microinfer.frames.source import FrameSource
from microinfer.maps.picture import DPI, bare, finish_figure, new_figure, plain
from microinfer.peaks.radial import phase_rings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from microinfer.detection.find import AnyFrames

FRAMES = 3
STRONG_RINGS = 18  # that are drawn, of each phase


def plot_disks(
    frames: "AnyFrames | DetectedScan",
    path: str | Path | None = None,
    *,
    positions: Sequence[tuple[int, int]] | None = None,
    phases: Sequence[CrystalPhase] = (),
    dpi: float = DPI,
    return_figure: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> "Figure | None":
    """Draw the disks that are found over some frames of a scan, and how far from the direct beam they lie.

    Parameters
    ----------
    frames : path, array_like, py4DSTEM.DataCube, FrameSource or DetectedScan
        As in `microinfer.find_peaks`.
    path : str or Path, optional
        Where to write the picture (.png, .svg, .pdf). By default it is shown.
    positions : sequence of (int, int), optional
        Scan positions. By default those with the most disks, of three rows spread over the scan.
    phases : sequence of CrystalPhase, optional
        Their strongest rings are drawn into the histogram, such as a model's ``phases``.
    dpi : float
    return_figure : bool
        Return the figure, to be changed or shown later.
    overwrite : bool
        Whether a file that is there may be replaced.
    **options
        ``pixel_size``, ``probe``, ``centre``, ``mask`` and settings, as in `microinfer.find_peaks`; none for a
        DetectedScan, which has its own. A pixel size that is not known is 1: the histogram is in pixels then.

    Returns
    -------
    matplotlib.figure.Figure or None
        None unless it is asked for.

    Raises
    ------
    ValueError
        For positions outside the scan, and as `microinfer.find_peaks`.
    OSError
        As `microinfer.find_peaks`, and where the picture cannot be written, or is there already.
    """
    with ExitStack() as stack:
        scan = frames if isinstance(frames, DetectedScan) else _detected(frame_source(frames, stack), options)
        known = scan.frames.pixel_size is not None or scan.pixel_size != 1.0
        if positions is None:
            positions = _richest(scan)
        for rx, ry in positions:
            if not (0 <= rx < scan.scan_shape[0] and 0 <= ry < scan.scan_shape[1]):
                raise ValueError(
                    f"scan position ({rx}, {ry}) lies outside the scan of shape {scan.scan_shape}"
                )
        count = len(positions)
        width = 3.1 * max(count, 1) + 0.7
        figure = new_figure((width, 5.4), path, dpi, overwrite=overwrite)
        grid = figure.add_gridspec(
            2, count, height_ratios=(3.0, 1.5), left=0.6 / width, right=0.98, top=0.94, bottom=0.1, hspace=0.2
        )
        for column, (rx, ry) in enumerate(positions):
            _draw_frame(figure.add_subplot(grid[0, column]), scan, rx, ry)
        _draw_radii(figure.add_subplot(grid[1, :]), scan, phases, "1/Å" if known else "pixels")
    return finish_figure(figure, path, return_figure)


def _detected(frames: FrameSource, options: dict[str, Any]) -> DetectedScan:
    from microinfer.detection.settings import DetectionSettings

    kinds = ("pixel_size", "probe", "centre", "mask")
    chosen = {name: value for name, value in options.items() if name in kinds}
    if frames.pixel_size is None:
        chosen.setdefault("pixel_size", 1.0)
    settings = options.get("settings") or DetectionSettings(
        **{name: value for name, value in options.items() if name not in (*kinds, "settings")}
    )
    return DetectedScan(frames, **chosen, settings=settings)


def _sampled_rows(scan: DetectedScan) -> list[int]:
    rows = scan.scan_shape[0]
    return sorted({round((rows - 1) * share) for share in np.linspace(0.1, 0.9, FRAMES)})


def _richest(scan: DetectedScan) -> list[tuple[int, int]]:
    """Of some rows the position with the most disks each; of one row those that are spread along it."""
    if scan.scan_shape[0] == 1:
        columns = {round((scan.scan_shape[1] - 1) * share) for share in np.linspace(0.1, 0.9, FRAMES)}
        return [(0, column) for column in sorted(columns)]
    return [(row, int(np.argmax(scan.read_rows(row, row + 1).counts))) for row in _sampled_rows(scan)]


def _draw_frame(ax: "Axes", scan: DetectedScan, rx: int, ry: int) -> None:
    """A frame, brightened, with a circle around every disk and a cross on the direct beam."""
    from matplotlib.collections import EllipseCollection

    frame = scan.frames.read_rows(rx, rx + 1)[0, ry].astype(np.float64)
    (found,) = scan.found_rows(rx, rx + 1)
    x0, y0 = found.centres[ry]
    inside = slice(*found.disks.offsets[ry : ry + 2])
    shown = np.where(scan.mask, np.nan, np.sqrt(np.maximum(frame - np.nanquantile(frame, 0.02), 0.0)))
    rows, columns = np.indices(frame.shape)
    beside = shown[
        np.hypot(rows - x0, columns - y0) > 2 * scan.probe.radius
    ]  # the direct beam may be overexposed
    brightest = float(np.nanmax(beside, initial=1e-9))
    ax.set_facecolor("tab:blue")  # pixels that do not count
    ax.imshow(shown, cmap="gray", vmin=0.0, vmax=0.6 * brightest, interpolation="nearest")
    places = np.stack([found.disks.y[inside], found.disks.x[inside]], axis=1)
    wide = np.full(len(places), 2 * scan.probe.radius + 2)
    circles = EllipseCollection(
        wide, wide, np.zeros(len(places)), units="xy", offsets=places, offset_transform=ax.transData,
        facecolors="none", edgecolors="tab:orange", linewidths=0.8,
    )  # fmt: skip
    ax.add_collection(circles)
    ax.plot(y0, x0, "+", color="tab:cyan", markersize=7)
    ax.set_title(f"({rx}, {ry}): {len(places)} disks", fontsize=9)
    ax.set_xlabel("qy, pixels", fontsize=8)
    if ax.get_subplotspec().colspan.start == 0:  # type: ignore[union-attr]
        ax.set_ylabel("qx, pixels", fontsize=8)
    bare(ax)


def _draw_radii(ax: "Axes", scan: DetectedScan, phases: Sequence[CrystalPhase], unit: str) -> None:
    """Histogram of the disks' distances from the direct beam, of a few rows, on the rings of phases."""
    blocks = [scan.read_rows(row, row + 1) for row in _sampled_rows(scan)]
    radius = np.concatenate([np.hypot(block.qx, block.qy) for block in blocks])
    radius = radius[radius > scan.probe.radius * scan.pixel_size]
    reach = float(radius.max(initial=scan.camera))
    ax.hist(radius, bins=150, range=(0.0, reach), color="0.45")
    for number, phase in enumerate(phases):
        rings = phase_rings(phase, reach)
        strong = sorted(rings, key=lambda ring: -ring.intensity)[:STRONG_RINGS]
        color = f"C{number + 1}"
        for ring in strong:
            ax.axvline(ring.radius, color=color, linewidth=0.8, zorder=0)
        ax.plot([], [], color=color, linewidth=0.8, label=plain(f"rings of {phase.name}"))
    if phases:
        ax.legend(fontsize=8, frameon=False, loc="upper right")
    ax.set_xlim(0, reach)
    ax.set_xlabel(f"distance from the direct beam, {unit}", fontsize=8)
    ax.set_ylabel(f"disks of {len(blocks)} scan rows", fontsize=8)
    bare(ax)
