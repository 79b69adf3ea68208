"""Peaks in pixels with their calibration in native files: round trips, what is applied, what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import microinfer as mi
from helpers.scans import PEAK, calibrated_vectors, equal, save_old_vectors, save_vectors
from microinfer.peaks import BraggPeaks, PeakWriter, Scan, convert_peaks, open_peaks
from microinfer.peaks.pixels import PixelCalibration

ROWS, COLUMNS = 5, 7
RNG = np.random.default_rng(5)
MAPS = (RNG.uniform(-2, 2, (ROWS, COLUMNS)), RNG.uniform(60, 62, (ROWS, COLUMNS)))
FULL = PixelCalibration(
    0.0213,
    2e-5,
    (1.03, 1.0, 0.4),
    MAPS,
    0.3,
    True,
    {"pixel_size": "measured", "ellipse": "given", "origin": "file", "rotation": "file"},
    "on the rings of Cu",
)
BARE = PixelCalibration(0.02)


@pytest.fixture
def scan() -> BraggPeaks:
    patterns = [RNG.uniform(-60, 60, (n % 6, 3)) for n in range(ROWS * COLUMNS)]
    return BraggPeaks.from_patterns(patterns, Scan((ROWS, COLUMNS), 2.5, "nm", voltage=200e3))


def write(path: Path, peaks: BraggPeaks, calibration: PixelCalibration) -> Path:
    with PeakWriter(path, peaks.scan, calibration=calibration) as writer:
        writer.write_rows(peaks)
    return path


def same(first: PixelCalibration, second: PixelCalibration) -> bool:
    names = ("pixel_size", "pixel_size_error", "ellipse", "rotation", "flip", "note")
    maps = [
        np.array_equal(np.asarray(one), np.asarray(other))
        for one, other in zip(first.origin or (), second.origin or (), strict=True)
    ]
    return (
        all(getattr(first, name) == getattr(second, name) for name in names)
        and dict(first.sources) == dict(second.sources)
        and all(maps)
    )


@pytest.mark.parametrize("calibration", [FULL, BARE, PixelCalibration(), PixelCalibration(0.1, origin=None)])
def test_the_calibration_is_kept(tmp_path: Path, scan: BraggPeaks, calibration: PixelCalibration) -> None:
    path = write(tmp_path / "peaks.h5", scan, calibration)
    with open_peaks(path, in_pixels=True) as reader:
        assert same(reader.known, calibration)
        assert equal(replace_scan(reader.read_rows(0, ROWS), scan.scan), scan)
        assert reader.description["found"] == calibration.describe()


def replace_scan(peaks: BraggPeaks, scan: Scan) -> BraggPeaks:
    return BraggPeaks(peaks.offsets, peaks.qx, peaks.qy, peaks.intensity, scan)


@pytest.mark.parametrize("ellipse", [None, (1.03, 1.0, 0.4), (0.9, 1.1, -2.0)])
@pytest.mark.parametrize(("rotation", "flip"), [(None, False), (None, True), (-0.7, False), (2.5, True)])
def test_what_is_applied_is_what_py4dstem_applies(
    tmp_path: Path,
    scan: BraggPeaks,
    ellipse: tuple[float, float, float] | None,
    rotation: float | None,
    flip: bool,
) -> None:
    """A file of py4DSTEM with the same values gives the same peaks."""
    calibration = PixelCalibration(0.03, None, ellipse, (0.25, -0.5), rotation, flip)
    points = []
    for n in range(len(scan)):
        pattern = scan.pattern(*divmod(n, COLUMNS))
        peaks = np.zeros(len(pattern), PEAK)
        peaks["qx"], peaks["qy"], peaks["intensity"] = pattern.T
        points.append(peaks)
    items = {key: value for key, value in calibration.items().items() if value is not None}
    save_old_vectors(tmp_path / "raw.h5", scan.scan_shape, points, items)
    expected = mi.read_peaks(tmp_path / "raw.h5")
    found = mi.read_peaks(write(tmp_path / "peaks.h5", scan, calibration))
    assert found.qr_calibrated == expected.qr_calibrated == (rotation is not None)
    assert np.array_equal(found.qx, expected.qx)
    assert np.array_equal(found.qy, expected.qy)


def test_maps_of_the_origin_are_applied_block_by_block(tmp_path: Path, scan: BraggPeaks) -> None:
    path = write(tmp_path / "peaks.h5", scan, replace(FULL, ellipse=None, rotation=None, flip=False))
    x, y = (np.repeat(values.ravel(), scan.counts) for values in MAPS)
    with open_peaks(path) as reader:
        blocks = [reader.read_rows(start, min(start + 2, ROWS)) for start in range(0, ROWS, 2)]
        assert reader.pixel_size == 0.0213
    qx, qy = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("qx", "qy"))
    np.testing.assert_allclose(qx, (scan.qx.astype(np.float64) - x) * 0.0213, rtol=1e-6)
    np.testing.assert_allclose(qy, (scan.qy.astype(np.float64) - y) * 0.0213, rtol=1e-6)


def test_a_copy_is_calibrated(tmp_path: Path, scan: BraggPeaks) -> None:
    path = write(tmp_path / "peaks.h5", scan, FULL)
    with open_peaks(path) as reader:
        convert_peaks(reader, tmp_path / "copy.h5")
    assert equal(mi.read_peaks(tmp_path / "copy.h5"), mi.read_peaks(path))
    with open_peaks(tmp_path / "copy.h5", in_pixels=True) as reader:
        assert reader.known.pixel_size == 1.0


def test_without_a_pixel_size_the_way_out_is_said(tmp_path: Path, scan: BraggPeaks) -> None:
    path = write(tmp_path / "peaks.h5", scan, PixelCalibration())
    with pytest.raises(ValueError, match=r"peaks\.h5: .*--pixel-size.*microinfer calibrate") as caught:
        mi.read_peaks(path)
    assert "not known" in str(caught.value)
    given = mi.read_peaks(path, pixel_size=0.02)
    assert equal(given, mi.read_peaks(write(tmp_path / "other.h5", scan, BARE)))
    with open_peaks(path, pixel_size=0.02) as reader:
        assert "0.02 1/Angstrom (given)" in reader.description["found"]["pixel size"]
    with pytest.raises(ValueError, match="the direct beam lies is not known"):
        mi.read_peaks(write(path, scan, PixelCalibration(0.02, origin=None)))
    with pytest.raises(ValueError, match="calibrated=True does not fit"):
        mi.read_peaks(path, calibrated=True)


def test_peaks_in_pixels_that_lost_their_calibration_are_refused(tmp_path: Path, scan: BraggPeaks) -> None:
    path = tmp_path / "peaks.h5"
    with PeakWriter(path, scan.scan, calibration=PixelCalibration(0.02)) as writer:
        writer.write_rows(scan)
    with h5py.File(path, "r+") as file:
        del file["calibration"]
    with pytest.raises(ValueError, match="its peaks are in pixels, and the group calibration"):
        mi.read_peaks(path)


def test_files_of_version_2_load(tmp_path: Path, scan: BraggPeaks) -> None:
    scan.save(tmp_path / "peaks.h5")
    with h5py.File(tmp_path / "peaks.h5", "r+") as file:
        assert set(file) == {"offsets", "qx", "qy", "intensity"}
        file.attrs["format_version"] = 2
    assert equal(mi.read_peaks(tmp_path / "peaks.h5"), scan)


def set_attribute(name: str, value: object) -> Callable[[h5py.Group], None]:
    return lambda group: group.attrs.__setitem__(name, value)


def shorten(group: h5py.Group) -> None:
    del group["qx0"]
    group["qx0"] = np.zeros((ROWS - 1, COLUMNS))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_attribute("Q_pixel_size", -1.0), "pixel_size must be a positive number"),
        (set_attribute("Q_pixel_size", "wide"), "Q_pixel_size of /calibration must be a number"),
        (set_attribute("Q_pixel_size_error", np.nan), "pixel_size_error must be a positive number"),
        (set_attribute("a", 0.0), "ellipse must be two positive semi-axes"),
        (set_attribute("QR_flip", 3.0), "QR_flip of /calibration must be true or false"),
        (set_attribute("origin_source", "a guess"), "origin_source of /calibration must be one of file"),
        (
            lambda group: group["qx0"].__setitem__((1, 2), np.nan),
            r"qx0 must be finite, got nan at .*\(1, 2\)",
        ),
        (shorten, r"qx0 must be a number or a map of shape \(5, 7\)"),
    ],
)
def test_malformed_calibrations_are_refused(
    tmp_path: Path, scan: BraggPeaks, edit: Callable[[h5py.Group], None], message: str
) -> None:
    path = write(tmp_path / "peaks.h5", scan, FULL)
    with h5py.File(path, "r+") as file:
        edit(file["calibration"])
    with pytest.raises(ValueError, match=message) as caught:
        mi.read_peaks(path)
    assert str(path) in str(caught.value)


def test_a_flipped_bit_in_a_map_is_found(tmp_path: Path, scan: BraggPeaks) -> None:
    path = write(tmp_path / "peaks.h5", scan, FULL)
    with h5py.File(path) as file:
        place = file["calibration/qy0"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"peaks\.h5 is damaged"):
        mi.read_peaks(path)


def test_vectors_of_py4dstem_are_read_in_pixels(tmp_path: Path) -> None:
    vectors = calibrated_vectors((3, 4))
    path = save_vectors(tmp_path / "raw.h5", vectors)
    with open_peaks(path, in_pixels=True) as reader:
        pixels = reader.read_rows(0, 3)
        known = reader.known
    assert known.pixel_size == 0.02
    assert known.sources == {"pixel_size": "file", "origin": "file"}
    write(tmp_path / "peaks.h5", pixels, known)
    assert np.allclose(mi.read_peaks(tmp_path / "peaks.h5").qx, mi.read_peaks(path).qx, atol=1e-6)
