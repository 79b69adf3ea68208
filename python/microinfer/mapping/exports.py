"""Orientation maps for other programs: orix, .ang (EDAX, MTEX) and .ctf (HKL, MTEX).

microinfer writes a crystal's operators in the Cartesian frame of the CIF's own cell. Other programs look
symmetry up by a name and fix its axes themselves: in orix the two-fold axis of 2/m lies on z, those of -3m on
a. So a phase is handed over in a cell whose frame (a along x, c* along z) has the program's axes, and the
orientations turn with it: ``T @ M`` for the rotation T from our frame to that of the cell. A reflection g of
the CIF's cell is T @ g there, lands at ``(T M).T @ (T g)``, and the pattern stays the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystal import CrystalPhase, lattice_basis
from microinfer.io.atomic import atomic_output
from microinfer.mapping.result import OrientationMap

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap, PhaseList
    from orix.quaternion.symmetry import Symmetry

# M of py4DSTEM's exporter is seen from a lab frame turned by 180 degrees about y
PY4DSTEM_MIRROR = np.diag([1.0, -1.0, 1.0])
LAUE_CLASSES = ("-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m")
MICROMETRES = {"A": 1e-4, "Å": 1e-4, "Angstrom": 1e-4, "nm": 1e-3, "um": 1.0, "µm": 1.0, "mm": 1e3}


@dataclass(frozen=True, eq=False)
class ExportFrame:
    """A crystal phase in the cell and Cartesian frame of an orix point group.

    Attributes
    ----------
    symmetry : orix.quaternion.symmetry.Symmetry
        The point group: the crystal's own if its proper rotations are the phase's operators, otherwise its
        Laue class, otherwise the proper group of the operators.
    cell : ndarray of int64, shape (3, 3)
        Rows: the axes a, b, c of the exported cell in those of the CIF's. Indices follow, ``hkl' = cell @
        hkl``.
    lattice : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees, of the exported cell.
    rotation : ndarray of float64, shape (3, 3)
        T: from the CIF cell's Cartesian frame to that of the exported cell; the identity for equal cells.
    """

    symmetry: "Symmetry"
    cell: NDArray[np.int64]
    lattice: tuple[float, ...]
    rotation: NDArray[np.float64]


def export_frame(phase: CrystalPhase, point_groups: Sequence[str] | None = None) -> ExportFrame:
    """Find the cell in which a phase's operators are those of an orix point group.

    Parameters
    ----------
    phase : CrystalPhase
        The phase.
    point_groups : sequence of str, optional
        Names to choose from, the wanted first. All of orix's by default: the crystal's own, its Laue class,
        the proper groups (so P-31m becomes 312 and keeps its cell).

    Returns
    -------
    ExportFrame
        With the smallest cell, then the most wanted point group, then the cell closest to the CIF's.

    Raises
    ------
    ValueError
        If no cell of the lattice has the axes of such a point group.
    """
    cells, volumes = _cells()
    bases = cells @ phase.basis
    lattices = _lattice_parameters(bases)
    # the CIF's own cell first, then permuted axes, then axes that keep their sense and lie near their old
    # place
    own = np.eye(3, dtype=np.int64)
    departure = np.abs(cells - own).sum(axis=(1, 2))
    order = np.lexsort(
        [departure, (cells < 0).sum(axis=(1, 2)), np.abs(cells).sum(axis=(1, 2)), departure > 0]
    )
    cells, volumes, bases, lattices = (values[order] for values in (cells, volumes, bases, lattices))
    for volume in np.unique(volumes):
        for symmetry in _point_groups(phase, point_groups):
            expected = _proper_rotations(symmetry)
            if len(expected) != len(phase.operators):
                continue
            for index in np.flatnonzero((volumes == volume) & _is_conventional(lattices, symmetry.system)):
                identical = np.array_equal(cells[index], own)
                rotation = np.eye(3) if identical else _turn(bases[index], lattice_basis(lattices[index]))
                turned = rotation @ phase.operators @ rotation.T
                difference = np.abs(turned[:, None] - expected[None]).max(axis=(2, 3))
                if (difference.min(axis=1) < 1e-3).all():
                    lattice = phase.lattice if identical else tuple(float(x) for x in lattices[index])
                    return ExportFrame(symmetry, cells[index], lattice, rotation)
    raise ValueError(
        f"phase {phase.name!r} (point group {phase.point_group!r}, {len(phase.operators)} operators): "
        f"no cell of its lattice has the axes of {point_groups or 'an orix point group'}"
    )


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
    matrix = _orix_order(omap.valid, omap.matrix)
    if py4dstem_compat:
        matrix = PY4DSTEM_MIRROR @ matrix @ PY4DSTEM_MIRROR
    return _crystal_map(omap, frames, _turn_phases(omap, matrix, [frame.rotation for frame in frames]))


def to_ang(omap: OrientationMap, path: str | Path) -> None:
    """Write an .ang file with orix's writer.

    Columns: phi1, Phi, phi2 in radians (passive Bunge, as in `to_orix`), x (along Rx), y (along Ry), image
    quality (0), confidence index (the confidence), phase, detector signal (0), fit (0). Not indexed: Euler
    angles 4 pi, confidence index -1, fit 180, phase 0 (several phases) or -1 (one phase). The header has the
    phases in reverse order and the symmetry as the proper point group in EDAX's names.

    x and y are in the scan's units: the format says micrometres, but its five decimals do not hold the step
    of a 4D-STEM scan in micrometres. The header's SCANID line names the unit; orix and MTEX read it as
    micrometres.

    Parameters
    ----------
    omap : OrientationMap
        At least two scan rows, and a step that five decimals hold.
    path : str or Path
        The file; it appears once it is complete.

    Raises
    ------
    ValueError
        For maps that the format or orix's writer cannot hold.
    OSError
        If the file cannot be written.
    """
    from orix.io.plugins.ang import file_writer
    from scipy.spatial.transform import Rotation

    rows, columns = omap.scan_shape
    if rows < 2:
        raise ValueError(
            "an .ang file needs at least two scan rows: orix's writer takes a single one for a column"
        )
    if abs(round(omap.scan_step, 5) - omap.scan_step) * max(rows, columns) > 0.25 * omap.scan_step:
        raise ValueError(
            f"the five decimals of an .ang file cannot hold a scan step of {omap.scan_step:g} "
            f"{omap.scan_units}: give scan_step in a smaller unit"
        )
    frames = [export_frame(phase) for phase in omap.phases]
    matrix = _orix_order(omap.valid, omap.matrix)
    matrix = _turn_phases(omap, matrix, [frame.rotation for frame in frames])
    # orix 0.15 gives phi1 the wrong sign at Phi = pi exactly: step aside by less than the five decimals
    reversed_axis = matrix[:, 2, 2] < -1.0 + 1e-12
    matrix[reversed_axis] = matrix[reversed_axis] @ Rotation.from_euler("x", 4e-6).as_matrix()
    xmap = _crystal_map(omap, frames, matrix)
    with atomic_output(path) as temporary:
        file_writer(str(temporary), xmap, confidence_index_prop="confidence")
        _describe_scan(temporary, f"microinfer {omap.version}, x and y in {omap.scan_units}")


def to_ctf(omap: OrientationMap, path: str | Path) -> None:
    """Write a .ctf file (HKL Channel text file).

    Columns, tab separated: phase (from 1; 0 is not indexed), X (along Rx), Y (along Ry) in micrometres where
    the scan has a unit of length, bands (0), error (0, or 3: no solution), Euler angles in degrees (passive
    Bunge), mean angular deviation (0), band contrast (255 times the confidence), band slope (0). Phases have
    one of the eleven Laue classes and no space group.

    The Euler angles are in HKL's crystal frame, x along a* and z along c, which MTEX takes for .ctf files
    too. For hexagonal and trigonal cells it is turned by 30 degrees about c from the frame with x along a.
    orix 0.15 does not know of that: it reads the angles as they stand and takes x along a, so that its
    orientations of a phase whose a* is not along a come out turned about c by the angle between them. For
    orix, use `to_orix` or `to_ang`. orix cannot open a file with Laue class 10 (m-3) at all, since it looks
    that class up as "m3".

    Parameters
    ----------
    omap : OrientationMap
        The map.
    path : str or Path
        The file; it appears once it is complete.

    Raises
    ------
    ValueError
        For a phase with operators of no Laue class.
    OSError
        If the file cannot be written.
    """
    from scipy.spatial.transform import Rotation

    frames = [export_frame(phase, _laue_names(phase)) for phase in omap.phases]
    turns = [_hkl_turn(frame.lattice) @ frame.rotation for frame in frames]
    matrix = _turn_phases(omap, _orix_order(omap.valid, omap.matrix), turns)
    phase_id, indexed, (x, y) = omap.phase.T.ravel(), omap.valid.T.ravel(), _orix_coordinates(omap)
    euler = np.zeros((len(matrix), 3))
    if indexed.any():
        euler[indexed] = np.mod(_bunge(Rotation.from_matrix(matrix[indexed])), 360.0)
    scale = MICROMETRES.get(omap.scan_units, 1.0)
    step = omap.scan_step * scale
    zeros = np.zeros(len(matrix))
    table = np.column_stack(
        [
            phase_id + 1,
            x * scale,
            y * scale,
            zeros,
            np.where(indexed, 0, 3),
            euler,
            zeros,
            np.rint(255 * omap.confidence.T.ravel()),
            zeros,
        ]
    )
    voltage = float(omap.model_card.get("voltage", 0.0))
    lines = [
        "Channel Text File",
        f"Prj\t{Path(path).stem}",
        f"Author\tmicroinfer {omap.version}",
        "JobMode\tGrid",
        f"XCells\t{omap.scan_shape[0]}",
        f"YCells\t{omap.scan_shape[1]}",
        f"XStep\t{step:.10g}",
        f"YStep\t{step:.10g}",
        "AcqE1\t0",
        "AcqE2\t0",
        "AcqE3\t0",
        "Euler angles refer to Sample Coordinate system (CS0)!\tMag\t0\tCoverage\t100\tDevice\t0"
        f"\tKV\t{voltage / 1e3:g}\tTiltAngle\t0\tTiltAxis\t0",
        f"Phases\t{len(omap.phases)}",
        *(_ctf_phase(phase, frame) for phase, frame in zip(omap.phases, frames, strict=True)),
        "Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS",
    ]
    formats = ["%d", "%.10g", "%.10g", "%d", "%d", "%.5f", "%.5f", "%.5f", "%.4f", "%d", "%d"]
    with atomic_output(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, table, fmt=formats, delimiter="\t")


def _orix_order(valid: NDArray[np.bool_], matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Matrices, the identity where invalid, flat in orix's order: x = Rx runs fastest."""
    filled = np.where(valid[..., None, None], matrix, np.eye(3, dtype=np.float32))
    return filled.transpose(1, 0, 2, 3).reshape(-1, 3, 3).astype(np.float64)


