"""The core against plain NumPy: correlation, maxima and their filters, sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microinfer import _core
from microinfer.detection.detector import CORE_TYPES, Detector, core_array
from microinfer.detection.kernel import make_kernel
from microinfer.detection.noise import Noise
from microinfer.detection.probe import Probe
from microinfer.detection.settings import DetectionSettings


def reference_maxima(correlation, floor, spacing, relative, relative_to, most):
    """Pixels of the maxima of an image, strongest first; the rule is `microinfer::DiskDetector`'s."""
    rows, columns = correlation.shape
    padded = np.pad(correlation, 1, constant_values=-np.inf)
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    holds = correlation > floor
    for i, j in around:
        other = padded[1 + i : 1 + i + rows, 1 + j : 1 + j + columns]
        holds &= (correlation > other) if (i, j) < (0, 0) else (correlation >= other)
    pixels = np.argwhere(holds)
    values = correlation[holds]
    order = np.argsort(-values, kind="stable")
    pixels, values = pixels[order], values[order]
    if len(values) > relative_to:
        pixels = pixels[values >= np.float32(relative) * values[relative_to]]
    kept = []
    for pixel in pixels:
        if len(kept) < most and all(np.sum((pixel - other) ** 2) >= spacing**2 for other in kept):
            kept.append(pixel)
    return np.array(kept, int).reshape(-1, 2)


def spec(**changes):
    values = {
        "radius": 2.0,
        "background_inner": 3.0,
        "background_outer": 5.0,
        "min_snr": 0.0,
        "gain": 0.0,
        "kernel_square": 0.0,
        "noise_floor": 0.0,
        "min_relative": 0.0,
        "relative_to": 0,
        "min_spacing": 0.0,
        "max_disks": 1000,
        "correlation_power": 1.0,
        "subpixel": "none",
    }
    return _core.DiskSpec(**(values | changes))


