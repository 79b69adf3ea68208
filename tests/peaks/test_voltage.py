"""The accelerating voltage: from a file's metadata, or given, kept in native files, and what milliradians need."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import microinfer as mi
from helpers.optional import needs_py4dstem
from helpers.scans import calibrated_vectors, equal, random_points, save_old_vectors, save_vectors
from microinfer.crystals.diffraction import electron_wavelength
from microinfer.peaks.metadata import find_phases, find_voltage

SHAPE = (3, 4)
CALIBRATION = {"qx0": 32.0, "qy0": 32.0, "Q_pixel_size": 0.5, "Q_pixel_units": "mrad"}


def old_file(path: Path, **calibration: Any) -> Path:
    """A file of py4DSTEM 0.13, which h5py can write alone."""
    points = random_points(np.random.default_rng(1), SHAPE[0] * SHAPE[1])
    return save_old_vectors(path, SHAPE, points, CALIBRATION | calibration)


def state(path: Path, **entries: Any) -> Path:
    """Put entries into the metadata of the file's root, as py4DSTEM's `Metadata` named microscope are."""
    with h5py.File(path, "r+") as file:
        group = file["4DSTEM"].create_group("metadatabundle/microscope")
        for name, value in entries.items():
            group.create_dataset(name, data=value)
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accelerating_voltage", 200e3),
        ("accelerating_voltage", 200),
        ("voltage_kV", 200.0),
        ("Accelerating Voltage (V)", 200000),
        ("beam_energy", np.float32(200e3)),
        ("Beam energy (keV)", 200),
        ("Microscope Voltage", b"200 kV"),
        ("HT", "200000 V"),
    ],
)
def test_the_voltage_is_found_by_its_names(name: str, value: Any) -> None:
    assert find_voltage([("camera_length", 0.3), (name, value)]) == pytest.approx(200e3)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [("gun_voltage_offset", 200)],
        [("voltage", "_None")],
        [("voltage", 3.5)],
        [("extraction_voltage", 4500)],
        [("voltage", True)],
        [("voltage", 200e3), ("beam_energy", 300e3)],
    ],
)
def test_what_is_no_voltage_or_several_is_none(entries: list[tuple[str, Any]]) -> None:
    assert find_voltage(entries) is None


def test_phases_are_found_by_their_names() -> None:
    assert find_phases([("sample", "x"), ("phase", "Cu")]) == ("Cu",)
    assert find_phases([("Crystal phases", b"Cu, Cu2O")]) == ("Cu", "Cu2O")
    assert find_phases([("phase_shift", 0.3), ("phase", "_None")]) == ()


def test_a_file_says_its_voltage_and_phases(tmp_path: Path) -> None:
    path = state(old_file(tmp_path / "scan.h5"), accelerating_voltage=200e3, phase="Cu")
    with mi.open_peaks(path) as reader:
        assert reader.voltage == pytest.approx(200e3)
        assert reader.phases == ("Cu",)
    assert mi.read_peaks(path).scan.voltage == pytest.approx(200e3)


@pytest.mark.parametrize("given", [200, 200e3, "200 kV"])
def test_milliradians_need_the_voltage_and_become_inverse_angstrom(
    tmp_path: Path, given: float | str
) -> None:
    path = old_file(tmp_path / "scan.h5")
    with pytest.raises(ValueError, match=r"'mrad'.*give voltage=.*--voltage.*pixel_size"):
        mi.open_peaks(path)
    peaks = mi.read_peaks(path, voltage=given)
    size = 0.5e-3 / electron_wavelength(200e3)
    assert size == pytest.approx(0.01994, abs=1e-5)
    expected = mi.read_peaks(
        old_file(tmp_path / "same.h5", Q_pixel_size=size, Q_pixel_units="A^-1"), voltage=given
    )
    np.testing.assert_allclose(peaks.qx, expected.qx, rtol=1e-6)
    assert peaks.scan == expected.scan
    with mi.open_peaks(path, voltage=given) as reader:
        assert reader.pixel_size == pytest.approx(size)
    stated = state(old_file(tmp_path / "stated.h5"), voltage=200)
    np.testing.assert_array_equal(mi.read_peaks(stated).qx, peaks.qx)


def test_what_is_given_counts_and_a_contradiction_is_said(tmp_path: Path) -> None:
    path = state(old_file(tmp_path / "scan.h5"), voltage=300e3)
    with pytest.warns(UserWarning, match=r"the file says .* 300 kV; 200 kV was given and is taken"):
        assert mi.read_peaks(path, voltage=200).scan.voltage == pytest.approx(200e3)
    assert mi.read_peaks(path, voltage=298).scan.voltage == pytest.approx(298e3)  # within 2 %: no warning
    with pytest.raises(ValueError, match=r"kilovolts.*got '200 V'"):
        mi.read_peaks(path, voltage="200 V")


def test_a_native_file_keeps_the_voltage_and_older_ones_have_none(tmp_path: Path) -> None:
    peaks = mi.read_peaks(old_file(tmp_path / "scan.h5"), voltage=200)
    peaks.save(tmp_path / "peaks.h5")
    assert equal(mi.read_peaks(tmp_path / "peaks.h5"), peaks)
    with h5py.File(tmp_path / "peaks.h5", "r+") as file:
        assert file.attrs["voltage"] == pytest.approx(200e3)
        del file.attrs["voltage"]
    assert mi.read_peaks(tmp_path / "peaks.h5").voltage is None
    assert mi.read_peaks(tmp_path / "peaks.h5", voltage=80).voltage == pytest.approx(80e3)


def test_a_scan_takes_kilovolts_too() -> None:
    assert mi.Scan((2, 3), voltage=200).voltage == pytest.approx(200e3)
    with pytest.raises(ValueError, match="accelerating voltage"):
        mi.Scan((2, 3), voltage=1.0)


@needs_py4dstem
def test_metadata_that_py4dstem_writes(tmp_path: Path) -> None:
    from emdfile import Metadata

    vectors = calibrated_vectors(SHAPE)
    microscope = Metadata(name="microscope")
    microscope["accelerating_voltage"] = 200e3
    vectors.metadata = microscope
    from_file = mi.read_peaks(save_vectors(tmp_path / "scan.h5", vectors))
    assert from_file.scan.voltage == pytest.approx(200e3)
    assert equal(mi.BraggPeaks.from_py4dstem(vectors), from_file)
