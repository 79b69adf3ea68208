"""Orientation maps as .ang files (EDAX, MTEX, orix)."""

from pathlib import Path

from microinfer.files import atomic_output, require_output
from microinfer.maps.frames_of_reference import export_frame
from microinfer.maps.orientation_map import OrientationMap
from microinfer.maps.to_orix import crystal_map, orix_order, turn_phases


def to_ang(omap: OrientationMap, path: str | Path, *, overwrite: bool = False) -> None:
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
        The file, .ang; it appears once it is complete.
    overwrite : bool, default: False
        Replace a file that is there already.

    Raises
    ------
    ValueError
        For another suffix, and maps that the format or orix's writer cannot hold.
    OSError
        If the file cannot be written; FileExistsError if one is there already.
    """
    from orix.io.plugins.ang import file_writer
    from scipy.spatial.transform import Rotation

    require_output(path, "the .ang file", [".ang"], overwrite=overwrite)
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
    rotations = [frame.rotation for frame in frames]
    matrix = turn_phases(orix_order(omap.matrix), orix_order(omap.phase), rotations)
    # orix 0.15 gives phi1 the wrong sign at Phi = pi exactly: step aside by less than the five decimals
    reversed_axis = matrix[:, 2, 2] < -1.0 + 1e-12
    matrix[reversed_axis] = matrix[reversed_axis] @ Rotation.from_euler("x", 4e-6).as_matrix()
    xmap = crystal_map(omap, frames, matrix, {"confidence": orix_order(omap.confidence)})
    with atomic_output(path) as temporary:
        file_writer(str(temporary), xmap, confidence_index_prop="confidence")
        _describe_scan(temporary, f"microinfer {omap.version}, x and y in {omap.scan_units}")


def _describe_scan(path: Path, text: str) -> None:
    """Fill the empty SCANID line of an .ang header."""
    lines = path.read_text(encoding="utf-8").split("\n")
    index = next(i for i, line in enumerate(lines) if line.startswith("# SCANID:"))
    lines[index] = f"# SCANID: {text}"
    path.write_text("\n".join(lines), encoding="utf-8")
