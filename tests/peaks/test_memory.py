"""BraggVectors in memory: the same peaks and maps as from their file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import microinfer as mi
from helpers.optional import import_py4dstem
from helpers.scans import bragg_vectors, calibrated_vectors, equal, random_points, save_vectors
from microinfer.mapping import map_to_file

BraggVectors = import_py4dstem().BraggVectors

SHAPE = (3, 5)


def test_what_setcal_switched_off_is_applied_as_from_a_file(tmp_path: Path) -> None:
    vectors = calibrated_vectors(SHAPE)
    vectors.calibration.set_QR_rotflip((0.4, True))
    vectors.setcal(center=False, pixel=False, rotate=False)
    assert equal(
        mi.BraggPeaks.from_py4dstem(vectors), mi.read_peaks(save_vectors(tmp_path / "scan.h5", vectors))
    )


def test_the_vectors_stay_as_they_are() -> None:
    vectors = calibrated_vectors(SHAPE)
    before = vectors.raw[0, 1].data.copy()
    mi.BraggPeaks.from_py4dstem(vectors)
    np.testing.assert_array_equal(vectors.raw[0, 1].data, before)


def test_vectors_are_mapped_as_their_file(tmp_path: Path, small_model: object) -> None:
    rng = np.random.default_rng(3)
    points = random_points(rng, SHAPE[0] * SHAPE[1], most=20)
    vectors = bragg_vectors(SHAPE, points, origin=(32, 32), Q_pixel_size=0.04, Q_pixel_units="A^-1")
    expected = mi.map_orientations(
        save_vectors(tmp_path / "scan.h5", vectors), small_model, device="cpu", check=False
    )
    assert expected.valid.any()
    map_to_file(vectors, small_model, tmp_path / "map.h5", device="cpu", check=False)
    for omap in (
        mi.map_orientations(vectors, small_model, device="cpu", check=False),
        mi.load_map(tmp_path / "map.h5"),
    ):
        for name in ("matrix", "valid", "confidence", "score"):
            np.testing.assert_array_equal(getattr(omap, name), getattr(expected, name))


def without(*keys: str) -> BraggVectors:
    vectors = calibrated_vectors(SHAPE, name="disks")
    for key in keys:
        del vectors.calibration._params[key]
    return vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (without("qx0", "qy0"), r"no origin \(qx0 and qy0\): find the origin in py4DSTEM"),
        (without("Q_pixel_units"), r"Q_pixel_units must be 'A\^-1' or 'mrad', got None: give pixel_size="),
    ],
)
def test_missing_calibration_is_named_as_of_a_file(
    vectors: BraggVectors, message: str, small_model: object
) -> None:
    with pytest.raises(ValueError, match=f"BraggVectors 'disks': .*{message}"):
        mi.BraggPeaks.from_py4dstem(vectors)
    with pytest.raises(ValueError, match=message):
        mi.map_orientations(vectors, small_model)


def test_vectors_without_any_calibration() -> None:
    vectors = calibrated_vectors(SHAPE, name="disks")
    del vectors.root.metadata["calibration"]
    with (
        pytest.warns(UserWarning, match="No calibration metadata"),
        pytest.raises(ValueError, match="BraggVectors 'disks': there is no calibration"),
    ):
        mi.BraggPeaks.from_py4dstem(vectors)


def test_pixel_size_replaces_that_of_the_calibration(tmp_path: Path) -> None:
    vectors = without("Q_pixel_units")
    peaks = mi.BraggPeaks.from_py4dstem(vectors, pixel_size=0.03)
    assert equal(peaks, mi.read_peaks(save_vectors(tmp_path / "scan.h5", vectors), pixel_size=0.03))
    with pytest.raises(ValueError, match=r"pixel_size \(--pixel-size\) must be a positive number, .* got 0"):
        mi.BraggPeaks.from_py4dstem(vectors, pixel_size=0)


@pytest.mark.parametrize("scan", [None, np.zeros((3, 4)), calibrated_vectors(SHAPE)._v_uncal])
def test_other_objects_are_refused(scan: object, small_model: object) -> None:
    kind = type(scan).__name__
    with pytest.raises(TypeError, match=f"peaks must be BraggPeaks, .* or a path, got .*{kind}"):
        mi.map_orientations(scan, small_model)
    with pytest.raises(TypeError, match=f"vectors must be BraggVectors of py4DSTEM 0.14, got .*{kind}"):
        mi.BraggPeaks.from_py4dstem(scan)


def test_py4dstem_is_not_imported() -> None:
    code = "import sys, microinfer.mapping, microinfer.peaks; sys.exit('py4DSTEM' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
