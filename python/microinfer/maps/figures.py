"""Pictures of orientation maps in inverse pole figure colours."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.files import atomic_output
from microinfer.maps.frames_of_reference import export_frame
from microinfer.maps.ipf import INVALID_GREY, draw_color_key, ipf_colors
from microinfer.maps.orientation_map import OrientationMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASE_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
UNIT_SYMBOLS = {"A": "Å", "Angstrom": "Å", "um": "µm"}
DIRECTIONS = (
    ((1.0, 0.0, 0.0), "IPF x  (along qx, scan rows)"),
    ((0.0, 1.0, 0.0), "IPF y  (along qy, scan columns)"),
    ((0.0, 0.0, 1.0), "IPF z  (along the beam)"),
)
DETECTOR_DIRECTIONS = (
    "IPF x  (along qx, detector rows)",
    "IPF y  (along qy, detector columns)",
    DIRECTIONS[2][1],
)
# the map figure, in inches: panel width, gap between panels, height of a title line, margins, the side column
PANEL, GAP, TITLE, LEFT, TOP, BOTTOM, SIDE = 3.4, 0.22, 0.42, 0.62, 0.42, 0.56, 2.5


def plot_map(omap: OrientationMap, path: str | Path | None = None) -> "Figure":
    """Draw the inverse pole figure maps along lab x, y and z, their colour keys, and the confidence.

    The panels show the scan as py4DSTEM does: Rx down, Ry to the right. Colours are orix's TSL key of each
    phase's Laue class; the key's corners are directions of the CIF's own cell. Positions without an answer
    are grey.

    Parameters
    ----------
    omap : OrientationMap
        The map.
    path : str or Path, optional
        Where to save the picture; the suffix names the format (png, pdf, svg, ...).

    Returns
    -------
    matplotlib.figure.Figure
        Not connected to pyplot: it needs no display.

    Raises
    ------
    ValueError
        For a suffix that names no picture format.
    OSError
        If the picture cannot be written.
    """
    frames = [export_frame(phase) for phase in omap.phases]
    several = len(omap.phases) > 1
    columns = 3 if several else 2
    height = PANEL * float(np.clip(omap.scan_shape[0] / omap.scan_shape[1], 0.4, 2.5))
    width = LEFT + columns * (PANEL + GAP) + SIDE
    total = TOP + 2 * height + TITLE + BOTTOM
    figure = new_figure((width, total))

    def place(left: float, top: float, wide: float, high: float) -> "Axes":
        return figure.add_axes((left / width, 1 - (top + high) / total, wide / width, high / total))

    corners = [
        (LEFT + (k % columns) * (PANEL + GAP), TOP + (k // columns) * (height + TITLE)) for k in range(6)
    ]
    axes = [place(*corners[k], PANEL, height) for k in range(5 if several else 4)]
    titles = [title for _, title in DIRECTIONS] if omap.qr_calibrated else DETECTOR_DIRECTIONS
    for ax, (direction, _), title in zip(axes, DIRECTIONS, titles, strict=False):
        _show(ax, omap, ipf_colors(omap, np.array(direction), frames), title)
    confidence = np.where(omap.valid, omap.confidence, np.nan)
    image = _show(axes[3], omap, confidence, "Confidence", cmap=_confidence_colormap(), vmin=0.0, vmax=1.0)
    bar = figure.colorbar(
        image, cax=axes[3].inset_axes((0.5, 1.025, 0.5, 0.11 / height)), orientation="horizontal"
    )
    bar.set_ticks([0.0, 0.5, 1.0], labels=["0", "0.5", "1"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, pad=2, labelsize=7.5, bottom=False, labelbottom=False, labeltop=True)
    if several:
        _show(axes[4], omap, _phase_image(omap), "Phase")
    units = UNIT_SYMBOLS.get(omap.scan_units, omap.scan_units)
    for k, ax in enumerate(axes):
        ax.tick_params(labelbottom=k + columns >= len(axes), labelleft=k % columns == 0)
        if k % columns == 0:
            ax.set_ylabel(f"Rx ({units})")
        if k + columns >= len(axes):
            ax.set_xlabel(f"Ry ({units})")

    # one phase: its key above the summary; several: the keys in the side column, the summary in the sixth
    # panel
    side, bottom = LEFT + columns * (PANEL + GAP), TOP + 2 * height + TITLE
    each = height if not several else (bottom - TOP) / len(frames)
    for k, frame in enumerate(frames):
        color = PHASE_COLORS[k % len(PHASE_COLORS)] if several else "black"
        name, basis = omap.phases[k].name, omap.phases[k].basis
        draw_color_key(place(side, TOP + k * each, SIDE - GAP, each), name, basis, frame, color)
    where = corners[5] if several else (side, corners[2][1])
    text = place(*where, PANEL if several else SIDE - GAP, height)
    text.set_axis_off()
    text.text(0.5, 0.5, _summary(omap), ha="center", va="center", fontsize=9, linespacing=1.6, color="0.25")
    if path is not None:
        save_figure(figure, path)
    return figure


def new_figure(size: tuple[float, float]) -> "Figure":
    """A figure of a size in inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Save a figure in the format that the suffix names; errors as in `plot_map`."""
    suffix = Path(path).suffix.lstrip(".").lower()
    formats = figure.canvas.get_supported_filetypes()
    if suffix not in formats:
        raise ValueError(
            f"the suffix of {path} must name a picture format, one of {', '.join(sorted(formats))}"
        )
    with atomic_output(path) as temporary:
        figure.savefig(temporary, format=suffix)


def _show(ax: "Axes", omap: OrientationMap, image: NDArray[Any], title: str, **kwargs: Any) -> Any:
    rows, columns = omap.scan_shape
    step = omap.scan_step
    # a position is the middle of its pixel, so ticks read as positions
    extent = (-0.5 * step, (columns - 0.5) * step, (rows - 0.5) * step, -0.5 * step)
    shown = ax.imshow(image, extent=extent, interpolation="nearest", **kwargs)
    ax.set_title(title, loc="left", y=1.0, fontsize=9.5)
    ax.locator_params(nbins=5)
    bare(ax)
    return shown


def bare(ax: "Axes") -> None:
    """Draw the frame and ticks of a panel in thin grey."""
    for spine in ax.spines.values():
        spine.set_color("0.75")
        spine.set_linewidth(0.6)
    ax.tick_params(length=2.5, width=0.6, color="0.6", labelsize=8)


def _confidence_colormap() -> Any:
    from matplotlib import colormaps

    return colormaps["cividis"].with_extremes(bad=(INVALID_GREY,) * 3)


def _phase_image(omap: OrientationMap) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    image = np.full((*omap.scan_shape, 3), INVALID_GREY)
    for k in range(len(omap.phases)):
        image[omap.phase == k] = to_rgb(PHASE_COLORS[k % len(PHASE_COLORS)])
    return image


def _summary(omap: OrientationMap) -> str:
    lines = [f"{omap.scan_shape[0]} × {omap.scan_shape[1]} positions", f"{omap.valid.mean():.1%} indexed"]
    if omap.valid.any():
        lines.append(f"mean confidence {omap.confidence[omap.valid].mean():.2f}")
    if not omap.valid.all():
        lines.append("grey: not indexed")
    if not omap.qr_calibrated:
        lines += ["", "x and y are detector axes:", "diffraction is not", "rotated onto the scan"]
    return "\n".join(lines)
