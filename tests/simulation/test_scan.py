"""Synthetic 4D-STEM scans against their own truth, py4DSTEM and statistics."""

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.optional import import_py4dstem, needs_py4dstem
from microinfer.cli import app
from microinfer.crystals.diffraction import electron_wavelength
from microinfer.crystals.symmetry import misorientation
from microinfer.peaks.calibration import Calibration
from microinfer.simulation import load_scan_settings, simulate_scan
from microinfer.simulation.scan import ScanSettings, load_truth, write_scan
from microinfer.simulation.scan.settings import CameraConfig, ProbeConfig, ScanPhase, shipped_scans

TABLES = {
    "phases": [{"structure": "Cu"}, {"structure": "Cu2O"}],
    "seed": 3,
    "scan": {"shape": [9, 11]},
    "grains": {"count": 4, "bending": 0.5, "overlap": 2.0, "vacuum": 0.2, "thickness_nm": [8.0, 20.0]},
    "diffraction": {"k_max": 0.9},
    "probe": {"convergence_angle": 1.5, "dose": 1e4},
    "background": {"amorphous": 0.1, "diffuse": 0.1},
    "camera": {"shape": [96, 100], "pixel_size": 0.026},
    "calibration": {"centre": [47.3, 50.2], "drift": [2.0, -1.0], "jitter": 0.3},
}


def settings(**sections) -> ScanSettings:
    """The scan of these tests, with other entries in some tables."""
    tables = {name: {**TABLES[name], **entries} for name, entries in sections.items()}
    return ScanSettings.from_dict({**TABLES, **tables})


def only_copper(given):
    return dataclasses.replace(given, phases=given.phases[:1])


@pytest.fixture(scope="module")
def scan():
    import_py4dstem()
    return simulate_scan(settings(), processes=1)


@pytest.fixture(scope="module")
def sharp(scan):
    """The same crystals without background, drift and jitter."""
    plain = ScanSettings(scan.settings.phases)
    return scan.seen_with(background=plain.background, calibration=plain.calibration)


def pixels(scan):
    """True peaks on the detector: position, (qx, qy) in pixels, electrons."""
    peaks, config = scan.true_peaks, scan.settings
    calibration = config.calibration
    position = np.repeat(np.arange(len(peaks)), peaks.counts)
    angle = np.radians(calibration.ellipse_angle)
    along = np.array([np.cos(angle), np.sin(angle)])
    ellipse = np.eye(2) + (calibration.ellipse - 1.0) * np.outer(along, along)
    at = np.stack([peaks.qx, peaks.qy], axis=-1) / config.camera.pixel_size @ ellipse
    return position, scan.truth.origin.reshape(-1, 2)[position] + at, peaks.intensity


def test_disks_lie_where_the_truth_says(sharp):
    ellipse = dataclasses.replace(sharp.settings.calibration, ellipse=1.1, ellipse_angle=30.0, jitter=0.4)
    for scan in (sharp, sharp.seen_with(calibration=ellipse)):
        frames = scan.mean_rows(0, 9).reshape(99, 96, 100)
        position, at, electrons = pixels(scan)
        reach = int(np.ceil(1.1 * scan.disk_radius)) + 5
        tested = 0
        for n, place, count in zip(position, at, electrons, strict=True):
            others = np.linalg.norm(at[position == n] - place, axis=1)
            corner = np.rint(place).astype(int) - reach
            inside = np.all((corner >= 0) & (corner + 2 * reach < (96, 100)))
            if np.sort(others)[1] < 2 * reach + 2 if len(others) > 1 else False:
                continue
            if not inside:
                continue
            window = frames[n][corner[0] : corner[0] + 2 * reach + 1, corner[1] : corner[1] + 2 * reach + 1]
            grid = np.stack(np.indices(window.shape), axis=-1) + corner
            centroid = (window[..., None] * grid).sum(axis=(0, 1)) / window.sum()
            np.testing.assert_allclose(centroid, place, atol=0.01)
            np.testing.assert_allclose(window.sum(), count, rtol=1e-4)
            tested += 1
        assert tested > 50


