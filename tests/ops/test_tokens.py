"""Tokens against a plain reference, at the edges of the rule, and as a torch operator."""

import math
import pickle
import secrets

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.devices import DEVICES
from microinfer import _core
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens, tokenize, tokenize_arrays
from microinfer.peaks.bragg_peaks import BraggPeaks

SPEC = TokenSpec()
SMALL = TokenSpec(
    radius_max=2.0,
    radius_bins=16,
    angle_bins=12,
    intensity_min=0.25,
    intensity_bins=4,
    direct_beam_radius=0.5,
    max_disks=4,
    min_disks=2,
)


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print("seed", seed)
    return np.random.default_rng(seed)


def flat(patterns: list[np.ndarray]) -> tuple[torch.Tensor, ...]:
    """Patterns of (n, 3) qx, qy, intensity as flat arrays and offsets."""
    offsets = np.cumsum([0, *map(len, patterns)], dtype=np.int64)
    rows = np.concatenate([np.zeros((0, 3)), *patterns]).astype(np.float32)
    return (*(torch.from_numpy(rows[:, k].copy()) for k in range(3)), torch.from_numpy(offsets))


def tokens_of(*patterns: list[list[float]], spec: TokenSpec = SPEC, device: str = "cpu") -> Tokens:
    arrays = flat([np.asarray(p, dtype=np.float32).reshape(-1, 3) for p in patterns])
    return Tokens(*(t.cpu() for t in tokenize_arrays(*(a.to(device) for a in arrays), spec)))


