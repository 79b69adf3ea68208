"""Orientation maps as .ang files (EDAX, MTEX, orix)."""

from itertools import count
from pathlib import Path

from microinfer.files import atomic_output, require_output
from microinfer.maps.frames_of_reference import export_frame
from microinfer.maps.orientation_map import OrientationMap
from microinfer.maps.to_orix import (
    crystal_map,
    orix_coordinates,
    orix_order,
    scan_in,
    turn_phases,
)
from microinfer.peaks.scan import Scan

DECIMALS, EULER_ANGLES = 5, 30
"""Of orix's .ang files: the decimals of every number, and the characters of the first three columns."""


def to_ang(omap: OrientationMap, path: str | Path, *, overwrite: bool = False) -> None:
    """Write an .ang file with orix's writer.

    Columns: phi1, Phi, phi2 in radians (passive Bunge, as in `to_orix`), x (along Rx), y (along Ry), image
    quality (0), confidence index (the confidence), phase, detector signal (0), fit (0). Not indexed: Euler
    angles 4 pi, confidence index -1, fit 180, phase 0 (several phases) or -1 (one phase). The header has the
    phases in reverse order and the symmetry as the proper point group in EDAX's names.

    x and y are in micrometres where the scan has a unit of length, else in pixels; the header's SCANID line says which.
    They have five decimals, or as many more as the step needs.

    Parameters
    ----------
    omap : OrientationMap
        At least two scan rows.
    path : str or Path
        The file, .ang; it appears once it is complete.
    overwrite : bool, default: False
        Replace a file that is there already.

    Raises
    ------
    ValueError
        For another suffix, and maps that orix's writer cannot hold.
    OSError
        If the file cannot be written; FileExistsError if one is there already.
    """
    from orix.io.plugins.ang import file_writer
    from scipy.spatial.transform import Rotation

    require_output(path, "the .ang file", [".ang"], overwrite=overwrite)
    if omap.scan_shape[0] < 2:
        raise ValueError(
            "an .ang file needs at least two scan rows: orix's writer takes a single one for a column"
        )
    frames = [export_frame(phase) for phase in omap.phases]
    rotations = [frame.rotation for frame in frames]
    matrix = turn_phases(orix_order(omap.matrix), orix_order(omap.phase), rotations)
    # orix 0.15 gives phi1 the wrong sign at Phi = pi exactly: step aside by less than the five decimals
    reversed_axis = matrix[:, 2, 2] < -1.0 + 1e-12
    matrix[reversed_axis] = matrix[reversed_axis] @ Rotation.from_euler("x", 4e-6).as_matrix()
    scan = scan_in(omap.scan, "µm")
    xmap = crystal_map(omap, frames, matrix, {"confidence": orix_order(omap.confidence)}, scan)
    with atomic_output(path) as temporary:
        file_writer(str(temporary), xmap, confidence_index_prop="confidence")
        _describe_scan(temporary, scan, f"microinfer {omap.version}, x and y in {scan.units}")


def _describe_scan(path: Path, scan: Scan, text: str) -> None:
    """Fill the empty SCANID line of an .ang header, and write positions anew that five decimals do not hold."""
    lines = path.read_text(encoding="utf-8").split("\n")
    header = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    decimals = _decimals(scan)
    for index, line in enumerate(lines[:header]):
        if line.startswith("# SCANID:"):
            lines[index] = f"# SCANID: {text}"
        elif line.startswith(("# XSTEP:", "# YSTEP:")):
            lines[index] = f"{line[:8]} {scan.step:.{decimals + 1}f}"
    if decimals > DECIMALS:
        for index, (x, y) in enumerate(zip(*orix_coordinates(scan), strict=True), header):
            *_, rest = lines[index][EULER_ANGLES:].split(maxsplit=2)
            lines[index] = f"{lines[index][:EULER_ANGLES]}{x:.{decimals}f}  {y:.{decimals}f}  {rest}"
    path.write_text("\n".join(lines), encoding="utf-8")


def _decimals(scan: Scan) -> int:
    """Decimals that a scan's positions need: orix counts rows and columns by the first step."""
    return next(
        decimals
        for decimals in count(DECIMALS)
        if abs(round(scan.step, decimals) - scan.step) * max(scan.shape) < 0.01 * scan.step
    )