def test_disks_have_the_radius_of_the_convergence_angle(sharp):
    q = 1.5e-3 / electron_wavelength(300e3)
    np.testing.assert_allclose(sharp.disk_radius, q / 0.026)
    n = int(np.flatnonzero(sharp.truth.vacuum.ravel())[0])
    beam = sharp.mean_rows(0, 9).reshape(99, 96, 100)[n]
    assert np.count_nonzero(beam > 0.5 * beam.max()) == pytest.approx(np.pi * sharp.disk_radius**2, rel=0.15)


def test_frames_hold_the_dose(scan, sharp):
    for source in (scan, sharp):
        total = source.mean_rows(0, 9).sum(axis=(2, 3))
        assert np.all(total < 10_010)
        vacuum = source.truth.vacuum
        np.testing.assert_allclose(total[vacuum], 1e4, rtol=2e-3)  # the background is cut off elsewhere
        assert total.min() > 0.97 * 1e4  # some disks lie beyond the camera
    np.testing.assert_allclose(sharp.true_peaks.pattern(0, 0), [[0.0, 0.0, 1e4]], atol=1e-2)


def test_noise_is_that_of_counted_electrons(scan):
    mean = scan.mean_rows(0, 9)
    frames = scan.read_rows(0, 9)
    assert frames.dtype == np.uint16
    deviation = (frames - mean) / np.sqrt(np.maximum(mean, 1e-12))
    for low, high in ((0.05, 0.5), (0.5, 5.0), (5.0, 1e6)):
        chosen = deviation[(mean > low) & (mean < high)]
        assert len(chosen) > 500
        assert abs(chosen.mean()) < 5 / np.sqrt(len(chosen))
        assert chosen.var() == pytest.approx(1.0, abs=0.12)


def test_integrating_cameras_have_gain_read_noise_and_spread(scan):
    camera = dataclasses.replace(
        scan.settings.camera, kind="integrating", gain=20.0, read_noise=3.0, point_spread=0.8
    )
    seen = scan.seen_with(camera=camera)
    frames, mean = seen.read_rows(0, 9), scan.mean_rows(0, 9)
    assert frames.dtype == np.float32
    assert frames.mean() == pytest.approx(20.0 * mean.mean(), rel=0.02)
    faint = mean < np.quantile(mean, 0.02)
    assert frames[faint].std() == pytest.approx(
        np.hypot(3.0, 20.0 * 0.4 * np.sqrt(mean[faint].mean())), rel=0.35
    )
    counted = scan.seen_with(camera=dataclasses.replace(scan.settings.camera, point_spread=0.8))
    assert neighbours(frames / 20.0, mean) > 0.3
    assert abs(neighbours(counted.read_rows(0, 9), counted.mean_rows(0, 9))) < 0.01


def neighbours(frames, mean):
    """Correlation of the noise of neighbouring pixels."""
    noise = (frames - mean) / np.sqrt(mean + 0.1)
    return np.corrcoef(noise[..., :-1].ravel(), noise[..., 1:].ravel())[0, 1]


def test_faults_of_the_camera(scan):
    faults = dataclasses.replace(
        scan.settings.camera, hot_pixels=4, dead_pixels=6, beam_stop=5.0, gain_variation=0.1
    )
    seen = scan.seen_with(camera=faults)
    frames = seen.read_rows(0, 9)
    total = frames.sum(axis=(0, 1))
    assert seen.bad_pixels.sum() == 10
    hot = seen.bad_pixels & (total > 99 * 80)
    assert hot.sum() == 4
    assert np.all(total[seen.bad_pixels & ~hot] == 0)
    stopped = np.hypot(*(np.indices(total.shape) - np.array([48, 50])[:, None, None])) < 4.5
    assert np.all(total[stopped & ~hot] == 0)
    assert np.all(total[48, :50][~hot[48, :50]] == 0)
    assert np.all(total[48, 60:].sum() > 0)