def reference(pattern: np.ndarray, spec: TokenSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Radius, angle and intensity of one pattern's disks, and whether it is valid, as the rule says."""
    none = np.zeros(0, np.float32)
    qx, qy, intensity = pattern.astype(np.float32).T
    if not np.isfinite(pattern).all():
        return none, none, none, False
    with np.errstate(over="ignore"):  # two finite numbers may be farther out than float32 reaches
        radius = np.sqrt(qx.astype(np.float64) ** 2 + qy.astype(np.float64) ** 2).astype(np.float32)
    keep = (radius >= np.float32(spec.direct_beam_radius)) & (radius <= np.float32(spec.radius_max))
    keep &= intensity > 0
    if not keep.any():
        return none, none, none, False
    with np.errstate(under="ignore", over="ignore"):
        relative = intensity / intensity[keep].max()
    keep &= relative >= np.float32(spec.intensity_min)
    order = [i for i in np.lexsort((qy, qx, -intensity)) if keep[i]][: spec.max_disks]
    angle = np.array([math.atan2(qy[i] + 0.0, qx[i] + 0.0) for i in order], np.float32)
    angle[angle <= np.float32(-np.pi)] = np.float32(np.pi)
    return radius[order], angle, relative[order], len(order) >= spec.min_disks


def check(tokens: Tokens, patterns: list[np.ndarray], spec: TokenSpec) -> None:
    expected = [reference(p, spec) for p in patterns]
    count = [len(e[0]) for e in expected]
    length = max(count, default=0)
    assert tokens.count.tolist() == count
    assert tokens.valid.tolist() == [e[3] for e in expected]
    assert tokens.radius.shape == (len(patterns), length)
    np.testing.assert_array_equal(tokens.mask, np.arange(length) < np.array(count).reshape(-1, 1))

    def padded(k: int) -> np.ndarray:
        rows = [np.pad(e[k], (0, length - len(e[k]))) for e in expected]
        return np.array(rows, np.float32).reshape(len(rows), length)

    np.testing.assert_array_equal(tokens.radius, padded(0))
    np.testing.assert_allclose(tokens.angle, padded(1), rtol=2e-7)
    np.testing.assert_array_equal(tokens.intensity, padded(2))

    radius, angle, intensity = (t.double().numpy() for t in tokens[:3])
    mask = tokens.mask.numpy()
    low = float(np.float32(spec.intensity_min))
    r = np.floor(radius / float(np.float32(spec.radius_max)) * spec.radius_bins)
    a = np.floor((angle + np.pi) / (2 * np.pi) * spec.angle_bins) % spec.angle_bins
    i = np.floor((intensity - low) / (1 - low) * spec.intensity_bins)
    np.testing.assert_array_equal(tokens.radius_bin, np.where(mask, np.minimum(r, spec.radius_bins - 1), 0))
    np.testing.assert_array_equal(tokens.angle_bin, np.where(mask, a, 0))
    np.testing.assert_array_equal(
        tokens.intensity_bin, np.where(mask, np.minimum(i, spec.intensity_bins - 1), 0)
    )
    assert all(t.dtype == torch.float32 for t in tokens[:3])
    assert all(t.dtype == torch.int32 for t in (*tokens[3:6], tokens.count))
    assert all(t.dtype == torch.bool for t in (tokens.mask, tokens.valid))


coordinates = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.25, 2.0, -2.0, 2.125]),
    st.floats(-2.25, 2.25, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
intensities = st.one_of(
    st.sampled_from([1.0, 2.0, 4.0, 0.5, 0.0, -1.0]),
    st.floats(0, 8, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
finite_patterns = st.lists(st.tuples(coordinates, coordinates, intensities), max_size=12)
broken_patterns = st.lists(
    st.tuples(st.floats(width=32), st.floats(width=32), st.floats(width=32)), min_size=1, max_size=4
)
scans = st.lists(st.one_of(finite_patterns, finite_patterns, broken_patterns), max_size=6)


@example([])
@example([[(2.4e38, 2.4e38, 0.0)]])
@given(scans)
def test_any_scan_gives_what_the_rule_says(scan: list[list[tuple[float, float, float]]]) -> None:
    patterns = [np.array(p, np.float32).reshape(-1, 3) for p in scan]
    check(tokenize_arrays(*flat(patterns), SMALL), patterns, SMALL)


def scan_of(rng: np.random.Generator, positions: int, mean: float) -> list[np.ndarray]:
    """Random patterns with a direct beam, weak and far peaks, and equal intensities."""
    return [
        np.column_stack([rng.uniform(-2.5, 2.5, (n, 2)), rng.geometric(0.02, n) / 16]).astype(np.float32)
        for n in rng.poisson(mean, positions)
    ]


@pytest.mark.parametrize("device", DEVICES)
def test_a_random_scan_gives_what_the_rule_says(rng: np.random.Generator, device: str) -> None:
    patterns = [*scan_of(rng, 600, 13), *scan_of(rng, 3, 5000), np.zeros((0, 3), np.float32)]
    for row, value in enumerate((np.nan, np.inf, -np.inf) * 3):  # spoils its pattern alone
        bad = np.array([[1, 0, 1], [0, 1, 1], [0.01, 0, 1]], np.float32)
        bad[2, row // 3] = value
        patterns.insert(2 * row, bad)
    tokens = tokenize_arrays(*(a.to(device) for a in flat(patterns)))
    assert tokens.radius.device.type == device
    check(Tokens(*(t.cpu() for t in tokens)), patterns, SPEC)


@given(finite_patterns, st.randoms(use_true_random=False))
def test_the_order_of_peaks_does_not_matter(pattern, random) -> None:
    turned = random.sample(pattern, len(pattern))
    for a, b in zip(tokens_of(pattern, spec=SMALL), tokens_of(turned, spec=SMALL), strict=True):
        np.testing.assert_array_equal(a.numpy().view(np.uint8), b.numpy().view(np.uint8))


def test_the_number_of_threads_does_not_matter(rng: np.random.Generator) -> None:
    arrays, before = flat(scan_of(rng, 2000, 13)), _core.num_threads()
    try:
        _core.set_num_threads(1)
        alone = tokenize_arrays(*arrays)
        for threads in (2, 7):
            _core.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(alone, tokenize_arrays(*arrays), strict=True))
    finally:
        _core.set_num_threads(before)


@pytest.mark.parametrize("device", DEVICES)
class TestEdges:
    def test_radii_at_bin_edges(self, device: str) -> None:
        spec = TokenSpec(radius_max=2.0, direct_beam_radius=0.0, max_disks=300)
        edges = np.arange(257) / 128
        tokens = tokens_of([[q, 0.0, 1.0] for q in edges], spec=spec, device=device)
        assert tokens.radius_bin[0].tolist() == [*range(256), 255]

    def test_the_largest_radius_is_kept_and_the_next_is_not(self, device: str) -> None:
        edge = np.float32(2.99)
        past = np.nextafter(edge, np.float32(9))
        tokens = tokens_of([[edge, 0.0, 1.0], [0.0, past, 2.0], [-edge, 0.0, 3.0]], device=device)
        assert tokens.count.tolist() == [2]
        assert tokens.radius_bin[0].tolist() == [255, 255]
        assert tokens.intensity[0, 0] == 1

    def test_every_peak_in_the_direct_beam_is_dropped(self, device: str) -> None:
        edge = np.float32(0.05)
        inside = np.nextafter(edge, np.float32(0))
        beam = [[0.0, 0.0, 1e6], [inside, 0.0, 1e6], [0.0, -inside, 1e6]]
        tokens = tokens_of([*beam, [edge, 0.0, 1.0], [1.0, 0.0, 2.0]], device=device)
        assert tokens.radius[0].tolist() == [1.0, edge]
        assert tokens.intensity[0].tolist() == [1.0, 0.5]

    def test_the_weakest_intensity_is_kept_and_the_next_is_not(self, device: str) -> None:
        edge = np.float32(1e-3)
        below = np.nextafter(edge, np.float32(0))
        tokens = tokens_of([[1.0, 0.0, 1.0], [1.0, 0.5, edge], [1.0, 0.6, below]], device=device)
        assert tokens.intensity[0].tolist() == [1.0, edge]
        assert tokens.intensity_bin[0].tolist() == [63, 0]

    @pytest.mark.parametrize(
        ("qx", "qy", "angle", "angle_bin"),
        [
            (1.0, 0.0, 0.0, 180),
            (1.0, -0.0, 0.0, 180),
            (-1.0, 0.0, math.pi, 0),
            (-1.0, -0.0, math.pi, 0),
            (-1.0, -1e-9, math.pi, 0),
            (-1.0, -1e-4, 1e-4 - math.pi, 0),
            (-1.0, 1e-4, math.pi - 1e-4, 359),
            (0.0, 1.0, math.pi / 2, 270),
            (-0.0, -1.0, -math.pi / 2, 89),  # float32(pi / 2) is past pi / 2
        ],
    )
    def test_angles(self, device: str, qx: float, qy: float, angle: float, angle_bin: int) -> None:
        tokens = tokens_of([[qx, qy, 1.0]], device=device)
        assert tokens.angle.item() == pytest.approx(angle, rel=2e-7)
        assert tokens.angle_bin.item() == angle_bin
        assert str(tokens.angle.item()) != "-0.0"

    def test_a_length_keeps_the_strongest_and_pads(self, device: str) -> None:
        arrays = [a.to(device) for a in flat([np.array([[1, 0, 1], [0, 1, 3], [1, 1, 2]])])]
        tokens = tokenize_arrays(*arrays, SPEC, length=2)
        assert tokens.count.tolist() == [2]
        torch.testing.assert_close(tokens.intensity.cpu(), torch.tensor([[1.0, 2 / 3]]))
        assert tokenize_arrays(*arrays, SPEC, length=5).mask.tolist() == [[True] * 3 + [False] * 2]


def test_a_scan_gives_what_its_arrays_give(rng: np.random.Generator) -> None:
    qx, qy, intensity, offsets = flat(scan_of(rng, 12, 6))
    peaks = BraggPeaks(offsets.numpy(), qx.numpy(), qy.numpy(), intensity.numpy(), (3, 4))
    for a, b in zip(tokenize(peaks), tokenize_arrays(qx, qy, intensity, offsets), strict=True):
        assert torch.equal(a, b)


THREE = torch.ones(3)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([1, 3], "offsets must begin with 0, got 1"),
        ([0, 2, 1, 3], "offsets must never fall, got 1 after 2 at index 2"),
        ([0, 2], "offsets must end with the number of peaks, 3, got 2"),
        ([0, 4], "offsets must end with the number of peaks, 3, got 4"),
        ([], r"offsets must have shape \(N \+ 1,\), got \(0,\)"),
    ],
)
def test_wrong_offsets_are_named(offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenize_arrays(THREE, THREE, THREE, torch.tensor(offsets, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"qy": torch.ones(2)}, ValueError, r"qy must have the shape of qx, \(3,\), got \(2,\)"),
        ({"qx": torch.ones(3, 1)}, ValueError, r"qx must have shape \(P,\), got \(3, 1\)"),
        ({"intensity": THREE.double()}, TypeError, "intensity must have dtype float32, got float64"),
        ({"offsets": torch.tensor([0, 3]).int()}, TypeError, "offsets must have dtype int64, got int32"),
        ({"length": -1}, ValueError, "length must be at least 0, got -1"),
    ],
)
def test_wrong_arrays_are_named(change, error, message: str) -> None:
    right = {"qx": THREE, "qy": THREE, "intensity": THREE, "offsets": torch.tensor([0, 3])}
    assert tokenize_arrays(**right).count.tolist() == [3]
    with pytest.raises(error, match=message):
        tokenize_arrays(**right | change)


