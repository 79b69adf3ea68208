"""Disks of synthetic frames are found where they are, however the frames come and are read."""

import pickle

import numpy as np
import pytest

import microinfer as mi
from helpers.optional import import_py4dstem
from helpers.synthetic_frames import matched, synthetic_frames
from microinfer import _core
from microinfer.detection import DetectedScan, DetectionSettings, Probe
from microinfer.detection.probe import measure_beam
from microinfer.frames import Frames

SIZE, RADIUS = 96, 4.0
SHAPE = (5, 6)


@pytest.fixture(scope="module")
def scan():
    return synthetic_frames(SHAPE, SIZE, electrons=1e5, radius=RADIUS, seed=3)


def pixels(scan, frames=None, **options):
    """Disks of every position, x, y, intensity, in pixels from the direct beam."""
    peaks = mi.find_peaks(scan.frames if frames is None else frames, pixel_size=1.0, **options)
    return [peaks.pattern(*divmod(n, peaks.scan_shape[1])) for n in range(len(peaks))]


def compared(scan, found):
    """Recall of the disks of 100 electrons and more, precision, and the errors of positions and intensities."""
    hits = strong = right = every = 0
    errors, ratios = [], []
    for disks, peaks in zip(scan.disks, found, strict=True):
        truth = np.column_stack([disks[:, :2] - disks[0, :2], disks[:, 2]])
        mine, true = matched(peaks, truth, 2.0)
        bright = truth[true, 2] >= 100
        hits, strong = hits + bright.sum(), strong + (truth[:, 2] >= 100).sum()
        right, every = right + len(mine), every + len(peaks)
        errors.append(np.hypot(*(peaks[mine, :2] - truth[true, :2]).T)[bright])
        ratios.append((peaks[mine, 2] / truth[true, 2])[bright])
    return hits / strong, right / every, np.concatenate(errors), np.concatenate(ratios)


def errors_of_common_disks(scan, *founds):
    """Root mean square errors of the positions of the disks that all of some have found."""
    squares = [[] for _ in founds]
    for n, disks in enumerate(scan.disks):
        truth = disks[:, :2] - disks[0, :2]
        pairs = [dict(zip(*matched(found[n], truth, 2.0)[::-1], strict=True)) for found in founds]
        for true in set.intersection(*(set(pair) for pair in pairs)):
            for found, pair, values in zip(founds, pairs, squares, strict=True):
                values.append(np.sum((found[n][pair[true], :2] - truth[true]) ** 2))
    return [np.sqrt(np.mean(values)) for values in squares]


def test_disks_are_found(scan):
    recall, precision, errors, ratios = compared(scan, pixels(scan))
    assert recall > 0.97
    assert precision > 0.93
    assert np.sqrt(np.mean(errors**2)) < 0.35
    assert np.median(errors) < 0.16
    assert np.median(ratios) == pytest.approx(1.0, abs=0.06)


