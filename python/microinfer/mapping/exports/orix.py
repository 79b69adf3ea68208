"""Orientation maps as orix crystal maps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from microinfer.crystal import CrystalPhase
from microinfer.mapping.exports.frame import ExportFrame, export_frame
from microinfer.mapping.result import OrientationMap

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap, PhaseList

# M of py4DSTEM's exporter is seen from a lab frame turned by 180 degrees about y
PY4DSTEM_MIRROR = np.diag([1.0, -1.0, 1.0])


def to_orix(omap: OrientationMap, *, py4dstem_compat: bool = False) -> "CrystalMap":
    """Convert an orientation map to an orix CrystalMap.

    The pixels are transposed, the orientations are not turned: orix x (columns) runs along the scan's Rx,
    which is lab x in a QR-calibrated scan, orix y (rows) along Ry. A rotation is ``Rotation.from_matrix(T @
    M)``, the lab to crystal (passive Bunge) convention that M has already; T is the identity unless the CIF's
    setting differs from orix's (see `export_frame`). Phases keep their index as id.

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
        With the property ``confidence``. Positions without an answer are in the data, not indexed (phase id
        -1), and carry the identity.
    """
    frames = [export_frame(phase) for phase in omap.phases]
    matrix = orix_order(omap.valid, omap.matrix)
    if py4dstem_compat:
        matrix = PY4DSTEM_MIRROR @ matrix @ PY4DSTEM_MIRROR
    return crystal_map(omap, frames, turn_phases(omap, matrix, [frame.rotation for frame in frames]))


def orix_order(valid: NDArray[np.bool_], matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Matrices, the identity where invalid, flat in orix's order: x = Rx runs fastest."""
    filled = np.where(valid[..., None, None], matrix, np.eye(3, dtype=np.float32))
    return filled.transpose(1, 0, 2, 3).reshape(-1, 3, 3).astype(np.float64)


def orix_coordinates(omap: OrientationMap) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates x = Rx and y = Ry in the scan's units, flat in orix's order."""
    rx, ry = np.indices(omap.scan_shape)
    return rx.T.ravel() * omap.scan_step, ry.T.ravel() * omap.scan_step


def turn_phases(
    omap: OrientationMap, matrix: NDArray[np.float64], rotations: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Turn the crystal frame of each phase: T @ M, in orix's order."""
    turned = matrix.copy()
    phase = omap.phase.T.ravel()
    for index, rotation in enumerate(rotations):
        turned[phase == index] = rotation @ matrix[phase == index]
    return turned


def crystal_map(
    omap: OrientationMap, frames: Sequence[ExportFrame], matrix: NDArray[np.float64]
) -> "CrystalMap":
    """An orix map of matrices that are in orix's order and in the frames of the exported cells."""
    from orix.crystal_map import CrystalMap
    from orix.quaternion import Rotation
    from scipy.spatial.transform import Rotation as ScipyRotation

    # equal to orix's Rotation.from_matrix, which loses signs of the axis at half turns
    quaternion = ScipyRotation.from_matrix(matrix).as_quat(canonical=True)  # x, y, z, w
    x, y = orix_coordinates(omap)
    xmap = CrystalMap(
        rotations=Rotation(quaternion[:, [3, 0, 1, 2]]),
        phase_id=omap.phase.T.astype(np.int64).ravel(),
        x=x,
        y=y,
        phase_list=_phase_list(omap.phases, frames),
        prop={"confidence": omap.confidence.T.astype(np.float64).ravel()},
        scan_unit="px" if omap.scan_units == "pixels" else omap.scan_units,
    )
    # orix drops phases that no position has; a map of nothing still knows its phases
    phases = _phase_list(omap.phases, frames)
    if not omap.valid.all():
        phases.add_not_indexed()
    xmap.phases = phases
    return xmap


def _phase_list(phases: Sequence[CrystalPhase], frames: Sequence[ExportFrame]) -> "PhaseList":
    from diffpy.structure import Lattice, Structure
    from orix.crystal_map import Phase, PhaseList

    return PhaseList(
        [
            Phase(
                name=phase.name,
                point_group=frame.symmetry,
                structure=Structure(title=phase.name, lattice=Lattice(*frame.lattice)),
            )
            for phase, frame in zip(phases, frames, strict=True)
        ],
        ids=list(range(len(phases))),
    )