def test_strided_arrays_are_refused() -> None:
    three = THREE.numpy()
    with pytest.raises(TypeError, match="qx must be C-contiguous"):
        _core.count_disks(np.ones(6, np.float32)[::2], three, three, np.array([0, 3]), SPEC.core)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("radius_max", (0.0, math.nan)),
        ("radius_bins", (0,)),
        ("angle_bins", (0,)),
        ("intensity_min", (1.0, -0.1)),
        ("intensity_bins", (0,)),
        ("direct_beam_radius", (2.99, math.nan)),
        ("max_disks", (0,)),
        ("min_disks", (0, 77)),
    ],
)
def test_wrong_specifications_are_named(name: str, values: tuple[float, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=name):
            TokenSpec(**{name: value})


def test_a_specification_travels() -> None:
    values = SMALL.to_dict()
    assert pickle.loads(pickle.dumps(SMALL)) == TokenSpec.from_dict(values) == SMALL
    values["radius"] = values.pop("radius_max")
    with pytest.raises(ValueError, match=r"missing \['radius_max'\], unknown \['radius'\]"):
        TokenSpec.from_dict(values)


class TestOperator:
    @pytest.mark.parametrize("device", DEVICES)
    def test_opcheck(self, rng: np.random.Generator, device: str) -> None:
        arrays = [a.to(device) for a in flat(scan_of(rng, 5, 6))]
        numbers = tuple(SPEC.to_dict().values())
        torch.library.opcheck(torch.ops.microinfer.tokenize.default, (*arrays, 9, *numbers))
        torch.library.opcheck(torch.ops.microinfer.count_disks.default, (*arrays, *numbers))

    @pytest.mark.parametrize("device", DEVICES)
    def test_compile(self, rng: np.random.Generator, device: str) -> None:
        arrays = [a.to(device) for a in flat(scan_of(rng, 5, 6))]

        def total(*peaks: torch.Tensor) -> torch.Tensor:
            tokens = tokenize_arrays(*peaks, SPEC, length=8)
            return (tokens.radius * tokens.mask).sum(1) + tokens.count

        compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*arrays), total(*arrays))

    def test_there_is_no_gradient(self) -> None:
        qx = torch.ones(3, requires_grad=True)
        tokens = tokenize_arrays(qx, torch.ones(3), torch.ones(3), torch.tensor([0, 3]))
        with pytest.raises(RuntimeError, match="tokenization has no gradient"):
            tokens.radius.sum().backward()

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("offsets", [[0, 4, 3], [-1, 3, 3], [2, 1, 3]])
    def test_offsets_outside_the_peaks_make_invalid_patterns_on_a_gpu(self, offsets: list[int]) -> None:
        peaks = torch.ones(3, 3, device="cuda")
        tokens = tokenize_arrays(*peaks, torch.tensor(offsets, device="cuda"), SPEC, length=4)
        assert tokens.count[0] == 0
        assert not tokens.valid[0]
