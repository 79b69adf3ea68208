"""microinfer peaks, and map from frames."""

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.optional import needs_py4dstem
from helpers.synthetic_frames import synthetic_frames
from microinfer.cli import app
from microinfer.cli.demo import DATA
from microinfer.unfinished import partial_path

RUNNER = CliRunner()
SHAPE = (6, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Frames of 30 positions, with the vacuum's and a mask; the model's file is of the session."""
    path = tmp_path_factory.mktemp("frames")
    scan = synthetic_frames(SHAPE, 64, electrons=3e4, radius=3.0, seed=2)
    np.save(path / "scan.npy", scan.frames)
    vacuum = synthetic_frames((1, 3), 64, electrons=3e4, radius=3.0, direct=0.95, background=0.05, seed=4)
    np.save(path / "vacuum.npy", vacuum.frames)
    mask = np.zeros((64, 64), bool)
    mask[:20, :20] = True
    np.save(path / "stop.npy", mask)
    return path


@pytest.fixture(scope="module")
def model(small_model, folder):
    small_model.save(folder / "model.safetensors")
    return folder / "model.safetensors"


def run(*arguments, status=0):
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def same_peaks(one, other):
    np.testing.assert_array_equal(one.offsets, other.offsets)
    for name in ("qx", "qy", "intensity"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6)


def test_peaks(folder, tmp_path):
    text = run("peaks", folder / "scan.npy", "--out", tmp_path / "peaks.h5", "--pixel-size", "0.03")
    assert "30" in text
    assert "read" in text
    assert "frames/s" in text
    assert "radius 3." in text
    found = mi.find_peaks(folder / "scan.npy", pixel_size=0.03)
    same_peaks(mi.read_peaks(tmp_path / "peaks.h5"), found)
    assert "is there already" in run("peaks", folder / "scan.npy", "--out", tmp_path / "peaks.h5", status=1)


def test_without_a_pixel_size_the_peaks_are_in_pixels(folder, tmp_path):
    text = run("peaks", folder / "scan.npy", "--out", tmp_path / "peaks.h5")
    assert "microinfer calibrate" in text
    same_peaks(
        mi.read_peaks(tmp_path / "peaks.h5", pixel_size=0.5),
        mi.find_peaks(folder / "scan.npy", pixel_size=0.5),
    )
    with pytest.raises(ValueError, match="size of a pixel is not known"):
        mi.read_peaks(tmp_path / "peaks.h5")


def test_every_option_reaches_the_detection(folder, tmp_path):
    out = tmp_path / "peaks.h5"
    options = {
        ("--probe", "3.2"): {"probe": 3.2},
        ("--probe", folder / "vacuum.npy"): {"probe": np.load(folder / "vacuum.npy")},
        ("--vacuum", 0, 1, 0, 2): {"probe": np.load(folder / "scan.npy")[:1, :2]},
        ("--centre", 31.5, 31.5): {"centre": (31.5, 31.5)},
        ("--detector-mask", folder / "stop.npy"): {"mask": np.load(folder / "stop.npy")},
        ("--min-snr", 6): {"min_snr": 6.0},
        ("--set", "maxNumPeaks=4", "--set", "subpixel=poly"): {"maxNumPeaks": 4, "subpixel": "poly"},
    }
    for given, keywords in options.items():
        run("peaks", folder / "scan.npy", "--out", out, "--pixel-size", 1, "--overwrite", *given)
        same_peaks(mi.read_peaks(out), mi.find_peaks(folder / "scan.npy", pixel_size=1.0, **keywords))
    run("peaks", folder / "scan.npy", "--out", out, "--pixel-size", 1, "--overwrite", "--scan-shape", "5x6")
    assert mi.read_peaks(out).scan_shape == (5, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scan-shape", "5"), "--scan-shape must be ROWSxCOLUMNS"),
        (("--set", "spacing=3"), "--set must be NAME=VALUE with one of corrPower"),
        (("--set", "maxNumPeaks=many"), "--set maxNumPeaks must be a number"),
        (("--probe", "3", "--vacuum", 0, 1, 0, 1), "give --probe or --vacuum"),
        (("--vacuum", 0, 9, 0, 1), "--vacuum must lie within the scan's 6 rows and 5 columns"),
    ],
)
def test_options_that_make_no_sense(folder, tmp_path, options, message):
    assert message in run("peaks", folder / "scan.npy", "--out", tmp_path / "peaks.h5", *options, status=2)
    assert not (tmp_path / "peaks.h5").exists()


def test_map_from_frames(folder, model, tmp_path):
    """The map of the frames is that of their peaks, in one go and resumed; the peaks are kept."""
    out, kept = tmp_path / "map.h5", tmp_path / "kept.h5"
    common = ("--model", model, "--device", "cpu")
    text = run(
        "map",
        folder / "scan.npy",
        *common,
        "--out",
        out,
        "--pixel-size",
        0.03,
        "--keep-peaks",
        kept,
        "--block-rows",
        2,
    )
    assert "detect" in text
    same_peaks(mi.read_peaks(kept), mi.find_peaks(folder / "scan.npy", pixel_size=0.03))
    run("map", kept, *common, "--out", tmp_path / "again.h5")
    whole, again = mi.load_map(out), mi.load_map(tmp_path / "again.h5")
    np.testing.assert_array_equal(whole.valid, again.valid)
    np.testing.assert_allclose(whole.confidence, again.confidence, atol=1e-4)
    # of a region, all peaks are kept
    kept.unlink()
    run(
        *("map", folder / "scan.npy", *common, "--out", tmp_path / "part.h5", "--pixel-size", 0.03),
        *("--keep-peaks", kept, "--roi", 2, 4, 0, 5),
    )
    same_peaks(mi.read_peaks(kept), mi.find_peaks(folder / "scan.npy", pixel_size=0.03))


def test_an_interrupted_map_of_frames_goes_on(folder, model, tmp_path, monkeypatch):
    from microinfer.mapping.job import MapJob

    out, kept = tmp_path / "map.h5", tmp_path / "kept.h5"
    arguments = ("map", folder / "scan.npy", "--model", model, "--device", "cpu", "--pixel-size", 0.03)
    arguments += ("--block-rows", 2, "--keep-peaks", kept)
    run(*arguments, "--out", tmp_path / "whole.h5")
    kept.unlink()
    infer = MapJob.infer

    def stopped(job, block, *rest, **more):
        if block.rows.start == 4:
            raise KeyboardInterrupt
        return infer(job, block, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(MapJob, "infer", stopped)
        run(*arguments, "--out", out, status=130)
    assert partial_path(out).exists()
    assert not kept.exists()
    run(*arguments, "--out", out, "--resume")
    whole, resumed = mi.load_map(tmp_path / "whole.h5"), mi.load_map(out)
    np.testing.assert_array_equal(whole.valid, resumed.valid)
    np.testing.assert_array_equal(whole.matrix, resumed.matrix)
    same_peaks(mi.read_peaks(kept), mi.find_peaks(folder / "scan.npy", pixel_size=0.03))


def test_options_for_frames_are_refused_with_peaks(scan, model, tmp_path):
    mi.write_peaks(tmp_path / "scan.h5", scan)
    text = run(
        *("map", tmp_path / "scan.h5", "--model", model, "--out", tmp_path / "map.h5"),
        *("--keep-peaks", tmp_path / "kept.h5", "--min-snr", 3),
        status=2,
    )
    assert "holds peaks: --min-snr, --keep-peaks is for frames" in text


def test_python_maps_frames(folder, model):
    frames = np.load(folder / "scan.npy")
    peaks = mi.find_peaks(frames, pixel_size=0.03)
    expected = mi.map_orientations(peaks, str(model), device="cpu", check=False)
    from microinfer.frames import Frames

    omap = mi.map_orientations(Frames(frames, pixel_size=0.03), str(model), device="cpu", check=False)
    np.testing.assert_array_equal(omap.matrix, expected.matrix)


def test_info_says_what_frames_state_and_show(folder):
    text = run("info", folder / "scan.npy", "--voltage", "300", "--pixel-size", "0.03")
    for fact in ("6 x 5 positions", "300 kV", "0.03 1/Å", "NumPy", "radius 3.", "microinfer peaks"):
        assert fact in text
    assert "Pixel size not known" in run("info", folder / "scan.npy")
    assert "are for peaks" in run("info", folder / "scan.npy", "--phase", "Cu", status=2)


def test_the_step_and_a_picture(folder, tmp_path):
    run("peaks", folder / "scan.npy", "--out", tmp_path / "p.h5", "--pixel-size", "0.03", "--step", "25 A",
        "--plot", tmp_path / "disks.png")  # fmt: skip
    scan = mi.read_peaks(tmp_path / "p.h5").scan
    assert (scan.step, scan.units) == (2.5, "nm")
    assert (tmp_path / "disks.png").stat().st_size > 10_000


@needs_py4dstem
def test_calibrate_takes_frames_as_it_takes_their_peaks(folder, tmp_path):
    run("peaks", folder / "scan.npy", "--out", tmp_path / "peaks.h5")
    told = [
        run("calibrate", scan, "--cif", "Cu", status=1)
        for scan in (folder / "scan.npy", tmp_path / "peaks.h5")
    ]
    assert all("the rings do not decide" in text for text in told)
    assert "is for frames" in run("calibrate", tmp_path / "peaks.h5", "--cif", "Cu", "--probe", "3", status=2)


@needs_py4dstem
def test_calibrate_knows_the_pixel_size_and_keeps_the_frames(folder, tmp_path):
    path = tmp_path / "frames.npy"
    path.write_bytes((folder / "scan.npy").read_bytes())
    before = path.read_bytes()
    for options in ((), ("--overwrite",), ("--pixel-size", "0.03"), ("--pixel-size", "0.03", "--overwrite")):
        assert "the rings do not decide" in run("calibrate", path, "--cif", "Cu", *options, status=1)
        assert path.read_bytes() == before


def test_calibrate_of_the_demos_frames_agrees_and_never_replaces_them(tmp_path):
    frames = tmp_path / "frames.h5"
    frames.write_bytes((DATA / "frames.h5").read_bytes())
    before = frames.read_bytes()
    text = run("calibrate", frames, "--model", "cu", "--overwrite")
    assert "agrees with the pixel size that is known" in text
    assert frames.read_bytes() == before
    run("calibrate", frames, "--model", "cu", "--out", tmp_path / "peaks.h5")
    with mi.open_peaks(tmp_path / "peaks.h5") as reader:
        assert reader.pixel_size == pytest.approx(0.04, rel=0.003)


def test_what_a_datacube_states_and_frames_do_not_use_is_said(tmp_path):
    frames = tmp_path / "frames.h5"
    frames.write_bytes((DATA / "frames.h5").read_bytes())
    with h5py.File(frames, "r+") as file:
        found = []
        file.visititems(
            lambda name, item: found.append(item) if name.endswith("metadatabundle/calibration") else None
        )
        (calibration,) = found
        for name, value in (("QR_rotation", 0.5), ("a", 1.05), ("b", 1.0)):
            if name in calibration:
                del calibration[name]
            calibration.create_dataset(name, data=value).attrs["type"] = "number"
    with pytest.warns(
        UserWarning, match=r"states QR_rotation 0\.5, an ellipse of a/b 1\.05, which is not applied"
    ):
        mi.open_frames(frames).close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--centre", "1000", "2"),
            "centre (--centre) must be two numbers within the frames of (64, 64) pixels",
        ),
        (("--centre", "nan", "2"), "centre (--centre) must be two numbers within"),
        (("--set", "maxNumPeaks=1e10"), "maxNumPeaks must be at most 1e+06"),
        (("--set", "sigma_cc=1e300"), "sigma_cc must be at most 1e+06"),
        (("--min-snr", "1e200"), "min_snr must be at most 1e+06"),
    ],
)
def test_settings_beyond_all_frames_are_refused(folder, tmp_path, options, message):
    text = run("peaks", folder / "scan.npy", "--out", tmp_path / "p.h5", *options, status=1)
    assert message in text


def test_frames_that_are_lines_are_refused(tmp_path):
    np.save(tmp_path / "lines.npy", np.ones((2, 3, 1, 64), np.uint16))
    text = run("peaks", tmp_path / "lines.npy", "--out", tmp_path / "p.h5", status=1)
    assert "frames must have at least 8 x 8 pixels, got 1 x 64" in text


def test_spots_of_a_parallel_beam(folder, tmp_path):
    run("peaks", folder / "scan.npy", "--out", tmp_path / "p.h5", "--probe", "spot:2", "--pixel-size", "0.03")
    assert mi.read_peaks(tmp_path / "p.h5").n_peaks > 30
    with pytest.raises(TypeError, match=r"no argument minSNR; settings are .*open_frames"):
        mi.find_peaks(folder / "scan.npy", pixel_size=0.03, minSNR=3)
