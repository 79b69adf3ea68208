"""A measured pattern over the reflections that its answer predicts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import diffracted_beams, nearest_zone_axis
from microinfer.maps.figures import bare, new_figure, save_figure
from microinfer.maps.ipf import indices_text
from microinfer.maps.orientation_map import OrientationMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from microinfer.peaks.bragg_peaks import BraggPeaks

MEASURED_COLOR = "#22313f"
PREDICTED_COLOR = "#d1495b"
DIRECT_BEAM_RADIUS = 0.05  # 1/Angstrom; the direct beam does not set the scale of the disks


def plot_pattern(
    omap: OrientationMap,
    i: int,
    j: int,
    peaks: "BraggPeaks",
    *,
    k_max: float | None = None,
    path: str | Path | None = None,
) -> "Figure":
    """Draw the measured disks of a scan position over the reflections that its answer predicts.

    Filled disks are measured, open circles predicted (kinematic, within 3 sigma of the Ewald sphere); areas
    follow the square root of the intensity. qx points down and qy to the right, as on the detector.

    Parameters
    ----------
    omap : OrientationMap
        The map; its model card names the ``voltage`` in V.
    i, j : int
        Scan position: row Rx and column Ry.
    peaks : BraggPeaks
        The scan that was mapped.
    k_max : float, optional
        Largest scattering vector drawn, in 1/Angstrom. By default 10 % beyond the farthest measured disk.
    path : str or Path, optional
        Where to save the picture; the suffix names the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    IndexError
        If there is no such scan position.
    ValueError
        If the peaks are of another scan, or the voltage is unknown.
    """
    rows, columns = omap.scan_shape
    if tuple(peaks.scan_shape) != omap.scan_shape:
        raise ValueError(
            f"peaks must have the map's scan shape {omap.scan_shape}, got {tuple(peaks.scan_shape)}"
        )
    if not (0 <= i < rows and 0 <= j < columns):
        raise IndexError(f"scan position ({i}, {j}) is outside the scan of {rows} x {columns}")
    measured = np.asarray(peaks.pattern(i, j), np.float64)
    if k_max is None:
        k_max = 1.1 * float(np.hypot(measured[:, 0], measured[:, 1]).max(initial=1.0))
    radius = np.hypot(measured[:, 0], measured[:, 1])
    measured, radius = measured[radius <= k_max], radius[radius <= k_max]
    diffracted = radius > DIRECT_BEAM_RADIUS

    figure = new_figure((6.0, 6.4))
    ax = figure.add_axes((0.12, 0.085, 0.85, 0.797))
    for spoke in np.arange(0.5, k_max, 0.5):
        ax.add_patch(_circle(spoke, edgecolor="0.9", linewidth=0.8))
    ax.axhline(0.0, color="0.93", linewidth=0.8, zorder=0)
    ax.axvline(0.0, color="0.93", linewidth=0.8, zorder=0)
    if omap.valid[i, j]:
        phase, matrix = omap.phases[omap.phase[i, j]], omap.matrix[i, j]
        voltage = omap.model_card.get("voltage")
        if voltage is None:
            raise ValueError("the map's model_card names no voltage, which predicted reflections need")
        beams = diffracted_beams(phase, matrix, float(voltage), k_max=k_max)
        off_axis = np.hypot(*beams.q.T) > 1e-6
        q, strength = beams.q[off_axis], beams.intensity[off_axis]
        shown = strength > 1e-4 * strength.max(initial=0.0)
        ax.scatter(
            q[shown, 1],
            q[shown, 0],
            s=60 + _areas(strength[shown], strength.max(initial=0.0)),
            facecolors="none",
            edgecolors=PREDICTED_COLOR,
            linewidths=1.4,
            label="predicted",
            zorder=3,
        )
        axis = nearest_zone_axis(phase, matrix)
        title = f"{phase.name}  near [{indices_text(axis.uvw)}]  ({axis.deviation:.1f}° off)"
        note = f"scan position ({i}, {j}), confidence {omap.confidence[i, j]:.2f}"
    else:
        title, note = "Not indexed", f"scan position ({i}, {j})"
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
    ax.scatter([0.0], [0.0], marker="+", s=60, color="0.45", linewidths=1.0, zorder=1)
    ax.set(xlim=(-k_max, k_max), ylim=(k_max, -k_max), aspect="equal", xlabel="qy (1/Å)", ylabel="qx (1/Å)")
    ax.set_title(f"{title}\n", loc="left", fontsize=12, fontweight="bold")
    ax.text(0.0, 1.02, note, transform=ax.transAxes, fontsize=9.5, color="0.3")
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=9, handletextpad=0.2
    )
    bare(ax)
    if path is not None:
        save_figure(figure, path)
    return figure


def _areas(intensity: NDArray[np.float64], strongest: float) -> NDArray[np.float64]:
    """Marker areas in square points, as the square root of the intensity; no larger than the strongest's."""
    return np.asarray(160.0 * np.sqrt(np.clip(intensity / max(strongest, 1e-30), 0.0, 1.0)))


def _circle(radius: float, **kwargs: Any) -> Any:
    from matplotlib.patches import Circle

    return Circle((0.0, 0.0), radius, fill=False, zorder=0, **kwargs)
