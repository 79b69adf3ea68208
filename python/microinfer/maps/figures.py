"""Pictures of orientation maps in inverse pole figure colours."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.maps.frames_of_reference import ExportFrame, export_frame
from microinfer.maps.ipf import INVALID_GREY, draw_color_key, ipf_colors
from microinfer.maps.orientation_map import OrientationMap
from microinfer.maps.picture import DPI, bare, finish_figure, new_figure, plain
from microinfer.maps.to_orix import phase_color
from microinfer.units import MICROMETRES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIRECTIONS = {
    "x": (1.0, 0.0, 0.0),
    "y": (0.0, 1.0, 0.0),
    "z": (0.0, 0.0, 1.0),
}
TITLES = {
    "x": "IPF x  (along qx, {} rows)",
    "y": "IPF y  (along qy, {} columns)",
    "z": "IPF z  (along the beam)",
    "confidence": "Confidence",
    "score": "Score",
    "phase": "Phase",
}
"""Every panel of a map; {} is what the axes belong to, scan or detector."""

# In inches. A panel is PANEL wide, and at most UPRIGHT times as high; STRIP long where the scan is; never below THIN.
# One that is narrower than NARROW has its title on several lines and its scale bar beside it.
PANEL, UPRIGHT, STRIP, THIN, NARROW, SLOT = 3.4, 1.35, 8.0, 0.6, 3.0, 1.35
GAP, BESIDE, TITLE, TALL_TITLE, LEFT, BOTTOM, SIDE = 0.22, 0.42, 0.42, 0.72, 0.62, 0.56, 2.3
KEY, SMALL_KEY, BAR, LINE = 2.6, 1.9, 0.62, 0.21
LONG = 2.5  # a scan that is so many times as long as wide has its panels side by side along its length


class _Layout(NamedTuple):
    """Sizes of the panels and of the grid that they stand in, in inches."""

    columns: int
    rows: int
    width: float
    height: float
    pitch: float
    stretch: float

    @property
    def narrow(self) -> bool:
        return self.width < NARROW

    @property
    def title(self) -> float:
        return TALL_TITLE if self.narrow else TITLE

    @property
    def depth(self) -> float:
        return self.rows * (self.height + self.title) - self.title


def plot_map(
    omap: OrientationMap,
    path: str | Path | None = None,
    *,
    panels: str | Sequence[str] | None = None,
    dpi: float = DPI,
    overwrite: bool = False,
    return_figure: bool = False,
) -> "Figure | None":
    """Draw inverse pole figure maps along lab x, y and z, their colour keys, and the confidence.

    The panels show the scan as py4DSTEM does: Rx down, Ry to the right, ticks at scan positions. Rows and columns at
    the edges without any answer are left out. Colours are orix's TSL key of each phase's Laue class; the key's corners
    are directions of the CIF's own cell. Positions without an answer are grey.

    Parameters
    ----------
    omap : OrientationMap
        The map.
    path : str or Path, optional
        Where to write the picture; the suffix names the format (png, pdf, svg, ...). Without it the picture is shown,
        in a notebook below the cell.
    panels : str or sequence of str, optional
        Which of ``"x"``, ``"y"``, ``"z"``, ``"confidence"``, ``"score"`` and ``"phase"`` to draw. By default the first
        four, and the phase where the map has several.
    dpi : float, default: 150
        Dots per inch.
    overwrite : bool, default: False
        Replace a file that is there already.
    return_figure : bool, default: False
        Return the figure, without showing it; see `microinfer.maps.picture.finish_figure`.

    Returns
    -------
    matplotlib.figure.Figure or None

    Raises
    ------
    ValueError
        For a panel that there is not, and a suffix that names no picture format.
    OSError
        If the picture cannot be written; FileExistsError if a file is there already.
    """
    names = _panels(omap, panels)
    rows, columns = _with_answers(omap)
    shape = rows.stop - rows.start, columns.stop - columns.start
    frames = [export_frame(phase) for phase in omap.phases]
    layout = _layout(shape, len(names))
    keys = _keys(omap, names, frames, layout)
    depth = max(layout.depth, *(height for height, _ in keys))
    stacks = _stacks([height for height, _ in keys], depth)
    side = LEFT + layout.columns * layout.pitch
    width, height = side + (1 + max(stack for stack, _ in stacks)) * SIDE, layout.title + depth + BOTTOM
    figure = new_figure((width, height), path, dpi, overwrite=overwrite)

    def place(left: float, top: float, wide: float, high: float) -> "Axes":
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    axes = "scan" if omap.qr_calibrated else "detector"
    for k, name in enumerate(names):
        row, column = divmod(k, layout.columns)
        ax = place(
            LEFT + column * layout.pitch,
            layout.title + row * (layout.height + layout.title),
            layout.width,
            layout.height,
        )
        image, style = _image(omap, name, frames)
        # a position is the middle of its pixel
        extent = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
        ax.imshow(image[rows, columns], extent=extent, interpolation="nearest", aspect="auto", **style)
        title = TITLES[name].format(axes)
        if layout.narrow:
            title = title.replace("  (", "\n").replace(", ", ",\n").rstrip(")")
        ax.set_title(title, loc="left", y=1.0, fontsize=9.5)
        _ticks(ax, layout)
        _scale_bar(ax, omap, shape, layout)
        bare(ax)
        lowest = k + layout.columns >= len(names)
        ax.tick_params(labelbottom=lowest, labelleft=column == 0)
        ax.set(xlabel="column Ry" if lowest else "", ylabel="row Rx" if column == 0 else "")
    for (stack, top), (high, draw) in zip(stacks, keys, strict=True):
        draw(place(side + stack * SIDE, layout.title + top, SIDE - GAP, high))
    return finish_figure(figure, path, return_figure)


def _panels(omap: OrientationMap, panels: str | Sequence[str] | None) -> list[str]:
    if panels is None:
        return ["x", "y", "z", "confidence", *(["phase"] if len(omap.phases) > 1 else [])]
    names = [panels] if isinstance(panels, str) else list(panels)
    if not names or not set(names) <= TITLES.keys():
        raise ValueError(f"panels must be of {', '.join(TITLES)}, got {panels!r}")
    return names


def _with_answers(omap: OrientationMap) -> tuple[slice, slice]:
    """Rows and columns from the first to the last with an answer; all of them where there is none."""
    if not omap.valid.any():
        return slice(0, omap.scan_shape[0]), slice(0, omap.scan_shape[1])
    rows, columns = (np.flatnonzero(omap.valid.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _layout(shape: tuple[int, int], count: int) -> _Layout:
    ratio = shape[0] / shape[1]
    if ratio > LONG:
        columns, height = count, STRIP
        width = max(THIN, height / ratio)
    elif ratio < 1 / LONG:
        columns, width = 1, STRIP
        height = max(THIN, width * ratio)
    else:
        columns = count if count < 3 else 2 if count == 4 else 3
        width = PANEL / max(1.0, ratio / UPRIGHT)
        height = width * ratio
    pitch = width + GAP if width >= NARROW else max(width + BESIDE, SLOT)
    return _Layout(columns, -(-count // columns), width, height, pitch, height / width / ratio)


def _keys(
    omap: OrientationMap, names: list[str], frames: Sequence[ExportFrame], layout: _Layout
) -> "list[tuple[float, Callable[[Axes], None]]]":
    """What stands beside the panels: heights in inches, and what draws each."""
    lines = _summary(omap, layout.stretch)
    keys: list[tuple[float, Callable[[Axes], None]]] = []
    rest = len(lines) * LINE
    if {"confidence", "score"} & set(names):
        rest += BAR
    if DIRECTIONS.keys() & set(names):
        high = float(np.clip((layout.depth - rest) / len(frames), SMALL_KEY, KEY))
        for index, (phase, frame) in enumerate(zip(omap.phases, frames, strict=True)):
            color = phase_color(index) if len(frames) > 1 else "black"
            keys.append((high, partial(draw_color_key, phase=phase, frame=frame, color=color)))
    elif "phase" in names:
        keys.append(
            (
                LINE * (1 + len(frames)),
                partial(_draw_names, names=[plain(phase.name) for phase in omap.phases]),
            )
        )
    if {"confidence", "score"} & set(names):
        keys.append((BAR, _draw_bar))
    keys.append((len(lines) * LINE, partial(_draw_lines, lines=lines)))
    return keys


def _stacks(heights: Sequence[float], depth: float) -> list[tuple[int, float]]:
    """Stack heights into as many stacks as do not grow beyond a depth: number of the stack and top of each."""
    places, stack, top = [], 0, 0.0
    for height in heights:
        if top and top + height > depth + 1e-6:
            stack, top = stack + 1, 0.0
        places.append((stack, top))
        top += height
    return places


def _image(
    omap: OrientationMap, name: str, frames: Sequence[ExportFrame]
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Image of a panel, and how it is to be drawn."""
    if name in DIRECTIONS:
        return ipf_colors(omap, np.array(DIRECTIONS[name]), frames), {}
    if name == "phase":
        from matplotlib.colors import to_rgb

        image = np.full((*omap.scan_shape, 3), INVALID_GREY)
        for k in range(len(omap.phases)):
            image[omap.phase == k] = to_rgb(phase_color(k))
        return image, {}
    values = omap.confidence if name == "confidence" else omap.score
    return np.where(omap.valid, values, np.nan), {"cmap": _colormap(), "vmin": 0.0, "vmax": 1.0}


