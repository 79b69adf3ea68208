"""Orientation maps as orix crystal maps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import ELEMENTS, CrystalPhase, lattice_basis
from microinfer.maps.frames_of_reference import ExportFrame, export_frame
from microinfer.maps.orientation_map import OrientationMap
from microinfer.peaks.scan import Scan
from microinfer.units import MICROMETRES

if TYPE_CHECKING:
    from diffpy.structure import Structure
    from orix.crystal_map import CrystalMap, PhaseList
    from orix.quaternion.symmetry import Symmetry

PHASE_COLORS = (
    "tab:blue",
    "tab:orange",
    "tab:green",
    "tab:red",
    "tab:purple",
    "tab:brown",
    "tab:pink",
    "tab:olive",
    "tab:cyan",
    "navy",
    "gold",
    "darkgreen",
    "black",
    "magenta",
    "lime",
)
# M of py4DSTEM's exporter is seen from a lab frame turned by 180 degrees about y
PY4DSTEM_MIRROR = np.diag([1.0, -1.0, 1.0])


def to_orix(omap: OrientationMap, *, py4dstem_compat: bool = False) -> "CrystalMap":
    """Convert an orientation map to an orix CrystalMap.

    The pixels are transposed, the orientations are not turned: orix x (columns) runs along the scan's Rx,
    which is lab x in a QR-calibrated scan, orix y (rows) along Ry. A rotation is ``Rotation.from_matrix(T @
    M)``, the lab to crystal (passive Bunge) convention that M has already; T is the identity unless the CIF's
    setting differs from orix's (see `export_frame`). Phases keep their index as id.

    A phase has the colour of `plot_map`, all atoms of its cell where the model knows them, and its space group, unless
    orix would derive another point group from it than the one whose rotations are the phase's: of F-43m, for instance,
    -43m, under which orix cannot compare orientations, where a diffraction pattern has those of m-3m.

    Every point has a rotation for each candidate, as after dictionary indexing with kikuchipy: the answer, then its
    alternatives. ``orientations`` are those of the answers.

    Parameters
    ----------
    omap : OrientationMap
        The map.
    py4dstem_compat : bool, default: False
        Write ``T @ S @ M @ S`` with S = diag(1, -1, 1), as py4DSTEM 0.14.18's
        ``orientation_map_to_orix_CrystalMap`` does, to compare with maps from there. It is the orientation
        seen from a lab frame turned by 180 degrees about y, and right only for crystals with that two-fold
        axis.

    Returns
    -------
    orix.crystal_map.CrystalMap
        With the properties ``confidence`` and ``score``, as in the map; ``scores``, the probability of each
        rotation (the first is the confidence), by kikuchipy's name for what ranks them; ``rotation_phase_id``,
        the phase of each rotation, since an alternative may be of another one than its point. Where there is no
        answer or no alternative, the rotation is the identity, its phase -1 and its probability 0. Positions
        without an answer are in the data, not indexed (phase id -1).
    """
    frames = [export_frame(phase) for phase in omap.phases]
    several = slice(None) if omap.alternatives.phase.size else 0  # orix has no axis for one rotation
    matrix, phase, probability, _ = (orix_order(values)[:, several] for values in omap.candidates)
    if py4dstem_compat:
        matrix = PY4DSTEM_MIRROR @ matrix @ PY4DSTEM_MIRROR
    properties = {
        "confidence": orix_order(omap.confidence),
        "score": orix_order(omap.score),
        "scores": probability,
        "rotation_phase_id": phase.astype(np.int64),
    }
    turned = turn_phases(matrix, phase, [frame.rotation for frame in frames])
    # matplotlib-scalebar, with which orix draws scales, knows metric units alone
    scan = scan_in(omap.scan, "nm") if omap.scan_units == "Å" else omap.scan
    return crystal_map(omap, frames, turned, properties, scan)


def orix_order(values: NDArray[Any]) -> NDArray[Any]:
    """Values of scan positions, flat in orix's order: x = Rx runs fastest."""
    return np.swapaxes(values, 0, 1).reshape(-1, *values.shape[2:])


