"""The command that maps what comes with microinfer, and compares with the truth: demo."""

import errno
import filecmp
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import typer

from microinfer.cli.show import facts, map_summary, say, warnings_as_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from microinfer.maps.orientation_map import OrientationMap

DATA = Path(__file__).parents[1] / "data" / "demo"


class Part(NamedTuple):
    """A half of the demo: a bundled scan, and the names of its files in the folder of the demo."""

    what: str
    bundled: str
    truth: str
    scan: str
    map: str
    picture: str


PARTS = (
    Part("Bragg peaks", "polycrystal.h5", "polycrystal_truth.npz", "scan.h5", "demo.h5", "demo.png"),
    Part("frames", "frames.h5", "frames_truth.npz", "frames.h5", "frames_map.h5", "frames_map.png"),
)


def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the scans, their maps and pictures.")
    ] = Path("microinfer-demo"),
) -> None:
    """Map two small simulated copper polycrystals, one from peaks and one from frames, and compare with the truth.

    The scans are left beside their maps, to try other commands on.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is there already, and is no folder", str(out))
    out.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        _copy(DATA / part.bundled, out / part.scan)
    for part in PARTS:
        _map(part, out)
    say("Go on with the scans:")
    for line in (
        f"cd {shlex.quote(str(out))}",
        "microinfer info scan.h5 --model cu",
        "microinfer map scan.h5 --model cu --out map.h5 --plot map.png",
    ):
        say(f"  {line}")


def _copy(bundled: Path, scan: Path) -> None:
    from microinfer.files import atomic_output

    if not scan.exists():
        with atomic_output(scan) as temporary:
            shutil.copyfile(bundled, temporary)
    elif not filecmp.cmp(bundled, scan, shallow=False):
        raise FileExistsError(
            errno.EEXIST, "is not the demo's scan: give another folder with --out", str(scan)
        )


def _map(part: Part, out: Path) -> None:
    """Map one scan, draw the map and compare it with the truth."""
    from microinfer.mapping import map_to_file
    from microinfer.maps.map_file import load_map
    from microinfer.unfinished import partial_path

    target, picture = out / part.map, out / part.picture
    partial_path(target).unlink(missing_ok=True)
    with warnings_as_lines():
        report = map_to_file(out / part.scan, "cu", target, progress=True, overwrite=True)
        omap = load_map(target)
        omap.plot(picture, overwrite=True)
    map_summary(report, f"From {part.what}: map written to {target}, picture to {picture}")
    with np.load(DATA / part.truth, allow_pickle=False) as truth:
        facts("Against the known orientations", compare_with_truth(omap, truth["matrix"], truth["interior"]))


def compare_with_truth(
    omap: "OrientationMap", matrix: "NDArray[np.float64]", interior: "NDArray[np.bool_]"
) -> dict[str, str]:
    """Misorientation of a map to the truth.

    Parameters
    ----------
    omap : OrientationMap
        A map of one phase.
    matrix : ndarray, shape (Rx, Ry, 3, 3)
        True orientations, NaN in vacuum.
    interior : ndarray of bool, shape (Rx, Ry)
        Positions inside a grain, away from its boundaries.

    Returns
    -------
    dict of str to str
        Rows to print. Inside grains an invalid answer counts as 45 degrees wrong.
    """
    from microinfer.crystals.errors import RIGHT, orientation_errors

    vacuum = np.isnan(matrix).all(axis=(2, 3))
    inside = orientation_errors(
        omap.matrix[interior],
        omap.phase[interior],
        matrix[interior],
        np.zeros(interior.sum(), int),
        omap.phases,
    )
    rows = {
        "Median misorientation": f"{np.median(inside):.2f} degrees, inside grains",
        "Within 3 degrees": f"{np.mean(inside < RIGHT):.1%}, inside grains",
    }
    if vacuum.any():
        rows["Valid in vacuum"] = f"{omap.valid[vacuum].mean():.1%} of {vacuum.sum():,} positions"
    return rows