def _colormap() -> Any:
    from matplotlib import colormaps

    return colormaps["cividis"].with_extremes(bad=(INVALID_GREY,) * 3)


def _ticks(ax: "Axes", layout: _Layout) -> None:
    """Ticks at whole scan positions, no nearer to each other than their labels need."""
    from matplotlib.ticker import MaxNLocator

    for axis, size, label in ((ax.xaxis, layout.width, 0.6), (ax.yaxis, layout.height, 0.3)):
        axis.set_major_locator(MaxNLocator(int(np.clip(size / label, 1, 5)), integer=True))


def _scale_bar(ax: "Axes", omap: OrientationMap, shape: tuple[int, int], layout: _Layout) -> None:
    """Draw a length of the scan above the right end of a panel, or up from the lower end of a narrow one's side."""
    if omap.scan_units == "pixels":
        return
    across = shape[0 if layout.narrow else 1]
    length, label = _round_length(across * omap.scan_step / 4, omap.scan_units)
    end = ax.get_ylim()[0] if layout.narrow else ax.get_xlim()[1]
    ends, middle = (end - length / omap.scan_step, end), end - length / omap.scan_step / 2
    style: dict[str, Any] = {"color": "black", "linewidth": 2.0, "solid_capstyle": "butt", "clip_on": False}
    text: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5}
    if layout.narrow:
        frame, beside = ax.get_yaxis_transform(), 1 + 0.06 / layout.width
        ax.plot((beside, beside), ends, transform=frame, **style)
        ax.annotate(label, (beside, middle), xycoords=frame, xytext=(6, 0), va="center", rotation=90, **text)
    else:
        frame, above = ax.get_xaxis_transform(), 1 + 0.06 / layout.height
        ax.plot(ends, (above, above), transform=frame, **style)
        ax.annotate(label, (middle, above), xycoords=frame, xytext=(0, 3), **text)