def test_not_less_right_than_py4dstem(scan):
    """On the same frames, with py4DSTEM's default way to place a maximum."""
    py4dstem = import_py4dstem()
    template = Probe.disk(RADIUS, (SIZE, SIZE), 0.6).image.astype(float)
    kernel = py4dstem.Probe(template).get_kernel(
        mode="sigmoid", origin=(SIZE // 2, SIZE // 2), radii=(RADIUS, 2 * RADIUS), returncalc=True
    )
    vectors = py4dstem.braggvectors.diskdetection.find_Bragg_disks(
        py4dstem.DataCube(scan.frames),
        kernel,
        minPeakSpacing=RADIUS,
        edgeBoundary=int(RADIUS),
        minRelativeIntensity=0.004,
        maxNumPeaks=100,
    )
    theirs = []
    for n, disks in enumerate(scan.disks):
        points = vectors._v_uncal[divmod(n, SHAPE[1])].data
        theirs.append(
            np.column_stack([points["qx"] - disks[0, 0], points["qy"] - disks[0, 1], points["intensity"]])
        )
    ours = pixels(scan)
    recall, precision, _, _ = compared(scan, ours)
    their_recall, their_precision, _, _ = compared(scan, theirs)
    assert 2 / (1 / recall + 1 / precision) > 2 / (1 / their_recall + 1 / their_precision) - 0.01
    error, their_error = errors_of_common_disks(scan, ours, theirs)
    assert error < 1.1 * their_error


def same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_blocks_and_threads_change_nothing(scan, monkeypatch):
    before = pixels(scan)
    monkeypatch.setattr("microinfer.frames.source.BLOCK_BYTES", 1)  # a row at a time
    same(before, pixels(scan))
    threads = _core.num_threads()
    try:
        _core.set_num_threads(3)
        same(before, pixels(scan))
    finally:
        _core.set_num_threads(threads)
    detected = DetectedScan(Frames(scan.frames), pixel_size=1.0)
    alone = detected.read_rows(3, 5)
    same(before[3 * SHAPE[1] :], [alone.pattern(*divmod(n, SHAPE[1])) for n in range(len(alone))])


def test_a_pickled_scan_gives_the_same_peaks(scan, tmp_path):
    """As on the workers of a cluster."""
    np.save(tmp_path / "scan.npy", scan.frames)
    with mi.open_frames(tmp_path / "scan.npy") as frames:
        detected = DetectedScan(frames, pixel_size=0.5, settings=DetectionSettings(min_snr=4.0))
        with pickle.loads(pickle.dumps(detected)) as again:
            for one, other in zip(detected.blocks(), again.blocks(), strict=True):
                for name in ("offsets", "qx", "qy", "intensity"):
                    np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_types_of_counts_change_nothing(scan):
    before = pixels(scan)
    for frames in (scan.frames.astype(np.float64), scan.frames.astype(">i4"), scan.frames.astype(np.int64)):
        same(before, pixels(scan, frames))


def test_every_form_of_frames(scan, tmp_path):
    before = pixels(scan)
    np.save(tmp_path / "scan.npy", scan.frames)
    same(before, pixels(scan, tmp_path / "scan.npy"))
    same(before, pixels(scan, Frames(scan.frames)))
    cube = import_py4dstem().DataCube(scan.frames)
    cube.calibration.set_Q_pixel_size(0.02)
    cube.calibration.set_Q_pixel_units("A^-1")
    peaks = mi.find_peaks(cube)
    assert peaks.n_peaks == sum(map(len, before))
    np.testing.assert_allclose(peaks.qx, np.concatenate(before)[:, 0] * 0.02, atol=1e-6)


def test_positions_are_measured_from_the_direct_beam(scan):
    for peaks in pixels(scan):
        strongest = peaks[np.argmax(peaks[:, 2])]
        np.testing.assert_array_equal(strongest[:2], 0.0)
    detected = DetectedScan(Frames(scan.frames), pixel_size=1.0)
    (found,) = detected.found_rows(0, SHAPE[0])
    assert np.abs(found.centres - scan.centres).max() < 0.1


def test_a_direct_beam_that_is_missing_is_where_the_others_lead(scan):
    frames = scan.frames.astype(np.float32)
    x, y = np.round(scan.centres[14]).astype(int)
    frames[2, 2, x - 7 : x + 8, y - 7 : y + 8] = frames[2, 2].mean()
    detected = DetectedScan(Frames(frames), pixel_size=1.0)
    (found,) = detected.found_rows(0, SHAPE[0])
    assert np.abs(found.centres[14] - scan.centres[14]).max() < 0.6
    assert np.abs(found.centres[13] - scan.centres[13]).max() < 0.1


def test_a_beam_stop(scan):
    """Below a beam stop nothing is found; `centre` says where the direct beam is, and what the disks look like."""
    frames = scan.frames.copy()
    x, y = np.indices((SIZE, SIZE))
    stop = np.hypot(x - SIZE / 2, y - SIZE / 2) < 9
    frames[..., stop] = 0
    centre = tuple(scan.centres.mean(axis=0))
    found = pixels(scan, frames, mask=stop, centre=centre, probe=RADIUS)
    for peaks in found:
        places = np.round(peaks[:, :2] + centre).astype(int)
        assert not stop[tuple(places.T)].any()
    # the truth's direct beam is no longer there, and its place drifts by a pixel
    outside = [
        np.concatenate([disks[:1], disks[1:][np.hypot(*(disks[1:, :2] - SIZE / 2).T) > 14]])
        for disks in scan.disks
    ]
    hits = [
        len(matched(peaks[:, :2] + centre, disks[1:][disks[1:, 2] > 100], 2.0)[0])
        for peaks, disks in zip(found, outside, strict=True)
    ]
    assert sum(hits) > 0.95 * sum((disks[1:, 2] > 100).sum() for disks in outside)


def test_defects_are_found_and_bear_no_disk(scan):
    frames = scan.frames.copy()
    frames[..., 20, 70] = 60_000
    frames[..., 41, :] = 0
    detected = DetectedScan(Frames(frames), pixel_size=1.0)
    assert detected.mask[20, 70]
    assert detected.mask[41].all()
    recall, precision, _, _ = compared(scan, pixels(scan, frames))
    assert recall > 0.93
    assert precision > 0.9


def test_integrating_cameras():
    """Counts that are many for an electron, with an offset and noise of their own: the threshold goes with them."""
    counted = synthetic_frames((4, 8), SIZE, electrons=2e4, radius=RADIUS, seed=5)
    integrated = synthetic_frames(
        (4, 8), SIZE, electrons=2e4, radius=RADIUS, gain=20.0, read_noise=5.0, seed=5
    )
    integrated.frames += 300
    scan = DetectedScan(Frames(integrated.frames), pixel_size=1.0)
    assert scan.noise.gain == pytest.approx(20.0, rel=0.5)
    few, many = (np.concatenate(pixels(one)) for one in (counted, integrated))
    assert len(many) == pytest.approx(len(few), rel=0.2)
    recall, precision, _, ratios = compared(integrated, pixels(integrated))
    assert recall > 0.9
    assert precision > 0.85
    assert np.median(ratios) == pytest.approx(20.0, rel=0.1)


@pytest.mark.parametrize("electrons", [3e2, 1e3, 1e4, 1e5])
@pytest.mark.parametrize("radius", [2.0, 4.0])
def test_counted_electrons_are_counts(electrons, radius):
    scan = synthetic_frames((3, 8), SIZE, electrons=electrons, radius=radius, seed=8)
    noise = DetectedScan(Frames(scan.frames), pixel_size=1.0, probe=radius).noise
    assert 0.8 < noise.gain < 2.0


def test_dead_frames_have_no_disks(scan):
    frames = scan.frames.copy()
    frames[1, 3] = 0
    found = pixels(scan, frames)
    assert len(found[9]) == 0
    assert len(found[8]) > 5
    assert sum(map(len, pixels(scan, np.zeros((2, 2, SIZE, SIZE), np.uint16), probe=RADIUS))) == 0
    assert sum(map(len, pixels(scan, np.full((2, 2, SIZE, SIZE), 100.0), probe=RADIUS))) == 0


def test_saturated_frames(scan):
    clipped = np.minimum(scan.frames, np.quantile(scan.frames, 0.995).astype(np.uint16))
    recall, precision, errors, _ = compared(scan, pixels(scan, clipped))
    assert recall > 0.93
    assert precision > 0.9
    assert np.median(errors) < 0.2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_that_hold_no_numbers(scan, value):
    frames = scan.frames.astype(np.float32)
    detected = DetectedScan(Frames(frames), pixel_size=1.0)
    frames[3, 4, 10, 11] = value  # after the look at a few, as in one of the many others
    with pytest.raises(ValueError, match=r"scan position \(3, 4\) holds NaN or infinity"):
        detected.read_rows(2, 5)
    # a pixel that has none in the frames that are looked at is a defect
    assert DetectedScan(Frames(frames), pixel_size=1.0).mask[10, 11]


def test_probe_from_vacuum(scan):
    beam = np.array(
        [
            synthetic_frames(
                (1, 1), SIZE, electrons=3e4, radius=RADIUS, direct=0.95, background=0.05, seed=n
            ).frames[0, 0]
            for n in range(6)
        ]
    )
    probe = Probe.from_frames(beam)
    assert probe.radius == pytest.approx(RADIUS, abs=0.15)
    recall, precision, _, _ = compared(scan, pixels(scan, probe=beam))
    assert recall > 0.95
    assert precision > 0.9
    same(pixels(scan, probe=beam), pixels(scan, probe=probe))


@pytest.mark.parametrize("radius", [2.0, 3.5, 7.0, 12.0])
@pytest.mark.parametrize("electrons", [3e3, 1e5])
def test_the_direct_beam_shows_the_radius(radius, electrons):
    scan = synthetic_frames((2, 6), 128, electrons=electrons, radius=radius, seed=7)
    beam = measure_beam(scan.frames.reshape(-1, 128, 128))
    assert beam.radius == pytest.approx(radius, rel=0.05, abs=0.15)
    assert np.hypot(*(np.array(beam.centre) - scan.centres.mean(0))) < 0.5


def test_spots_of_a_parallel_beam():
    rng = np.random.default_rng(4)
    x, y = np.indices((SIZE, SIZE))
    places = np.array(
        [
            [48.3, 47.6],
            *np.random.default_rng(1).permutation(np.mgrid[8:89:16, 8:89:16].reshape(2, -1).T)[:12] + 0.3,
        ]
    )
    expected = np.full((SIZE, SIZE), 0.2)
    for n, (px, py) in enumerate(places):
        expected += (400 if n == 0 else 80) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.2**2))
    frames = rng.poisson(expected, (2, 3, SIZE, SIZE)).astype(np.uint16)
    for probe in (None, Probe.spot(1.2, (SIZE, SIZE))):
        peaks = mi.find_peaks(frames, pixel_size=1.0, probe=probe)
        found = peaks.pattern(1, 1)[:, :2] + places[0]
        mine, _ = matched(found, places, 0.3)
        assert len(mine) == len(places)