def test_the_seed_makes_the_scan(scan):
    again = simulate_scan(settings(), processes=1)
    np.testing.assert_array_equal(again.read_rows(0, 9), scan.read_rows(0, 9))
    for name in ("grain", "orientation", "thickness", "origin"):
        np.testing.assert_array_equal(getattr(again.truth, name), getattr(scan.truth, name))
    other = simulate_scan(only_copper(dataclasses.replace(settings(), seed=4)), processes=1)
    assert not np.allclose(other.truth.orientation, scan.truth.orientation, equal_nan=True)
    assert np.mean(other.read_rows(0, 9) != scan.read_rows(0, 9)) > 0.1


def test_blocks_do_not_change_the_scan(scan):
    whole = scan.read_rows(0, 9)
    peaks = scan.true_peaks
    for start, stop in ((0, 1), (3, 5), (8, 9)):
        np.testing.assert_array_equal(scan.read_rows(start, stop), whole[start:stop])
        some, part = scan.true_peak_rows(start, stop), peaks.read_rows(start, stop)
        for name in ("offsets", "qx", "qy", "intensity"):
            np.testing.assert_array_equal(getattr(some, name), getattr(part, name))
        np.testing.assert_array_equal(scan.truth_rows(start, stop).origin, scan.truth.origin[start:stop])
    np.testing.assert_array_equal(np.concatenate(list(scan.blocks())), whole)


def test_true_peaks_are_the_reflections_of_the_true_crystals(scan):
    truth, peaks = scan.truth, scan.true_peaks
    assert truth.overlap.any()
    for rx, ry in np.ndindex(scan.scan_shape):
        expected = [np.zeros((1, 2))]
        for crystal in (0, 1):
            phase = truth.phase[rx, ry, crystal]
            if phase >= 0:
                lattice = scan.phases[phase]
                g = lattice.reflections[:, :3] @ lattice.reciprocal
                expected.append((g @ truth.orientation[rx, ry, crystal])[:, :2])
        near = np.linalg.norm(peaks.pattern(rx, ry)[:, None, :2] - np.concatenate(expected), axis=-1).min(
            axis=1
        )
        assert near.max() < 1e-4
        assert (peaks.counts.reshape(scan.scan_shape)[rx, ry] > 1) == (truth.phase[rx, ry, 0] >= 0)