def identity(shape, floor, **changes):
    """A detector whose kernel is 1."""
    padded = tuple(_core.transform_length(n) for n in shape)
    return _core.DiskDetector(
        floor=floor,
        good=np.ones(shape, bool),
        fill=np.zeros((0, 1), np.int64),
        before=np.ones(padded, np.complex64),
        after=None,
        spec=spec(**changes),
    )


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    levels=st.integers(2, 1000),
    spacing=st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.7, 9.0]),
    relative=st.sampled_from([0.0, 0.3, 0.9]),
    relative_to=st.integers(0, 3),
    most=st.sampled_from([1, 5, 1000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_maxima(shape, levels, spacing, relative, relative_to, most, seed):
    rng = np.random.default_rng(seed)
    correlation = rng.integers(0, levels, shape).astype(np.float32)  # ties and plateaus among them
    floor = rng.choice([0.0, levels / 3, np.inf], shape).astype(np.float32)
    detector = identity(
        shape, floor, min_spacing=spacing, min_relative=relative, relative_to=relative_to, max_disks=most
    )
    offsets, table = detector.find(correlation[None, None], correlations=correlation[None, None])
    expected = reference_maxima(correlation, floor, spacing, relative, relative_to, most)
    assert offsets.tolist() == [0, len(expected)]
    np.testing.assert_array_equal(table[:2].T, expected)
    np.testing.assert_array_equal(table[2], correlation[tuple(expected.T)])


@given(
    size=st.integers(12, 30),
    square=st.integers(0, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums(size, square, seed):
    """Counts within the radius less the mean of the ring, near the frame's edge too."""
    rng = np.random.default_rng(seed)
    frame = rng.poisson(20, (size, size)).astype(np.float32)
    # no pixel lies on the edge of a disk
    radius, inner, outer = np.sqrt([square + 0.5, square + 5.5, square + 21.5])
    detector = identity(
        frame.shape,
        np.full(frame.shape, 15.0, np.float32),
        radius=radius,
        background_inner=inner,
        background_outer=outer,
    )
    _, (x, y, _, intensity, background) = detector.find(frame[None, None], correlations=frame[None, None])
    for place in zip(x, y, intensity, background, strict=True):
        r = np.hypot(np.arange(size)[:, None] - place[0], np.arange(size)[None] - place[1])
        ring = (r > inner) & (r <= outer)
        below = frame[ring].mean()
        inside = r <= radius
        assert place[3] == pytest.approx(below, rel=1e-5)
        assert place[2] == pytest.approx(frame[inside].sum() - below * inside.sum(), rel=1e-4, abs=1e-2)


@pytest.mark.parametrize("shape", [(64, 64), (50, 77), (33, 128)])
@pytest.mark.parametrize("power", [1.0, 0.6])
def test_correlation(shape, power):
    """That of the padded frames by NumPy, for every type of counts and for an odd number of frames."""
    settings = DetectionSettings(corrPower=power, min_snr=0, sigma_cc=0.7, sigma_dp=0.4)
    probe = Probe.disk(4.0, shape)
    detector = Detector(probe, settings, np.ones(shape, bool))
    kernel = make_kernel(probe, settings)
    rng = np.random.default_rng(3)
    counts = rng.poisson(5.0, (2, 3, *shape))
    for dtype in CORE_TYPES:
        frames = counts.astype(dtype)
        for n, position in enumerate(np.ndindex(2, 3)):
            padded = np.pad(
                counts[position], [(0, p - s) for p, s in zip(kernel.before.shape, shape, strict=True)]
            )
            for axis, (size, full) in enumerate(zip(shape, kernel.before.shape, strict=True)):
                for i in range(size, full):  # the padding repeats the edges, half each
                    edge = size - 1 if i - size < (full - size + 1) // 2 else 0
                    padded = np.moveaxis(padded, axis, 0)
                    padded[i] = padded[edge]
                    padded = np.moveaxis(padded, 0, axis)
            transform = np.fft.fft2(padded) * kernel.before
            if power != 1.0:
                transform *= np.abs(transform) ** (power - 1.0) * kernel.after
            expected = np.fft.ifft2(transform).real[: shape[0], : shape[1]]
            if n == 0:
                found = detector.correlate(frames)
            np.testing.assert_allclose(found[position], expected, atol=2e-5 * np.abs(expected).max())


def test_a_disk_gives_its_counts():
    probe = Probe.disk(4.0, (64, 64))
    detector = Detector(probe, DetectionSettings(), np.ones((64, 64), bool), Noise(1.0, 0.0))
    frame = 3.0 + 500.0 * np.roll(probe.image, (5, -7), (0, 1))
    disks = detector.find(frame[None, None])
    assert disks.offsets.tolist() == [0, 1]
    assert (disks.x[0], disks.y[0]) == (pytest.approx(37, abs=1e-3), pytest.approx(25, abs=1e-3))
    assert disks.correlation[0] == pytest.approx(500.0, rel=1e-3)
    assert disks.intensity[0] == pytest.approx(500.0, rel=0.06)
    assert disks.background[0] == pytest.approx(3.0, abs=0.1)


def test_other_numbers_become_float32():
    frames = np.arange(8, dtype=">u2").reshape(1, 2, 2, 2)
    assert core_array(frames).dtype == np.dtype("=u2")
    assert core_array(frames.astype(np.int64)).dtype == np.float32
    assert core_array(frames[:, ::-1]).flags.c_contiguous


def test_what_the_core_refuses():
    detector = identity((8, 8), np.zeros((8, 8), np.float32))
    with pytest.raises(ValueError, match=r"frames must have shape \(R, N, 8, 8\)"):
        detector.find(np.zeros((1, 1, 8, 9), np.float32))
    with pytest.raises(TypeError, match="frames must have dtype float32"):
        detector.find(np.zeros((1, 1, 8, 8), np.int64))
    with pytest.raises(ValueError, match="correlations"):
        detector.find(np.zeros((1, 1, 8, 8), np.float32), correlations=np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(ValueError, match="min_spacing must be at least 0"):
        identity((8, 8), np.zeros((8, 8), np.float32), min_spacing=-1.0)
    with pytest.raises(ValueError, match="subpixel must be none"):
        spec(subpixel="best")