def test_what_is_refused(scan):
    frames = scan.frames
    for options, message in (
        ({}, "pixel_size=.*microinfer calibrate"),
        ({"pixel_size": -1.0}, "pixel_size must be positive"),
        ({"pixel_size": 1.0, "probe": Probe.disk(3.0, (64, 64))}, r"frames of \(64, 64\) pixels"),
        ({"pixel_size": 1.0, "probe": np.ones((64, 64))}, r"must have the shape \(96, 96\)"),
        ({"pixel_size": 1.0, "probe": 40.0}, "radius must be positive and at most a quarter"),
        ({"pixel_size": 1.0, "mask": np.zeros((4, 4), bool)}, r"mask must have the frames' shape \(96, 96\)"),
        ({"pixel_size": 1.0, "mask": np.ones((96, 96), bool)}, "no detector pixel is left"),
        ({"pixel_size": 1.0, "min_snr": -3}, "min_snr must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            mi.find_peaks(frames, **options)
    with pytest.raises(TypeError, match="mask must be boolean"):
        mi.find_peaks(frames, pixel_size=1.0, mask=np.zeros((96, 96)))
    with pytest.raises(TypeError, match="minSpacing"):
        mi.find_peaks(frames, pixel_size=1.0, minSpacing=3)
    with pytest.raises(TypeError, match="real numbers"):
        mi.find_peaks(frames.astype(complex), pixel_size=1.0)
    with pytest.raises(ValueError, match=r"shape \(Rx, Ry, Qx, Qy\)"):
        mi.find_peaks(frames[0], pixel_size=1.0)
    with pytest.raises(ValueError, match="no direct beam stands out"):
        mi.find_peaks(np.zeros((2, 2, 64, 64)), pixel_size=1.0)


def test_settings_of_py4dstem(scan):
    """Each does what its name says."""
    everything = pixels(scan)
    few = pixels(scan, maxNumPeaks=3)
    assert max(map(len, few)) == 3
    spaced = pixels(scan, minPeakSpacing=20.0)
    for peaks in spaced:
        distance = np.hypot(*(peaks[:, None, :2] - peaks[None, :, :2]).T)
        assert (distance[~np.eye(len(peaks), dtype=bool)] > 18.0).all()
    strong = pixels(scan, minAbsoluteIntensity=1000.0)
    assert 0 < sum(map(len, strong)) < sum(map(len, everything))
    relative = pixels(scan, minRelativeIntensity=0.05, relativeToPeak=0)
    assert sum(map(len, relative)) < sum(map(len, everything))
    hybrid = pixels(scan, settings=DetectionSettings(corrPower=0.8, min_snr=0, minRelativeIntensity=0.05))
    assert sum(map(len, hybrid)) > 0
    for peaks in pixels(scan, edgeBoundary=30):
        assert np.abs(peaks[:, :2]).max() < 20
