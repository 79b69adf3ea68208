"""Reading py4DSTEM's files: equal to py4DSTEM's own answer, by raw records, without leaks."""

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import microinfer as mi
from helpers.optional import import_py4dstem
from helpers.scans import (
    PEAK,
    bragg_vectors,
    calibrated_vectors,
    equal,
    random_points,
    save_old_vectors,
    save_point_lists,
    save_vectors,
)
from microinfer._core import read_lists
from microinfer.hdf5 import InputFile
from microinfer.peaks import records
from microinfer.peaks.bragg_peaks import BraggPeaks

if TYPE_CHECKING:
    from py4DSTEM import BraggVectors

SHAPE = (3, 5)
REAL_DATA = Path(os.environ.get("MICROINFER_REAL_DATA", Path(__file__).parents[3] / "shared" / "real"))


def assert_as_py4dstem(peaks: BraggPeaks, vectors: "BraggVectors") -> None:
    for rx, ry in itertools.product(*map(range, vectors.Rshape)):
        theirs = vectors.cal[rx, ry]
        ours = peaks.pattern(rx, ry)
        assert len(ours) == len(theirs.qx)
        np.testing.assert_allclose(ours[:, 0], theirs.qx, rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(ours[:, 1], theirs.qy, rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(ours[:, 2], theirs.I, rtol=1e-6)


@st.composite
def calibrations(draw: st.DrawFn) -> dict[str, object]:
    """Setters of py4DSTEM's Calibration, those that a scan needs always among them."""
    numbers = st.floats(0.5, 40)
    maps = st.integers(0, 2**16).map(lambda seed: np.random.default_rng(seed).uniform(0.5, 40.0, SHAPE))
    values = draw(
        st.fixed_dictionaries(
            {
                "origin": st.tuples(numbers | maps, numbers | maps),
                "Q_pixel_size": st.sampled_from([1, 0.0217, np.float32(0.03)]),
            },
            optional={
                "ellipse": st.tuples(numbers | maps, numbers | maps, numbers | maps),
                "QR_rotation": st.floats(-4, 4),
                "QR_flip": st.booleans(),
                "R_pixel_size": st.floats(0.1, 10),
            },
        )
    )
    return {**values, "Q_pixel_units": "A^-1", "R_pixel_units": "nm"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calibration=calibrations(), seed=st.integers(0, 2**16))
def test_any_calibration_is_applied_as_py4dstem_does(
    tmp_path: Path, calibration: dict[str, object], seed: int
) -> None:
    points = random_points(np.random.default_rng(seed), SHAPE[0] * SHAPE[1])
    vectors = bragg_vectors(SHAPE, points, **calibration)
    path = save_vectors(tmp_path / "scan.h5", vectors)
    peaks = mi.read_peaks(path)
    step = calibration.get("R_pixel_size", 1.0)
    assert peaks.scan == mi.Scan(SHAPE, step, "nm", "QR_rotation" in calibration)
    assert np.count_nonzero(peaks.counts == 0) == 3
    assert_as_py4dstem(peaks, import_py4dstem().read(str(path)))
    assert equal(mi.BraggPeaks.from_py4dstem(vectors), peaks)
    with mi.open_peaks(path) as reader:
        for rx in range(SHAPE[0]):
            assert equal(reader.read_rows(rx, rx + 1), peaks.read_rows(rx, rx + 1))


finite = st.floats(-1e6, 1e6)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_peaks_equal_py4dstems(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    counts = data.draw(hnp.arrays(np.int64, shape[0] * shape[1], elements=st.integers(0, 4)))
    values = data.draw(hnp.arrays(np.float64, (int(counts.sum()), 3), elements=finite))
    points = [
        np.rec.fromarrays(part.T, dtype=PEAK).view(np.ndarray)
        for part in np.split(values, np.cumsum(counts)[:-1])
    ]
    path = save_vectors(
        tmp_path / "scan.h5", bragg_vectors(shape, points, origin=(0, 0), Q_pixel_units="A^-1")
    )
    peaks = mi.read_peaks(path)
    np.testing.assert_array_equal(peaks.counts, counts)
    for name, column in zip(("qx", "qy", "intensity"), values.T, strict=True):
        np.testing.assert_array_equal(getattr(peaks, name), column.astype(np.float32))


def test_pixel_size_replaces_the_files(tmp_path: Path) -> None:
    vectors = calibrated_vectors(SHAPE)
    vectors.calibration.set_Q_pixel_units("pixels")
    vectors.calibration.set_Q_pixel_size(1)
    path = save_vectors(tmp_path / "scan.h5", vectors)
    peaks = mi.read_peaks(path, pixel_size=0.03)
    vectors.calibration.set_Q_pixel_size(0.03)
    assert_as_py4dstem(peaks, vectors)


def test_name_chooses_among_several(tmp_path: Path) -> None:
    both = [calibrated_vectors(SHAPE, seed, name) for seed, name in enumerate(("first", "second"))]
    path = save_vectors(tmp_path / "scan.h5", *both)
    assert_as_py4dstem(mi.read_peaks(path, name="second"), both[1])
    with mi.open_peaks(path, name="first") as reader:
        assert reader.source.endswith("/first/_v_uncal/data")
        full_name = reader.source.removesuffix("/_v_uncal/data")
    assert_as_py4dstem(mi.read_peaks(path, name=full_name), both[0])
    with pytest.raises(ValueError, match=r"several sets of Bragg peaks; give name=.*/first, .*/second"):
        mi.open_peaks(path)
    with pytest.raises(ValueError, match=r"no Bragg peaks named 'third'.*/first, .*/second"):
        mi.open_peaks(path, name="third")


def test_description_names_what_was_found_and_applied(tmp_path: Path) -> None:
    vectors = calibrated_vectors(SHAPE)
    vectors.calibration.set_ellipse((1.0, 0.98, 0.1))
    vectors.calibration.set_QR_rotflip((np.pi / 6, True))
    with mi.open_peaks(save_vectors(tmp_path / "scan.h5", vectors)) as reader:
        description = reader.description
    assert description["format"] == "py4DSTEM BraggVectors (EMD 1.0)"
    assert description["found"]["qx0"].startswith("map (3, 5), 31.")
    assert description["found"]["Q_pixel_units"] == "A^-1"
    assert description["found"]["QR_flip"] == "True"
    assert description["applied"] == [
        "subtract the origin (qx0, qy0)",
        "undo the ellipse (a, b, theta)",
        "multiply by 0.02 1/Angstrom per pixel",
        "swap qx and qy, rotate by 30 degrees",
    ]


LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (4, 3)},
    "compressed": {"chunks": (4, 3), "compression": "gzip", "shuffle": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [PEAK, [("intensity", ">f8"), ("h", "i4"), ("qy", "f4"), ("qx", "f4")]])
def test_lists_are_those_that_h5py_reads(tmp_path: Path, dtype: object, layout: str) -> None:
    points = random_points(np.random.default_rng(1), 42)
    extra = [np.zeros(len(p), dtype) for p in points]
    for full, peaks in zip(extra, points, strict=True):
        for name in PEAK.names:
            full[name] = peaks[name]
    path = save_point_lists(tmp_path / "lists.h5", (6, 7), extra, dtype, **LAYOUTS[layout])
    with InputFile(path) as file:
        dataset = file["4DSTEM/braggpeaks/data"]
        offsets, columns = records.read_columns(file, dataset, 1, 5)
        expected = np.concatenate(dataset[1:5].ravel())
    for column, name in zip(columns, PEAK.names, strict=True):
        np.testing.assert_array_equal(column, expected[name])
    np.testing.assert_array_equal(np.diff(offsets), [len(p) for p in points[7:35]])


def test_a_filter_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = save_point_lists(
        tmp_path / "lists.h5", SHAPE, random_points(np.random.default_rng(1), 15), compression="lzf"
    )
    with pytest.raises(ValueError, match=r"lists\.h5: .*/data: it is compressed by lzf.*save it anew"):
        mi.read_peaks(path, calibrated=True)


@pytest.mark.parametrize(
    ("references", "item_bytes", "error", "message"),
    [
        ([[2, 0, 0, 0] + 12 * [0]], 8, OSError, "list 0 has 2 items but no address"),
        ([[0, 0, 1, 0, 1] + 11 * [0]], 8, OSError, "list 0 has 65536 items, more than the file can hold"),
        ([[1, 0, 0, 0, 8] + 11 * [0]], 8, OSError, "the heap collection at byte 8 does not lie in the file"),
        ([16 * [0]], 0, ValueError, "item_bytes must be at least 1, got 0"),
        ([[0, 0, 0]], 3, ValueError, r"references must have the shape \(N, 16\), got \(1, 3\)"),
        ([16 * [0.0]], 3, TypeError, "references must have dtype uint8, got float64"),
    ],
)
def test_lists_that_cannot_be_read(
    tmp_path: Path, references: list[list[float]], item_bytes: int, error: type[Exception], message: str
) -> None:
    (tmp_path / "short").write_bytes(bytes(1000))
    array = np.array(references) if error is TypeError else np.array(references, np.uint8)
    with (tmp_path / "short").open("rb") as file, pytest.raises(error, match=message):
        read_lists(file.fileno(), 0, 1000, array, item_bytes)


def test_memory_is_given_back(tmp_path: Path) -> None:
    points = [np.ones(2000, PEAK) for _ in range(64)]  # 3 MB
    path = save_point_lists(tmp_path / "lists.h5", (8, 8), points)
    with InputFile(path) as file:
        dataset = file["4DSTEM/braggpeaks/data"]
        for _ in range(5):
            records.read_columns(file, dataset, 0, 8)
        before = psutil.Process().memory_info().rss
        for _ in range(40):
            records.read_columns(file, dataset, 0, 8)
        grown = psutil.Process().memory_info().rss - before
    assert grown < 40e6  # a leak of every read would be 120 MB


def test_thousands_of_disks_at_one_position(tmp_path: Path) -> None:
    points = [np.zeros(0, PEAK), np.ones(5000, PEAK), np.zeros(0, PEAK)]
    path = save_vectors(
        tmp_path / "scan.h5", bragg_vectors((1, 3), points, origin=(0.5, 0.5), Q_pixel_units="A^-1")
    )
    peaks = mi.read_peaks(path)
    np.testing.assert_array_equal(peaks.counts, [0, 5000, 0])
    np.testing.assert_array_equal(peaks.pattern(0, 1), np.tile([0.5, 0.5, 1.0], (5000, 1)))


def test_point_lists_need_the_word_of_the_user(tmp_path: Path) -> None:
    points = random_points(np.random.default_rng(2), 15)
    path = save_point_lists(tmp_path / "lists.h5", SHAPE, points)
    with pytest.raises(ValueError, match=r"braggpeaks is a PointListArray.*calibrated=True"):
        mi.open_peaks(path)
    with pytest.raises(ValueError, match=r"braggpeaks is a PointListArray.*calibrated=True"):
        mi.open_peaks(path, pixel_size=0.1)
    peaks = mi.read_peaks(path, calibrated=True)
    assert peaks.scan == mi.Scan(SHAPE)
    for n, expected in enumerate(points):
        np.testing.assert_array_equal(
            peaks.pattern(*divmod(n, 5)), np.stack([expected[k] for k in PEAK.names], 1).astype(np.float32)
        )


def old_calibration(**items: object) -> dict[str, object]:
    maps = np.random.default_rng(8).uniform(30, 34, (2, *SHAPE))
    common = {"qx0": maps[0], "qy0": maps[1], "Q_pixel_size": 0.02, "Q_pixel_units": "A^-1"}
    return {**common, "R_pixel_size": 1, "R_pixel_units": "pixels", **items}


@pytest.mark.filterwarnings("ignore")  # py4DSTEM's own
@pytest.mark.parametrize("in_datacube", [False, True])
@pytest.mark.parametrize("flip", [None, True])
def test_vectors_of_py4dstem_0_13(tmp_path: Path, in_datacube: bool, flip: bool | None) -> None:
    calibration = old_calibration(a=1.03, b=0.97, theta=0.4)
    if flip:
        calibration |= {"QR_rotation_degrees": 0, "QR_flip": True}
    points = random_points(np.random.default_rng(7), SHAPE[0] * SHAPE[1])
    path = save_old_vectors(tmp_path / "old.h5", SHAPE, points, calibration, in_datacube=in_datacube)
    peaks = mi.read_peaks(path)
    assert peaks.n_peaks == sum(map(len, points)) > 0
    assert peaks.qr_calibrated == bool(flip)
    with mi.open_peaks(path) as reader:
        assert reader.description["format"] == "py4DSTEM BraggVectors (version 0.13)"

    vectors = import_py4dstem().read(str(path), datapath=f"4DSTEM{'/datacube' * in_datacube}/braggvectors")
    assert equal(BraggPeaks.from_py4dstem(vectors), peaks)
    if flip:  # py4DSTEM 0.14 does not take over the rotation of 0.13
        vectors.calibration.set_QR_rotation(0.0)
    for rx, ry in itertools.product(*map(range, SHAPE)):
        theirs = vectors.get_vectors(rx, ry, center=True, ellipse=True, pixel=True, rotate=bool(flip))
        expected = np.stack([theirs.qx, theirs.qy, theirs.I], axis=1)
        np.testing.assert_allclose(peaks.pattern(rx, ry), expected, rtol=1e-6, atol=1e-6)


def test_a_rotation_of_py4dstem_0_13_is_not_guessed(tmp_path: Path) -> None:
    points = random_points(np.random.default_rng(7), SHAPE[0] * SHAPE[1])
    calibration = old_calibration(QR_rotation_degrees=20.0, QR_flip=False)
    path = save_old_vectors(tmp_path / "old.h5", SHAPE, points, calibration)
    message = r"braggvectors/calibration: calibration QR_rotation_degrees is 20 without a QR_rotation"
    with pytest.raises(ValueError, match=rf"old\.h5: .*{message}.*Open the file in py4DSTEM 0\.14"):
        mi.open_peaks(path)


def test_vectors_of_py4dstem_0_13_without_calibration(tmp_path: Path) -> None:
    path = save_old_vectors(tmp_path / "old.h5", SHAPE, random_points(np.random.default_rng(7), 15), {})
    with pytest.raises(ValueError, match=r"no origin \(qx0 and qy0\)"):
        mi.open_peaks(path)
    with h5py.File(path, "r+") as file:
        del file["4DSTEM/braggvectors/calibration"]
    with pytest.raises(
        ValueError, match=r"no calibration of /4DSTEM/braggvectors.*above the peaks \(0\.13\)"
    ):
        mi.open_peaks(path)


@pytest.mark.skipif(not (REAL_DATA / "braggdisks_cali.h5").exists(), reason="needs the real scan")
def test_real_scan_of_py4dstem_0_13() -> None:
    peaks = mi.read_peaks(REAL_DATA / "braggdisks_cali.h5", calibrated=True)
    assert peaks.scan_shape == (80, 58)
    assert peaks.n_peaks == 121390
    assert (peaks.counts.min(), peaks.counts.max()) == (1, 70)
    with h5py.File(REAL_DATA / "braggdisks_cali.h5") as file:
        expected = file["4DSTEM/braggpeaks_cal_raw/data"][40, 30]
    np.testing.assert_array_equal(peaks.pattern(40, 30)[:, 0], expected["qx"].astype(np.float32))
    assert np.hypot(*peaks.pattern(40, 30)[0, :2]) < 0.01  # the direct beam lies at the centre