def _round_length(longest: float, units: str) -> tuple[float, str]:
    """The longest of 1, 2 and 5 times a power of ten that is no longer, and how it is written."""
    scale = 10.0 ** np.floor(np.log10(longest))
    length = float(scale * max(factor for factor in (1, 2, 5) if factor * scale <= longest * (1 + 1e-9)))
    metres = length * MICROMETRES[units]
    name, unit = next(
        ((n, u) for n, u in (("µm", 1.0), ("nm", 1e-3)) if metres >= u * (1 - 1e-9)), ("Å", 1e-4)
    )
    return length, f"{metres / unit:.6g} {name}"


def _draw_bar(ax: "Axes") -> None:
    """Draw the colours of confidence and score."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    ax.set_axis_off()
    inner = ax.inset_axes((0.1, 0.55, 0.8, 0.2))
    bar = ax.figure.colorbar(
        ScalarMappable(Normalize(0.0, 1.0), _colormap()), cax=inner, orientation="horizontal"
    )
    bar.set_ticks([0.0, 0.5, 1.0], labels=["0", "0.5", "1"])
    bar.outline.set_visible(False)
    inner.tick_params(length=0, pad=2, labelsize=7.5)
    inner.set_title("Confidence", fontsize=8, pad=3)


def _draw_names(ax: "Axes", names: Sequence[str]) -> None:
    ax.set_axis_off()
    for index, name in enumerate(names):
        y = 1 - (index + 0.5) / (1 + len(names))
        ax.text(
            0.5, y, name, ha="center", va="center", color=phase_color(index), fontweight="bold", fontsize=10
        )


def _draw_lines(ax: "Axes", lines: Sequence[str]) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", fontsize=9, linespacing=1.5, color="0.25")


def _summary(omap: OrientationMap, stretch: float) -> list[str]:
    lines = [f"{omap.scan_shape[0]} × {omap.scan_shape[1]} positions", f"{omap.valid.mean():.1%} indexed"]
    if omap.valid.any():
        lines.append(f"mean confidence {omap.confidence[omap.valid].mean():.2f}")
    if not omap.valid.all():
        lines.append("grey: not indexed")
    if not np.isclose(stretch, 1.0):
        axis, factor = ("rows", stretch) if stretch > 1 else ("columns", 1 / stretch)
        lines.append(f"{axis} drawn {factor:.3g} times as thick")
    if not omap.qr_calibrated:
        lines += ["", "x and y are detector axes:", "diffraction is not", "rotated onto the scan"]
    return lines