def _orix_coordinates(omap: OrientationMap) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rx, ry = np.indices(omap.scan_shape)
    return rx.T.ravel() * omap.scan_step, ry.T.ravel() * omap.scan_step


def _turn_phases(
    omap: OrientationMap, matrix: NDArray[np.float64], rotations: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Turn the crystal frame of each phase: T @ M, in orix's order."""
    turned = matrix.copy()
    phase = omap.phase.T.ravel()
    for index, rotation in enumerate(rotations):
        turned[phase == index] = rotation @ matrix[phase == index]
    return turned


def _crystal_map(
    omap: OrientationMap, frames: Sequence[ExportFrame], matrix: NDArray[np.float64]
) -> "CrystalMap":
    from orix.crystal_map import CrystalMap
    from orix.quaternion import Rotation
    from scipy.spatial.transform import Rotation as ScipyRotation

    # equal to orix's Rotation.from_matrix, which loses signs of the axis at half turns
    quaternion = ScipyRotation.from_matrix(matrix).as_quat(canonical=True)  # x, y, z, w
    x, y = _orix_coordinates(omap)
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


@cache
def _cells() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right-handed cells made of the CIF's axes, and their volumes in CIF cells.

    Sums and differences of the axes hold permuted cells, the conventional cell of a primitive one and the
    hexagonal cell of a rhombohedral one; the last is the triple hexagonal cell, turned by 30 degrees.
    """
    cells = np.array(list(product((-1, 0, 1), repeat=9)), np.int64).reshape(-1, 3, 3)
    cells = np.concatenate([cells, [[[2, 1, 0], [-1, 1, 0], [0, 0, 1]]]])
    volumes = np.rint(np.linalg.det(cells)).astype(np.int64)
    return cells[volumes > 0], volumes[volumes > 0]


def _lattice_parameters(bases: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(bases, axis=-1)
    cosines = [
        np.einsum("nj,nj->n", bases[:, i], bases[:, j]) / (lengths[:, i] * lengths[:, j])
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    return np.column_stack([lengths, np.rad2deg(np.arccos(np.clip(cosines, -1.0, 1.0))).T])


def _is_conventional(lattices: NDArray[np.float64], system: str | None) -> NDArray[np.bool_]:
    """Whether lattice parameters are those of a system's conventional cell (monoclinic: any unique axis)."""
    a, b, c, alpha, beta, gamma = lattices.T

    def equal(first: Any, second: Any) -> Any:
        return np.isclose(first, second, rtol=1e-3, atol=0.05 if np.isscalar(second) else 0.0)

    right = [equal(angle, 90.0) for angle in (alpha, beta, gamma)]
    rectangular = right[0] & right[1] & right[2]
    conventional = {
        "triclinic": np.ones(len(lattices), bool),
        "monoclinic": right[0].astype(int) + right[1] + right[2] >= 2,
        "orthorhombic": rectangular,
        "tetragonal": rectangular & equal(a, b),
        "trigonal": right[0] & right[1] & equal(gamma, 120.0) & equal(a, b),
        "hexagonal": right[0] & right[1] & equal(gamma, 120.0) & equal(a, b),
        "cubic": rectangular & equal(a, b) & equal(a, c),
    }
    return np.asarray(conventional["triclinic" if system is None else system])


def _turn(basis: NDArray[np.float64], standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation T with ``basis @ T.T == standard``."""
    return np.linalg.solve(basis, standard).T


def _proper_rotations(symmetry: "Symmetry") -> NDArray[np.float64]:
    return np.asarray(symmetry[~np.asarray(symmetry.improper, bool)].to_matrix())


@cache
def _orix_groups() -> "dict[str, Symmetry]":
    from orix.quaternion import symmetry

    return {
        group.name: group
        for group in vars(symmetry).values()
        if isinstance(group, symmetry.Symmetry) and group.name
    }


def _point_groups(phase: CrystalPhase, names: Sequence[str] | None) -> "list[Symmetry]":
    """Candidates, the wanted first, of rotations alone or with inversion: a phase knows no mirrors."""
    groups = _orix_groups()
    if names is not None:
        return [groups[name] for name in names]
    own = groups.get(phase.point_group)
    wanted = [] if own is None else [own, groups[own.laue.name]]
    if own is None:
        wanted += [group for group in groups.values() if group.contains_inversion]
    wanted += [group for group in groups.values() if group.is_proper]
    return [group for group in wanted if group.is_proper or group.contains_inversion]


def _laue_names(phase: CrystalPhase) -> list[str]:
    own = _orix_groups().get(phase.point_group)
    return list(LAUE_CLASSES) if own is None else [own.laue.name, *LAUE_CLASSES]


def _hkl_turn(lattice: tuple[float, ...]) -> NDArray[np.float64]:
    """Rotation from the frame with a along x and c* along z to HKL's, a* along x and c along z."""
    _, b, c = lattice_basis(lattice)
    x = np.cross(b, c)
    x /= np.linalg.norm(x)
    z = c / np.linalg.norm(c)
    return np.stack([x, np.cross(z, x), z])


def _bunge(rotation: Any) -> NDArray[np.float64]:
    """Bunge Euler angles in degrees of lab-to-crystal rotations; where Phi is 0 or 180, phi2 is 0."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock", category=UserWarning)
        return np.asarray(rotation.inv().as_euler("ZXZ", degrees=True))


def _ctf_phase(phase: CrystalPhase, frame: ExportFrame) -> str:
    lengths = ";".join(f"{value:.4f}" for value in frame.lattice[:3])
    angles = ";".join(f"{value:.3f}" for value in frame.lattice[3:])
    laue = LAUE_CLASSES.index(frame.symmetry.laue.name) + 1
    return f"{lengths}\t{angles}\t{phase.name}\t{laue}\t0\t\t\t{phase.space_group}"


def _describe_scan(path: Path, text: str) -> None:
    """Fill the empty SCANID line of an .ang header."""
    lines = path.read_text(encoding="utf-8").split("\n")
    index = next(i for i, line in enumerate(lines) if line.startswith("# SCANID:"))
    lines[index] = f"# SCANID: {text}"
    path.write_text("\n".join(lines), encoding="utf-8")