def orix_coordinates(scan: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates x = Rx and y = Ry in the scan's units, flat in orix's order."""
    rx, ry = np.indices(scan.shape)
    return rx.T.ravel() * scan.step, ry.T.ravel() * scan.step


def scan_in(scan: Scan, units: str) -> Scan:
    """The scan with its step in another unit of length; pixels stay pixels."""
    if scan.units not in MICROMETRES:
        return scan
    step = scan.step * MICROMETRES[scan.units] / MICROMETRES[units]
    return replace(scan, step=float(f"{step:.15g}"), units=units)  # 20 Å are 2 nm, to the last digit


def turn_phases(
    matrix: NDArray[Any], phase: NDArray[np.int16], rotations: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """T @ M for the rotation T of each phase, which turns its crystal frame; the identity where phase is -1."""
    turned = np.broadcast_to(np.eye(3), matrix.shape).copy()
    for index, rotation in enumerate(rotations):
        turned[phase == index] = rotation @ matrix[phase == index].astype(np.float64)
    return turned


def crystal_map(
    omap: OrientationMap,
    frames: Sequence[ExportFrame],
    matrix: NDArray[np.float64],
    properties: dict[str, NDArray[Any]],
    scan: Scan,
) -> "CrystalMap":
    """An orix map of matrices, (N, 3, 3) or (N, R, 3, 3), in orix's order and the frames of the exported cells.

    Its positions are those of `scan`: the map's, in a unit that suits.
    """
    from orix.crystal_map import CrystalMap
    from orix.quaternion import Rotation
    from scipy.spatial.transform import Rotation as ScipyRotation

    # equal to orix's Rotation.from_matrix, which loses signs of the axis at half turns
    quaternion = ScipyRotation.from_matrix(matrix.reshape(-1, 3, 3)).as_quat(canonical=True)  # x, y, z, w
    x, y = orix_coordinates(scan)
    xmap = CrystalMap(
        rotations=Rotation(quaternion[:, [3, 0, 1, 2]].reshape(*matrix.shape[:-2], 4)),
        phase_id=orix_order(omap.phase).astype(np.int64),
        x=x,
        y=y,
        phase_list=_phase_list(omap.phases, frames),
        prop=properties,
        scan_unit="px" if scan.units == "pixels" else scan.units,
    )
    # orix drops phases that no position has; a map of nothing still knows its phases
    phases = _phase_list(omap.phases, frames)
    if not omap.valid.all():
        phases.add_not_indexed()
    xmap.phases = phases
    return xmap


def phase_color(index: int) -> str:
    """Colour of a phase in pictures and in orix, which knows colours by their names alone."""
    return PHASE_COLORS[index % len(PHASE_COLORS)]


def _phase_list(phases: Sequence[CrystalPhase], frames: Sequence[ExportFrame]) -> "PhaseList":
    from orix.crystal_map import Phase, PhaseList

    groups = [_space_group(phase, frame.symmetry) for phase, frame in zip(phases, frames, strict=True)]
    return PhaseList(
        [
            Phase(
                name=phase.name,
                space_group=group,
                point_group=frame.symmetry if group is None else None,
                structure=_structure(phase, frame),
                color=phase_color(index),
            )
            for index, (phase, frame, group) in enumerate(zip(phases, frames, groups, strict=True))
        ],
        ids=list(range(len(phases))),
    )


def _space_group(phase: CrystalPhase, symmetry: "Symmetry") -> int | None:
    """Number of the space group, where the point group that orix derives from it has the exported one's operations."""
    import gemmi
    from orix.quaternion.symmetry import get_point_group

    group = gemmi.find_spacegroup_by_name(phase.space_group.split(":")[0].replace("_", ""))
    if group is None:
        return None
    derived, wanted = (
        one.to_matrix() * (1 - 2.0 * one.improper[:, None, None])
        for one in (get_point_group(group.number), symmetry)
    )
    apart = np.abs(derived[:, None] - wanted).max(axis=(2, 3)).min(axis=1)
    return int(group.number) if len(derived) == len(wanted) and apart.max() < 1e-6 else None


def _structure(phase: CrystalPhase, frame: ExportFrame) -> "Structure":
    """The exported cell with all its atoms."""
    from diffpy.structure import Atom, Lattice, Structure

    # with orix's own axes, a along x and c* along z: of others it turns the lattice and leaves the atoms behind
    structure = Structure(title=phase.name, lattice=Lattice(base=lattice_basis(frame.lattice)))
    if phase.atoms is not None:
        numbers, positions, occupancy = phase.atoms
        # the atoms and their images under the translations of the CIF's lattice that lie in the exported cell
        volume = round(np.linalg.det(frame.cell))
        to_cell = np.linalg.inv(frame.cell)
        translations = np.indices((5, 5, 5)).reshape(3, -1).T
        inside = np.unique(np.rint(translations @ to_cell * volume).astype(int) % volume, axis=0) / volume
        for number, position, share in zip(numbers, positions, occupancy, strict=True):
            for shift in inside:
                xyz = np.mod(position @ to_cell + shift + 1e-9, 1.0) - 1e-9
                structure.append(Atom(ELEMENTS[number - 1], xyz, occupancy=share, lattice=structure.lattice))
    return structure