def test_grains_are_bent_overlap_and_are_bounded_by_vacuum(scan):
    truth = scan.truth
    assert truth.vacuum.mean() == pytest.approx(0.2, abs=0.05)
    assert truth.vacuum[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert np.isnan(truth.orientation[truth.vacuum]).all()
    for grain in range(4):
        rows = truth.grain[..., 0] == grain
        angles = np.degrees(
            misorientation(
                truth.orientation[rows].reshape(-1, 2, 3, 3)[:, 0],
                np.broadcast_to(truth.orientation[rows][0, 0], (rows.sum(), 3, 3)),
                np.eye(3)[None],
            )
        )
        assert angles.max() <= 0.5 + 1e-3
        bends = truth.bend[rows][:, 0]
        np.testing.assert_allclose(angles, np.abs(bends - bends[0]), atol=2e-3)
    assert sorted(np.unique(truth.phase[..., 0])) == [-1, 0, 1]
    channels = simulate_scan(settings(grains={"overlap": 0.0, "channel": 2.0, "vacuum": 0.0}), processes=1)
    assert channels.truth.vacuum.any()
    assert not channels.truth.overlap.any()


def test_thickness_rises_along_a_wedge_whoever_solves_it():
    import_py4dstem()
    grains = {"thickness": "wedge", "vacuum": 0.0, "overlap": 0.0, "count": 1}
    wedge = simulate_scan(only_copper(settings(grains=grains)), processes=1)
    thickness = wedge.truth.thickness[..., 0]
    np.testing.assert_allclose(
        thickness, np.broadcast_to(np.linspace(80.0, 200.0, 9)[:, None], (9, 11)), rtol=1e-6
    )
    direct = wedge.true_peaks.intensity[wedge.true_peaks.offsets[:-1]].reshape(9, 11)
    diffracted = 8e3 - direct[:, 0]
    assert np.ptp(diffracted) > 0.1 * diffracted.max()
    by_a_worker = simulate_scan(wedge.settings, processes=2)
    np.testing.assert_array_equal(by_a_worker.read_rows(2, 4), wedge.read_rows(2, 4))


def test_two_crystals_share_the_electrons(scan):
    truth, peaks = scan.truth, scan.true_peaks
    total = np.add.reduceat(peaks.intensity, peaks.offsets[:-1])
    np.testing.assert_allclose(total, 8e3, rtol=0.03)  # the rest is background, or lies beyond the camera
    both = truth.overlap
    parts = truth.thickness[both]
    assert np.all(parts[:, 0] > 0)
    assert np.all(parts[:, 1] > 0)


def test_files_are_read_by_py4dstem_and_by_microinfer(scan, tmp_path):
    py4dstem = import_py4dstem()
    written = write_scan(scan, tmp_path / "scan", compress=True)
    cube = py4dstem.read(str(written.files.frames))
    np.testing.assert_array_equal(cube.data, scan.read_rows(0, 9))
    assert cube.calibration.get_Q_pixel_size() == 0.026
    assert cube.calibration.get_Q_pixel_units() == "A^-1"
    assert (cube.calibration.get_R_pixel_size(), cube.calibration.get_R_pixel_units()) == (2.0, "nm")
    peaks = mi.read_peaks(written.files.peaks)
    assert peaks.voltage == 300e3
    for name in ("offsets", "qx", "qy", "intensity"):
        np.testing.assert_array_equal(getattr(peaks, name), getattr(scan.true_peaks, name))
    truth = load_truth(written.files.truth)
    for name in ("grain", "phase", "orientation", "thickness", "bend", "origin"):
        np.testing.assert_array_equal(getattr(truth, name), getattr(scan.truth, name))
    assert truth.settings == scan.settings
    assert [phase.name for phase in truth.phases] == ["Cu", "Cu2O"]
    assert (written.vacuum, written.overlap) == (truth.vacuum.sum(), truth.overlap.sum())
    with pytest.raises(
        ValueError, match=r"truth\.h5 is the truth of a synthetic scan, not a scan of Bragg peaks"
    ):
        mi.read_peaks(written.files.truth)
    with pytest.raises(ValueError, match=r"scan\.h5: not the truth of a synthetic scan"):
        load_truth(written.files.frames)


@needs_py4dstem
def test_py4dstem_finds_the_true_disks(sharp):
    py4dstem = import_py4dstem()
    seen = sharp.seen_with(  # more electrons than a counting camera holds
        probe=dataclasses.replace(sharp.settings.probe, dose=1e7),
        camera=dataclasses.replace(sharp.settings.camera, kind="integrating"),
    )
    cube = py4dstem.DataCube(seen.read_rows(1, 8))
    size, radius = 21, seen.disk_radius
    r = np.hypot(*(np.indices((size, size)) - size // 2))
    kernel = np.zeros(seen.frame_shape)
    kernel[:size, :size] = np.where(r <= radius, 1.0, 0.0)
    kernel = np.roll(kernel / kernel.sum(), (-(size // 2), -(size // 2)), (0, 1))
    found = cube.find_Bragg_disks(
        kernel, minRelativeIntensity=0.0, minAbsoluteIntensity=20.0, minPeakSpacing=6, edgeBoundary=4,
        subpixel="multicorr", upsample_factor=16, corrPower=1.0, sigma_cc=1.0, maxNumPeaks=100,
    )  # fmt: skip
    distances, missed = [], 0
    truth = seen.true_peaks
    for i, j in np.ndindex(7, 11):
        pattern = truth.pattern(i + 1, j)
        at = pattern[:, :2] / 0.026 + [48.0, 50.0]
        apart = np.linalg.norm(at[:, None] - at, axis=-1) + 1e3 * np.eye(len(at))
        clear = (apart.min(axis=1) > 8) & (pattern[:, 2] > 1e4)
        clear &= np.all((at > 8) & (at < np.array([88, 92])), axis=1)
        raw = found.raw[i, j]
        points = np.stack([raw.data["qx"], raw.data["qy"]], axis=-1)
        nearest = np.linalg.norm(at[clear][:, None] - points, axis=-1).min(axis=1)
        missed += np.count_nonzero(nearest > 1.0)
        distances.extend(nearest[nearest <= 1.0])
    assert len(distances) > 100
    assert missed == 0
    assert np.sqrt(np.mean(np.square(distances))) < 0.1


def test_calibration_errors_are_those_that_py4dstems_calibration_undoes(sharp):
    wrong = dataclasses.replace(
        sharp.settings.calibration,
        ellipse=1.03,
        ellipse_angle=50.0,
        pixel_size_error=0.05,
        centre=(45.0, 53.0),
    )
    seen = sharp.seen_with(calibration=wrong)
    assert seen.pixel_size == pytest.approx(1.05 * 0.026)
    position, at, _ = pixels(seen)
    values = [np.float64(value) for value in (1.03, 1.0, np.radians(50.0))]
    calibration = Calibration(
        (seen.truth.origin[..., 0], seen.truth.origin[..., 1]), tuple(values), 0.026, None, False
    )
    counts = np.bincount(position, minlength=99)
    qx, qy = calibration.apply(*at.T, counts, 0, 9)
    np.testing.assert_allclose(qx, seen.true_peaks.qx, atol=1e-6)
    np.testing.assert_allclose(qy, seen.true_peaks.qy, atol=1e-6)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"grains": {"count": 0}}, r"\[grains\]: grains\.count must be at least 1, got 0"),
        (
            {"grains": {"overlap": 2.0, "channel": 1.0}},
            r"grains\.overlap and grains\.channel exclude each other",
        ),
        ({"grains": {"thickness": "steps"}}, r"grains\.thickness must be 'grains' or 'wedge', got 'steps'"),
        ({"grains": {"thickness_nm": [5.0, 1.0]}}, r"grains\.thickness_nm must be two numbers above 0"),
        ({"scan": {"shape": [4]}}, r"scan\.shape must be two whole numbers of at least 1, got \(4,\)"),
        ({"scan": {"shape": [4, 2.5]}}, r"scan\.shape must be two whole numbers"),
        ({"scan": {"steps": 1.0}}, r"\[scan\]: unknown entries \['steps'\]; known are \['shape', 'step'\]"),
        ({"camera": {"shape": [4, 4]}}, r"camera\.shape must be two whole numbers of at least 8"),
        ({"camera": {"kind": "film"}}, r"camera\.kind must be 'counting' or 'integrating', got 'film'"),
        ({"camera": {"read_noise": 1.0}}, r"camera\.read_noise are of integrating cameras"),
        ({"probe": {"dose": 0}}, r"probe\.dose must be above 0, got 0"),
        ({"probe": {"dose": "many"}}, r"\[probe\]: dose must be a float, got 'many'"),
        ({"background": {"amorphous": 0.6, "diffuse": 0.5}}, r"must be less than 1 together, got 1\.1"),
        ({"background": {"amorphous": 0.1, "halo_radii": []}}, r"background\.halo_radii must not be empty"),
        ({"calibration": {"centre": [1.0]}}, r"calibration\.centre must be two finite numbers"),
        ({"calibration": {"ellipse": 0.9}}, r"calibration\.ellipse must be between 1 and 2, got 0\.9"),
        ({"diffraction": {"voltage": 5.0}}, r"voltage must be an accelerating voltage"),
        ({"seed": -1}, "seed must be a whole number of 0 or more, got -1"),
        ({"phases": []}, r"phases must be a list of at least one"),
        ({"phases": [{"structure": "Cu", "share": 0.0}]}, r"phases\.share must be above 0"),
        ({"phases": [{"structure": "Cu"}, {"structure": "Cu"}]}, "each phase needs a name of its own"),
        ({"beam": {}}, r"unknown entries \['beam'\]"),
    ],
)
def test_wrong_settings_are_refused_by_name(tables, message):
    with pytest.raises(ValueError, match=r"^bad\.toml: " + "(.*)" + message):
        ScanSettings.from_dict({"phases": [{"structure": "Cu"}], **tables}, "bad.toml")


def test_settings_survive_json():
    given = settings()
    assert ScanSettings.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_shipped_scans():
    found = {name: load_scan_settings(name) for name in shipped_scans()}
    figure = found["figure6"]
    assert (figure.scan.shape, figure.grains.count, figure.grains.thickness_nm) == (
        (128, 128),
        60,
        (2.1, 2.1),
    )
    doses = [found[f"dose-1e{exponent}"] for exponent in (3, 4, 5)]
    assert [one.probe.dose for one in doses] == [1e3, 1e4, 1e5]
    assert len({dataclasses.replace(one, probe=ProbeConfig()) for one in doses}) == 1
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: neither a file of a scan's settings nor a shipped scan"
    ):
        load_scan_settings("nowhere")


def test_the_documented_configuration_is_the_default():
    page = (Path(__file__).parents[2] / "docs" / "synthetic_scans.md").read_text()
    text = page.split("```toml\n")[1].split("```")[0]
    documented = tomllib.loads(text)
    assert ScanSettings.from_dict(documented) == ScanSettings((ScanPhase("Cu"),))
    for name, values in json.loads(json.dumps(ScanSettings((ScanPhase("Cu"),)).to_dict())).items():
        if isinstance(values, dict):
            assert set(documented[name]) == set(values)


def test_spots_of_a_parallel_beam(sharp):
    seen = sharp.seen_with(
        probe=ProbeConfig(convergence_angle=0.0, edge=0.9, dose=1e4), camera=CameraConfig((96, 100), 0.026)
    )
    n = int(np.flatnonzero(seen.truth.vacuum.ravel())[0])
    beam = seen.mean_rows(0, 9).reshape(99, 96, 100)[n]
    x = np.arange(96) - 48.0
    variance = (beam.sum(axis=1) * x**2).sum() / beam.sum()
    assert variance == pytest.approx(0.9**2 + 1 / 12, rel=0.02)


@needs_py4dstem
def test_the_command_writes_a_scan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scan.h5").touch()
    (tmp_path / "small.toml").write_text(
        '[[phases]]\nstructure = "Cu"\n[scan]\nshape = [2, 3]\n[grains]\ncount = 1\n[diffraction]\nk_max = 0.8\n'
        "[camera]\nshape = [64, 64]\n"
    )

    def call(*arguments):
        return CliRunner().invoke(app, ["simulate", *arguments])

    result = call("scan", "small.toml", "--out", "out")
    assert result.exit_code == 1
    assert "the datacube is there already; --overwrite replaces it" in result.stderr
    result = call("scan", "small.toml", "--out", "out", "--overwrite")
    assert result.exit_code == 0, result.output
    for text in ("scan.h5", "true_peaks.h5", "truth.h5", "2 x 3 of 64 x 64 pixels, uint16", "1: Cu"):
        assert text in result.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["scan.h5", "true_peaks.h5", "truth.h5"]
    (tmp_path / "small.toml").write_text("[[phases]]\nstructure = 3\n")
    result = call("scan", "small.toml", "--out", "other")
    assert result.exit_code == 1
    assert "small.toml: [[phases]]: structure must be a str, got 3" in " ".join(result.stderr.split())
    assert not (tmp_path / "other").exists()
