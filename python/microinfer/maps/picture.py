"""Figures as a user meets them: shown in a notebook or a window, written to a file, or handed over."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from microinfer.files import PICTURES, atomic_output, require_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
FONTS_AS_TEXT: Any = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
"""Text stays text in vector graphics; matplotlib's own choice is Type 3 fonts, which journals refuse, and outlines."""


def new_figure(
    size: tuple[float, float], path: str | Path | None, dpi: float, *, overwrite: bool
) -> "Figure":
    """A figure of a size in inches: one of pyplot's, or, for a file, one that needs no display.

    Errors are those of `microinfer.files.require_output`, for the file.
    """
    if path is not None:
        require_output(path, "the picture", PICTURES, overwrite=overwrite)
    else:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=size, dpi=dpi, facecolor="white")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def finish_figure(figure: "Figure", path: str | Path | None, return_figure: bool) -> "Figure | None":
    """Write a figure of `new_figure` where there is a path, else show it or return it to be shown later.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or Path, optional
        Where to write it, as of `new_figure`. Nothing is shown then.
    return_figure : bool
        Return it. Without a path it is one of pyplot's then, still open, as orix's are: it appears when the cell of a
        notebook ends, or with ``plt.show()``.

    Raises
    ------
    OSError
        If the picture cannot be written.
    """
    if path is not None:
        _save(figure, path)
    elif not return_figure:
        _show(figure)
    return figure if return_figure else None


def plain(text: str) -> str:
    """Text that stands in a picture as it is: matplotlib takes what is between dollar signs for mathematics."""
    return text.replace("$", r"\$")


def bare(ax: "Axes") -> None:
    """Draw the frame and ticks of a panel in thin grey."""
    for spine in ax.spines.values():
        spine.set_color("0.75")
        spine.set_linewidth(0.6)
    ax.tick_params(length=2.5, width=0.6, color="0.6", labelsize=8)


def _save(figure: "Figure", path: str | Path) -> None:
    from matplotlib import rc_context

    with atomic_output(path) as temporary, rc_context(FONTS_AS_TEXT):
        figure.savefig(temporary, format=Path(path).suffix[1:].lower())


def _show(figure: "Figure") -> None:
    """Show it here and now, between what a cell prints; in a notebook it alone, whatever else is being drawn."""
    import matplotlib
    import matplotlib.pyplot as plt

    if "inline" not in matplotlib.get_backend():
        plt.show()
        return
    from IPython.display import display

    display(figure)  # type: ignore[no-untyped-call]
    plt.close(figure)
