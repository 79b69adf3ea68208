"""Files of Bragg peaks for tests: py4DSTEM writes them, or h5py in py4DSTEM's layouts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers.optional import import_py4dstem
from microinfer.peaks import BraggPeaks, Scan

if TYPE_CHECKING:
    from py4DSTEM import BraggVectors

PEAK = np.dtype([("qx", np.float64), ("qy", np.float64), ("intensity", np.float64)])
CALIBRATION = "metadatabundle/calibration"


def random_points(rng: np.random.Generator, positions: int, most: int = 6) -> list[np.ndarray]:
    """Peaks in detector pixels for each scan position; every fifth position is empty."""
    lists = []
    for n in range(positions):
        points = np.zeros(0 if n % 5 == 3 else int(rng.integers(1, most + 1)), PEAK)
        points["qx"], points["qy"] = rng.uniform(0, 64, (2, len(points)))
        points["intensity"] = rng.uniform(0.1, 1e4, len(points))
        lists.append(points)
    return lists


def bragg_vectors(
    shape: tuple[int, int], points: list[np.ndarray], name: str = "braggvectors", **calibration: Any
) -> "BraggVectors":
    """BraggVectors with the given raw points; `calibration` names setters of py4DSTEM's Calibration."""
    vectors = import_py4dstem().BraggVectors(shape, (64, 64), name=name)
    for n, peaks in enumerate(points):
        vectors._v_uncal[divmod(n, shape[1])].add(peaks)
    for key, value in calibration.items():
        getattr(vectors.calibration, f"set_{key}")(value)
    vectors.setcal()
    return vectors


def calibrated_vectors(
    shape: tuple[int, int] = (3, 4), seed: int = 0, name: str = "braggvectors"
) -> "BraggVectors":
    rng = np.random.default_rng(seed)
    origin = rng.uniform(31, 33, (2, *shape))
    return bragg_vectors(
        shape,
        random_points(rng, shape[0] * shape[1]),
        name,
        origin=(origin[0], origin[1]),
        Q_pixel_size=0.02,
        Q_pixel_units="A^-1",
    )


def save_vectors(path: Path, *vectors: "BraggVectors") -> Path:
    """Write with py4DSTEM, every one with a root of its own."""
    for n, item in enumerate(vectors):
        import_py4dstem().save(str(path), item, mode="a" if n else "o")
    return path


def save_point_lists(
    path: Path, shape: tuple[int, int], points: list[np.ndarray], dtype: Any = PEAK, **layout: Any
) -> Path:
    """Write the layout of py4DSTEM 0.13: a PointListArray, in the units of `points`; stored as h5py is told."""
    lists = np.empty(len(points), object)
    for n, peaks in enumerate(points):
        lists[n] = peaks.astype(dtype)
    with h5py.File(path, "w") as file:
        root = file.create_group("4DSTEM")
        root.attrs.update(emd_group_type="root", version_major="0", version_minor="13", version_release="11")
        group = root.create_group("braggpeaks")
        group.attrs.update(emd_group_type=3, py4dstem_class="PointListArray")
        dataset = group.create_dataset("data", shape, h5py.vlen_dtype(np.dtype(dtype)), **layout)
        dataset[...] = lists.reshape(shape)
    return path


def save_old_vectors(
    path: Path,
    shape: tuple[int, int],
    points: list[np.ndarray],
    calibration: dict[str, Any],
    *,
    in_datacube: bool = False,
) -> Path:
    """Write BraggVectors as py4DSTEM 0.13 does, alone or in the tree of a data cube that has the calibration."""
    vectors = "4DSTEM/datacube/braggvectors" if in_datacube else "4DSTEM/braggvectors"
    home = "4DSTEM/datacube" if in_datacube else vectors
    save_point_lists(path, shape, points)
    with h5py.File(path, "r+") as file:
        if in_datacube:
            file.create_group(home).attrs.update(emd_group_type=1, py4dstem_class="DataCube")
        group = file.create_group(vectors)
        group.attrs.update(emd_group_type=4, py4dstem_class="BraggVectors")
        file.move("4DSTEM/braggpeaks", f"{vectors}/_v_uncal")
        shape_group = group.create_group("_metadata/braggvectors")
        shape_group.attrs.update(emd_group_type=0, py4dstem_class="Metadata")
        shape_group.create_dataset("Qshape", data=(64, 64)).attrs["type"] = np.bytes_("tuple")
        items = file.create_group(f"{home}/calibration")
        items.attrs.update(emd_group_type=0, py4dstem_class="Calibration")
        for key, value in calibration.items():
            kind = {str: "string", bool: "bool", np.ndarray: "array"}.get(type(value), "number")
            stored = np.bytes_(value) if isinstance(value, str) else value
            items.create_dataset(key, data=stored).attrs["type"] = np.bytes_(kind)
    return path


def equal(first: BraggPeaks, second: BraggPeaks) -> bool:
    return first.scan == second.scan and all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("offsets", "qx", "qy", "intensity")
    )


@st.composite
def peaks_of_scans(draw: st.DrawFn, largest: int = 5) -> BraggPeaks:
    """Any BraggPeaks: small scans, empty positions and extreme values included."""
    shape = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    counts = draw(hnp.arrays(np.int64, shape[0] * shape[1], elements=st.integers(0, 5)))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    table = draw(hnp.arrays(np.float32, (3, int(offsets[-1])), elements=finite))
    scan = Scan(shape, draw(st.floats(1e-3, 1e3)), draw(st.sampled_from(["nm", "A"])), draw(st.booleans()))
    return BraggPeaks(offsets, *table, scan)
