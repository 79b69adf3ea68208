"""Inverse pole figure colours, and their key: the fundamental sector."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import four_index_direction
from microinfer.crystals.phase import CrystalPhase
from microinfer.maps.frames_of_reference import ExportFrame, export_frame
from microinfer.maps.orientation_map import OrientationMap
from microinfer.maps.picture import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INVALID_GREY = 0.9
KEY_PIXELS = 160
BLOCK = 32768  # orientations coloured at a time: orix holds each one's symmetry equivalents


def ipf_colors(
    omap: OrientationMap, direction: NDArray[np.float64], frames: Sequence[ExportFrame] | None = None
) -> NDArray[np.float64]:
    """Inverse pole figure colours of a map along a direction of the lab.

    Parameters
    ----------
    omap : OrientationMap
        The map.
    direction : ndarray, shape (3,)
        In the lab frame (qx, qy, beam).
    frames : sequence of ExportFrame, optional
        Of the map's phases, where they are known already.

    Returns
    -------
    ndarray of float64, shape (Rx, Ry, 3)
        RGB in [0, 1]; grey where invalid.
    """
    from orix.plot import DirectionColorKeyTSL
    from orix.vector import Vector3d

    image = np.full((*omap.scan_shape, 3), INVALID_GREY)
    for k, frame in enumerate(frames or [export_frame(phase) for phase in omap.phases]):
        key = DirectionColorKeyTSL(frame.symmetry)
        rows, columns = np.nonzero(omap.phase == k)
        for start in range(0, len(rows), BLOCK):
            here = rows[start : start + BLOCK], columns[start : start + BLOCK]
            crystal = omap.matrix[here].astype(np.float64) @ direction @ frame.rotation.T
            image[here] = np.clip(key.direction2color(Vector3d(crystal)), 0.0, 1.0)
    return image


def draw_color_key(ax: "Axes", phase: CrystalPhase, frame: ExportFrame, color: str) -> None:
    """Draw the fundamental sector in stereographic projection, corners as directions of the CIF's cell."""
    from orix.plot import DirectionColorKeyTSL
    from orix.vector import Vector3d

    key = DirectionColorKeyTSL(frame.symmetry)
    sector = key.symmetry.fundamental_sector
    edge = _stereographic(np.atleast_2d(sector.edges.unit.data))
    low, high = edge.min(axis=0), edge.max(axis=0)
    step = float((high - low).max()) / KEY_PIXELS
    x, y = np.meshgrid(np.arange(low[0], high[0] + step, step), np.arange(low[1], high[1] + step, step))
    squared = x**2 + y**2
    directions = np.stack([2 * x, 2 * y, 1 - squared], axis=-1) / (1 + squared)[..., None]
    colors = np.clip(key.direction2color(Vector3d(directions.reshape(-1, 3))), 0.0, 1.0).reshape(*x.shape, 3)
    image = ax.imshow(
        colors,
        extent=(low[0], low[0] + step * x.shape[1], low[1], low[1] + step * x.shape[0]),
        origin="lower",
        interpolation="bilinear",
    )
    outline = _polygon(edge)
    ax.add_patch(outline)
    image.set_clip_path(outline)
    span = float((high - low).max())
    ax.set(
        xlim=(low[0] - 0.25 * span, high[0] + 0.25 * span),
        ylim=(low[1] - 0.25 * span, high[1] + 0.5 * span),
        aspect="equal",
    )
    ax.set_axis_off()

    centre = (low + high) / 2
    for corner in np.atleast_2d(sector.vertices.unit.data):
        place = _stereographic(corner[None])[0]
        outward = (place - centre) / np.linalg.norm(place - centre)
        label = f"[{indices_text(_lattice_direction(corner @ frame.rotation, phase))}]"
        ax.annotate(
            label,
            place,
            xytext=(float(16 * outward[0]), float(12 * outward[1])),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
        )
    ax.text(
        centre[0],
        high[1] + 0.32 * span,
        f"{plain(phase.name)}  ({key.symmetry.name})",
        ha="center",
        fontweight="bold",
        color=color,
        fontsize=10.5,
    )


def _stereographic(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project unit vectors of the upper hemisphere from the south pole."""
    return np.asarray(directions[:, :2] / (1.0 + directions[:, 2:3]))


def _lattice_direction(direction: NDArray[np.float64], phase: CrystalPhase) -> tuple[int, ...]:
    """Smallest indices of a direction: [uvw], or [UVTW] where the CIF's cell is hexagonal."""
    uvw = direction @ np.linalg.inv(phase.basis)
    scaled = uvw / np.abs(uvw).max()
    for factor in range(1, 13):
        indices = np.rint(factor * scaled)
        if np.abs(factor * scaled - indices).max() < 0.03:
            break
    u, v, w = (int(index) for index in indices // np.gcd.reduce(indices.astype(int)))
    return four_index_direction(u, v, w) if phase.hexagonal_axes else (u, v, w)


def indices_text(values: Sequence[int]) -> str:
    """Write indices with bars for minus signs, as mathematical text."""
    digits = [rf"\bar{{{-value}}}" if value < 0 else f"{value}" for value in values]
    return "$" + r"\,".join(digits) + "$"


def _polygon(points: NDArray[np.float64]) -> Any:
    from matplotlib.patches import Polygon

    return Polygon(points, closed=True, fill=False, edgecolor="black", linewidth=1.0, zorder=3)
