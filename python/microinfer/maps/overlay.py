"""A measured pattern over the reflections that its answer, and its alternatives, predict."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import DiffractedBeams, diffracted_beams
from microinfer.crystals.phase import CrystalPhase
from microinfer.maps.ipf import indices_text
from microinfer.maps.orientation_map import OrientationMap
from microinfer.maps.picture import DPI, bare, finish_figure, new_figure, plain
from microinfer.maps.position import Answer
from microinfer.peaks.source import peak_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from microinfer.peaks.source import AnyScan

MEASURED_COLOR = "#22313f"
PREDICTED_COLOR = "#d1495b"
DIRECT_BEAM_RADIUS = 0.05  # 1/Angstrom; the direct beam does not set the scale of the disks
WIDTH, HEIGHT = 6.0, 6.4  # of a pattern, in inches
IN_A_ROW = 3
LEAST = 0.005  # confidence of an alternative that is drawn: less is written as 0.00
LABELS = 16  # the strongest reflections bear their indices


def plot_pattern(
    omap: OrientationMap,
    i: int,
    j: int,
    peaks: "AnyScan",
    *,
    alternatives: bool | int = False,
    k_max: float | None = None,
    path: str | Path | None = None,
    dpi: float = DPI,
    overwrite: bool = False,
    return_figure: bool = False,
) -> "Figure | None":
    """Draw the measured disks of a scan position over the reflections that its answer predicts.

    Filled disks are measured, open circles predicted (kinematic, within 3 sigma of the Ewald sphere); areas
    follow the square root of the intensity. The strongest predicted ones bear their indices hkl, or hkil where the cell
    is hexagonal. qx points down and qy to the right, as on the detector.

    Parameters
    ----------
    omap : OrientationMap
        The map; its model card names the ``voltage`` in V.
    i, j : int
        Scan position: row Rx and column Ry.
    peaks : BraggPeaks, BraggVectors, reader or path
        The scan that was mapped, as `microinfer.map_orientations` took it.
    alternatives : bool or int, default: False
        Draw the alternatives beside the answer: all of them, or so many of the first; none whose confidence rounds to
        0.00.
    k_max : float, optional
        Largest scattering vector drawn, in 1/Angstrom. By default 10 % beyond the farthest measured disk.
    path : str or Path, optional
        Where to write the picture; the suffix names the format. Without it the picture is shown, in a notebook below
        the cell.
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
    IndexError
        If there is no such scan position.
    ValueError
        If the peaks are of another scan, the voltage is unknown, or the suffix names no picture format.
    OSError
        If the picture cannot be written; FileExistsError if a file is there already.
    """
    rows, columns = omap.scan_shape
    with ExitStack() as stack:
        source = peak_source(peaks, stack)
        if source.scan_shape != omap.scan_shape:
            raise ValueError(
                f"peaks must have the map's scan shape {omap.scan_shape}, got {source.scan_shape}"
            )
        if not (0 <= i < rows and 0 <= j < columns):
            raise IndexError(f"scan position ({i}, {j}) is outside the scan of {rows} x {columns}")
        measured = np.asarray(source.read_rows(i, i + 1).pattern(0, j), np.float64)
    found = omap[i, j].answers
    answers: Sequence[Answer | None] = [
        *found[:1],
        *(one for one in found[1:] if one.confidence >= LEAST),
    ] or [None]
    shown = len(answers) if alternatives is True else 1 + int(alternatives)
    radius = np.hypot(measured[:, 0], measured[:, 1])
    if k_max is None:
        k_max = 1.1 * float(radius.max(initial=1.0))
    measured = measured[radius <= k_max]

    answers = answers[:shown]
    wide = min(len(answers), IN_A_ROW)
    high = -(-len(answers) // wide)
    figure = new_figure((wide * WIDTH, high * HEIGHT), path, dpi, overwrite=overwrite)
    for rank, answer in enumerate(answers):
        row, column = divmod(rank, wide)
        left, bottom = (column + 0.12) / wide, (high - 1 - row + 0.085) / high
        ax = figure.add_axes((left, bottom, 0.85 / wide, 0.797 / high))
        _grid(ax, k_max)
        if answer is None:
            title, note = "Not indexed", f"scan position ({i}, {j})"
        else:
            beams = diffracted_beams(answer.phase, answer.matrix, _voltage(omap), k_max=k_max)
            _draw_predicted(ax, answer.phase, beams)
            axis = answer.zone_axis
            title = f"{plain(answer.phase.name)}  near [{indices_text(axis.indices)}]  ({axis.deviation:.1f}° off)"
            place = f"alternative {rank}" if rank else f"scan position ({i}, {j})"
            note = f"{place}, confidence {answer.confidence:.2f}"
        _draw_measured(ax, measured)
        ax.set_title(f"{title}\n", loc="left", fontsize=12, fontweight="bold")
        ax.text(0.0, 1.02, note, transform=ax.transAxes, fontsize=9.5, color="0.3")
        ax.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=2,
            frameon=False,
            fontsize=9,
            handletextpad=0.2,
        )
        bare(ax)
    return finish_figure(figure, path, return_figure)


def _voltage(omap: OrientationMap) -> float:
    voltage = omap.model_card.get("voltage")
    if voltage is None:
        raise ValueError("the map's model_card names no voltage, which predicted reflections need")
    return float(voltage)


def _grid(ax: "Axes", k_max: float) -> None:
    for spoke in np.arange(0.5, k_max, 0.5):
        ax.add_patch(_circle(spoke, edgecolor="0.9", linewidth=0.8))
    ax.axhline(0.0, color="0.93", linewidth=0.8, zorder=0)
    ax.axvline(0.0, color="0.93", linewidth=0.8, zorder=0)
    ax.scatter([0.0], [0.0], marker="+", s=60, color="0.45", linewidths=1.0, zorder=1)
    ax.set(xlim=(-k_max, k_max), ylim=(k_max, -k_max), aspect="equal", xlabel="qy (1/Å)", ylabel="qx (1/Å)")


def _draw_measured(ax: "Axes", measured: NDArray[np.float64]) -> None:
    diffracted = np.hypot(measured[:, 0], measured[:, 1]) > DIRECT_BEAM_RADIUS
    ax.scatter(
        measured[:, 1],
        measured[:, 0],
        s=_areas(measured[:, 2], measured[diffracted, 2].max(initial=0.0)),
        color=MEASURED_COLOR,
        alpha=0.85,
        linewidths=0,
        label="measured",
        zorder=2,
    )


def _draw_predicted(ax: "Axes", phase: CrystalPhase, beams: DiffractedBeams) -> None:
    strongest = beams.intensity.max(initial=0.0)
    shown = (np.hypot(*beams.q.T) > 1e-6) & (beams.intensity > 1e-4 * strongest)
    hkl, q, strength = beams.hkl[shown], beams.q[shown], beams.intensity[shown]
    ax.scatter(
        q[:, 1],
        q[:, 0],
        s=60 + _areas(strength, strongest),
        facecolors="none",
        edgecolors=PREDICTED_COLOR,
        linewidths=1.4,
        label="predicted",
        zorder=3,
    )
    labelled: list[NDArray[np.float64]] = []
    clear = 0.14 * ax.get_xlim()[1]  # labels stand no nearer to each other
    for index in np.argsort(-strength, kind="stable"):
        if len(labelled) == LABELS:
            break
        if all(np.linalg.norm(q[index] - other) > clear for other in labelled):
            labelled.append(q[index])
            h, k, l = (int(n) for n in hkl[index])  # noqa: E741
            indices = (h, k, -h - k, l) if phase.hexagonal_axes else (h, k, l)
            ax.annotate(
                indices_text(indices),
                (q[index, 1], q[index, 0]),
                xytext=(0.0, 9.5),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
                color=PREDICTED_COLOR,
                clip_on=True,
                zorder=4,
            )


def _areas(intensity: NDArray[np.float64], strongest: float) -> NDArray[np.float64]:
    """Marker areas in square points, as the square root of the intensity; no larger than the strongest's."""
    return np.asarray(160.0 * np.sqrt(np.clip(intensity / max(strongest, 1e-30), 0.0, 1.0)))


def _circle(radius: float, **kwargs: Any) -> Any:
    from matplotlib.patches import Circle

    return Circle((0.0, 0.0), radius, fill=False, zorder=0, **kwargs)
