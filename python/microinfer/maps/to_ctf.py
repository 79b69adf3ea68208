"""Orientation maps as .ctf files (HKL, MTEX)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase, lattice_basis
from microinfer.files import atomic_output, require_output
from microinfer.maps.frames_of_reference import ExportFrame, bunge_angles, export_frame, orix_groups
from microinfer.maps.orientation_map import OrientationMap
from microinfer.maps.to_orix import orix_coordinates, orix_order, scan_in, turn_phases

LAUE_CLASSES = ("-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m")
FRAMES = {"hkl": "X along a*, Z along c (HKL, MTEX)", "orix": "X along a, Z along c* (orix)"}


def to_ctf(omap: OrientationMap, path: str | Path, *, frame: str = "hkl", overwrite: bool = False) -> None:
    """Write a .ctf file (HKL Channel text file).

    Columns, tab separated: phase (from 1; 0 is not indexed), X (along Rx), Y (along Ry) in micrometres where
    the scan has a unit of length, bands (0), error (0, or 3: no solution), Euler angles in degrees (passive
    Bunge), mean angular deviation (0), band contrast (255 times the confidence), band slope (0). Phases have
    one of the eleven Laue classes and no space group.

    The Euler angles refer to the crystal axes of `frame`, which the header's Author line names. HKL's have X along a*
    and Z along c, and MTEX takes them for .ctf files too. orix 0.15 does not: it reads the angles as they stand and
    takes X along a and Z along c*. For hexagonal and trigonal cells the two are 30 degrees apart, about c. orix cannot
    open a file with Laue class 10 (m-3) at all, since it looks that class up as "m3".

    Parameters
    ----------
    omap : OrientationMap
        The map.
    path : str or Path
        The file, .ctf; it appears once it is complete.
    frame : str, default: "hkl"
        ``"hkl"``: X along a*, Z along c, for HKL's programs and MTEX. ``"orix"``: X along a, Z along c*, for orix.
    overwrite : bool, default: False
        Replace a file that is there already.

    Raises
    ------
    ValueError
        For another suffix or frame, and a phase with operators of no Laue class.
    OSError
        If the file cannot be written; FileExistsError if one is there already.
    """
    if frame not in FRAMES:
        raise ValueError(f"frame must be one of {', '.join(FRAMES)}, got {frame!r}")
    require_output(path, "the .ctf file", [".ctf"], overwrite=overwrite)
    frames = [export_frame(phase, _laue_names(phase)) for phase in omap.phases]
    phase, indexed = orix_order(omap.phase), orix_order(omap.valid)
    rotations = [(_hkl_turn(one.lattice) if frame == "hkl" else np.eye(3)) @ one.rotation for one in frames]
    matrix = turn_phases(orix_order(omap.matrix), phase, rotations)
    scan = scan_in(omap.scan, "µm")
    x, y = orix_coordinates(scan)
    euler = np.zeros((len(matrix), 3))
    if indexed.any():
        euler[indexed] = np.mod(np.degrees(bunge_angles(matrix[indexed])), 360.0)
    zeros = np.zeros(len(matrix))
    table = np.column_stack(
        [
            phase + 1,
            x,
            y,
            zeros,
            np.where(indexed, 0, 3),
            euler,
            zeros,
            np.rint(255 * orix_order(omap.confidence)),
            zeros,
        ]
    )
    voltage = float(omap.model_card.get("voltage", 0.0))
    lines = [
        "Channel Text File",
        f"Prj\t{Path(path).stem}",
        f"Author\tmicroinfer {omap.version}; crystal axes of the Euler angles: {FRAMES[frame]}",
        "JobMode\tGrid",
        f"XCells\t{omap.scan_shape[0]}",
        f"YCells\t{omap.scan_shape[1]}",
        f"XStep\t{scan.step:.10g}",
        f"YStep\t{scan.step:.10g}",
        "AcqE1\t0",
        "AcqE2\t0",
        "AcqE3\t0",
        "Euler angles refer to Sample Coordinate system (CS0)!\tMag\t0\tCoverage\t100\tDevice\t0"
        f"\tKV\t{voltage / 1e3:g}\tTiltAngle\t0\tTiltAxis\t0",
        f"Phases\t{len(omap.phases)}",
        *(_ctf_phase(one, cell) for one, cell in zip(omap.phases, frames, strict=True)),
        "Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS",
    ]
    formats = ["%d", "%.10g", "%.10g", "%d", "%d", "%.5f", "%.5f", "%.5f", "%.4f", "%d", "%d"]
    with atomic_output(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, table, fmt=formats, delimiter="\t")


def _laue_names(phase: CrystalPhase) -> list[str]:
    own = orix_groups().get(phase.point_group)
    return list(LAUE_CLASSES) if own is None else [own.laue.name, *LAUE_CLASSES]


def _hkl_turn(lattice: tuple[float, ...]) -> NDArray[np.float64]:
    """Rotation from the frame with a along x and c* along z to HKL's, a* along x and c along z."""
    _, b, c = lattice_basis(lattice)
    x = np.cross(b, c)
    x /= np.linalg.norm(x)
    z = c / np.linalg.norm(c)
    return np.stack([x, np.cross(z, x), z])


def _ctf_phase(phase: CrystalPhase, frame: ExportFrame) -> str:
    lengths = ";".join(f"{value:.4f}" for value in frame.lattice[:3])
    angles = ";".join(f"{value:.3f}" for value in frame.lattice[3:])
    laue = LAUE_CLASSES.index(frame.symmetry.laue.name) + 1
    return f"{lengths}\t{angles}\t{phase.name}\t{laue}\t0\t\t\t{phase.space_group}"
