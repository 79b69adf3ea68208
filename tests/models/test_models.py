"""The models, their decoding and their checkpoints."""

import copy
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation
from torch.nn import functional

from helpers.example_phases import PHASES
from microinfer.crystals.symmetry import misorientation, random_orientations, zone_axis_frames, zone_axis_grid
from microinfer.models import ReferenceModel, load_model, save_model, shipped_models
from microinfer.models.base import NO_CRYSTAL
from microinfer.models.decode import TOP_CELLS, find_modes
from microinfer.models.inplane import ORDERS, peaks, waves_of_angle
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens, tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks

CUBIC = PHASES["Cu"].operators


def random_patterns(seed: int, count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    patterns = []
    for size in rng.integers(4, 20, count):
        radius, angle = rng.uniform(0.3, 1.9, size), rng.uniform(-np.pi, np.pi, size)
        patterns.append(
            np.column_stack([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(0.05, 1, size)])
        )
    return patterns


def tokens_of(patterns: list[np.ndarray], angle: float = 0.0) -> Tokens:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = [np.column_stack([pattern[:, :2] @ turn.T, pattern[:, 2]]) for pattern in patterns]
    return tokenize(BraggPeaks.from_patterns(turned, (len(turned), 1)))


def about_z(angle: float) -> np.ndarray:
    return Rotation.from_euler("z", angle).as_matrix()


def padded(tokens: Tokens, extra: int) -> Tokens:
    return Tokens(*(functional.pad(part, (0, extra)) if part.dim() == 2 else part for part in tokens))


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(-np.pi, np.pi))
def test_posterior_turns_with_the_pattern(small_model, seed, angle):
    patterns = random_patterns(seed)
    with torch.no_grad():
        plain, turned = small_model(tokens_of(patterns)), small_model(tokens_of(patterns, angle))
    torch.testing.assert_close(turned.logits, plain.logits, atol=2e-3, rtol=1e-3)
    # the density at phi of the pattern is the density at phi - angle of the cell's frame
    u = torch.complex(*plain.waves.double().chunk(2, -1))
    v = torch.complex(*turned.waves.double().chunk(2, -1))
    scale = float(u.abs().max())
    factor = torch.exp(1j * angle * torch.tensor(ORDERS, dtype=torch.float64))
    torch.testing.assert_close(v, u * factor, atol=1e-3 * scale, rtol=0)


@pytest.mark.parametrize("angle", [math.radians(2.0), 0.1, 1.234, -2.9])
def test_orientation_turns_with_the_pattern(small_model, angle):
    patterns = random_patterns(int(100 * abs(angle)), 24)
    with torch.no_grad():
        plain, turned = small_model.modes(tokens_of(patterns)), small_model.modes(tokens_of(patterns, angle))
    torch.testing.assert_close(turned.probability[:, 0], plain.probability[:, 0], atol=1e-3, rtol=0)
    expected = plain.matrix.double().numpy() @ about_z(angle).T
    distance = np.stack(
        [misorientation(turned.matrix[:, 0].numpy(), expected[:, mode], CUBIC) for mode in range(3)]
    )
    tied = (plain.probability[:, :1] - plain.probability < 1e-3).numpy().T
    assert np.where(tied, distance, np.inf).min(0).max() < 1e-3
    # the other sense of rotation is wrong
    assert np.median(misorientation(turned.matrix[:, 0].numpy(), plain.matrix[:, 0].numpy(), CUBIC)) > 0.03


def test_padding_does_not_change_the_answer(small_model):
    tokens = tokens_of(random_patterns(2, 12))
    with torch.no_grad():
        plain, longer = small_model(tokens), small_model(padded(tokens, 9))
        reference = ReferenceModel(ModelConfig("reference", width=32, blocks=1, heads=4), small_model.phases,
                                   TokenSpec()).eval()  # fmt: skip
        torch.testing.assert_close(reference(padded(tokens, 9)), reference(tokens), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(longer.logits, plain.logits, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(longer.waves, plain.waves, atol=1e-3, rtol=1e-3)


def test_predictions_are_rotations_with_a_probability(small_model, scan):
    tokens = tokenize(scan)
    with torch.no_grad():
        prediction = small_model.predict(tokens)
    matrix = prediction.matrix.double()
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand_as(matrix), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(len(matrix)).double(), atol=1e-5, rtol=0)
    assert ((prediction.confidence >= 0) & (prediction.confidence <= 1)).all()
    assert not prediction.valid[~tokens.valid].any()
    assert prediction.valid.any()


def test_pattern_without_crystal_has_no_answer(small_model):
    model = copy.deepcopy(small_model)
    model.cell_head[-1].bias.data[-1] = 1e4
    tokens = tokens_of(random_patterns(3))
    with torch.no_grad():
        assert small_model.predict(tokens).valid.all()
        assert not model.predict(tokens).valid.any()


def test_posterior_loss(small_model):
    model = copy.deepcopy(small_model)
    tokens = tokens_of(random_patterns(4, 24))
    label = torch.tensor(random_orientations(24, np.random.default_rng(4)), dtype=torch.float32)
    phase = torch.zeros(24, dtype=torch.long)
    output = model(tokens)
    loss = model.loss(output, label, phase)
    equivalent = torch.tensor(CUBIC, dtype=torch.float32) @ label
    torch.testing.assert_close(model.loss(output, equivalent, phase), loss, atol=1e-3, rtol=1e-3)
    other = model.loss(output, label @ torch.tensor(about_z(0.5), dtype=torch.float32), phase)
    assert abs((other - loss).item()) > 1e-2
    none = model.loss(output, label, torch.full((24,), NO_CRYSTAL))
    torch.testing.assert_close(none, -output.logits.log_softmax(-1)[:, -1].mean())
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


# decoding


def peak(angle: float, height: float = 40.0) -> torch.Tensor:
    """Waves of a density with one peak."""
    n = torch.tensor(ORDERS) * angle
    return height * torch.cat([n.cos(), -n.sin()])


def decode(logits, waves, frames, count=2):
    return find_modes(
        logits[None],
        waves[None],
        waves_of_angle(),
        torch.tensor(frames, dtype=torch.float32),
        torch.zeros(len(frames), dtype=torch.long),
        torch.tensor(CUBIC, dtype=torch.float32)[None],
        count,
    )


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return zone_axis_frames(zone_axis_grid(CUBIC, 6.0))


@pytest.mark.parametrize("size", [1.0, 30.0, 100.0, 300.0])
def test_large_waves_cost_the_masses_of_peaks_no_digits(size):
    random = torch.randn(1000, len(ORDERS), 2, generator=torch.Generator().manual_seed(1))
    waves = size * (random / torch.tensor(ORDERS)[:, None] ** 1.5).mT.flatten(1)
    found, exact = (
        peaks(waves.to(dtype), waves_of_angle().to(dtype))[1].double().sort(descending=True).values
        for dtype in (torch.float32, torch.float64)
    )
    error = (found / exact - 1.0).abs()[exact > 1e-6]
    assert error.median() < 3e-7
    assert error.quantile(0.99) < 3e-5


@pytest.mark.parametrize("angle", [0.0, 0.011, 1.0, 3.1, -2.4])
def test_one_peak_is_found_where_it_is(frames, angle):
    logits = torch.full((len(frames) + 1,), -50.0)
    logits[5] = 0.0
    modes = decode(logits, peak(angle).repeat(len(frames), 1), frames)
    error = misorientation(modes.matrix[:, 0].numpy(), (frames[5] @ about_z(angle))[None], CUBIC)
    assert np.degrees(error[0]) < 0.2
    assert float(modes.probability[0, 0]) > 0.97
    assert float(modes.probability[0, 1]) < 0.02


def test_two_far_peaks_share_the_probability(frames):
    target = np.stack([frames[3] @ about_z(0.7), frames[-2] @ about_z(-1.9)])
    assert np.degrees(misorientation(target[:1], target[1:], CUBIC)[0]) > 15
    logits = torch.full((len(frames) + 1,), -50.0)
    logits[[3, len(frames) - 2]] = 0.0
    waves = torch.zeros(len(frames), 2 * len(ORDERS))
    waves[3], waves[-2] = peak(0.7), peak(-1.9)
    modes = decode(logits, waves, frames)
    np.testing.assert_allclose(modes.probability[0], [0.5, 0.5], atol=0.02)
    error = misorientation(np.repeat(modes.matrix[0].numpy(), 2, 0), np.tile(target, (2, 1, 1)), CUBIC)
    assert np.degrees(error.reshape(2, 2).min(0)).max() < 0.2


def test_equivalent_peaks_of_a_stabiliser_are_one_mode():
    waves = torch.zeros(1, 2 * len(ORDERS))
    waves[0, ORDERS.index(4)] = 200.0  # four peaks about [001]
    modes = decode(torch.tensor([0.0, -50.0]), waves, np.eye(3)[None])
    assert float(modes.probability[0, 0]) > 0.97
    assert np.degrees(misorientation(modes.matrix[:, 0].numpy(), np.eye(3)[None], CUBIC)[0]) < 0.2


@pytest.mark.parametrize("first", [0, TOP_CELLS - 1])
def test_of_two_equal_cells_none_decides(first):
    """Neither for the heaviest of a mode's candidates, nor for the last of the cells that are looked at."""
    frames = zone_axis_frames(zone_axis_grid(CUBIC, 2.0))
    for target in frames[::7] @ about_z(0.4):
        cells = np.argsort(-frames[:, :, 2] @ target[:, 2])[: TOP_CELLS + 3]
        relative = frames[cells].transpose(0, 2, 1) @ target
        angles = np.arctan2(relative[:, 1, 0] - relative[:, 0, 1], relative[:, 0, 0] + relative[:, 1, 1])
        waves = torch.zeros(len(frames), 2 * len(ORDERS))
        waves[cells] = torch.stack([peak(float(angle)) for angle in angles])
        logits = torch.full((len(frames) + 1,), -50.0)
        logits[cells] = torch.linspace(1.0, 0.0, len(cells))
        logits[cells[first + 1]] = logits[cells[first]]
        found = []
        for more_probable in cells[first : first + 2]:
            changed = logits.clone()
            changed[more_probable] += 1e-5
            found.append(decode(changed, waves, frames, count=1))
        one, two = found
        error = misorientation(one.matrix[:, 0].numpy(), two.matrix[:, 0].numpy(), np.eye(3)[None])
        assert error[0] < 1e-4
        torch.testing.assert_close(one.probability, two.probability, atol=1e-4, rtol=0)


@pytest.mark.parametrize("third", [-3.3, -3.6, 5.3])
def test_which_of_two_equal_candidates_is_the_heaviest_does_not_count(third):
    """Though a third one, which leads as well, is beyond the full lead of one of them."""
    found = []
    for heaviest in (0, 1):
        frames = np.stack(
            [Rotation.from_euler("x", tilt).as_matrix() for tilt in np.radians([0.0, 2.0, third])]
        )
        logits = torch.tensor([0.0, 0.0, -0.1, -50.0])
        logits[heaviest] += 1e-5
        found.append(decode(logits, peak(0.3).repeat(3, 1), frames, count=1))
    one, two = found
    error = misorientation(one.matrix[:, 0].numpy(), two.matrix[:, 0].numpy(), np.eye(3)[None])
    assert error[0] < 1e-5
    torch.testing.assert_close(one.probability, two.probability, atol=1e-4, rtol=0)


def test_a_candidate_leaves_a_mode_smoothly():
    """It is as heavy as the heaviest one, and moves beyond the radius."""
    found = []
    for edge in (-1e-3, 1e-3):
        tilt = np.radians([0.0, 7.0 + edge, 3.0])
        frames = np.stack([Rotation.from_euler("x", angle).as_matrix() for angle in tilt])
        logits = torch.tensor([0.0, -0.01, -0.4, -50.0])
        found.append(decode(logits, peak(0.3).repeat(3, 1), frames, count=1))
    one, two = found
    error = misorientation(one.matrix[:, 0].numpy(), two.matrix[:, 0].numpy(), np.eye(3)[None])
    assert error[0] < 1e-3


def test_cells_that_cannot_be_leave_the_answer_alone(frames):
    logits = torch.full((len(frames) + 1,), -50.0)
    logits[[5, 9]] = torch.tensor([0.0, -3.0])
    waves = peak(0.4).repeat(len(frames), 1)
    expected = decode(logits, waves, frames)
    logits[logits < -40.0] = -torch.inf
    torch.testing.assert_close(decode(logits, waves, frames), expected)


def test_equal_cells_are_no_obstacle(frames):
    modes = decode(torch.zeros(len(frames) + 1), peak(0.4).repeat(len(frames), 1), frames)
    assert modes.matrix.isfinite().all()
    assert 0.0 < float(modes.probability[0, 0]) < 1.0


def test_probability_of_no_crystal():
    modes = decode(torch.tensor([0.0, math.log(3.0)]), peak(0.3)[None], np.eye(3)[None])
    assert float(modes.no_crystal[0]) == pytest.approx(0.75)
    assert float(modes.probability[0, 0]) == pytest.approx(0.25, abs=0.01)


# the reference model


def test_reference_model_regresses_rotations():
    torch.manual_seed(0)
    config = ModelConfig("reference", width=32, blocks=1, heads=4)
    model = ReferenceModel(config, (PHASES["Cu"],), TokenSpec())
    tokens = tokens_of(random_patterns(8))
    output = model(tokens)
    identity = torch.eye(3).expand(6, 3, 3)
    torch.testing.assert_close(output.matrix @ output.matrix.mT, identity, atol=1e-5, rtol=0)
    assert (torch.linalg.det(output.matrix) > 0).all()
    label = torch.tensor(random_orientations(6, np.random.default_rng(0)), dtype=torch.float32)
    phase = torch.tensor([0, 0, 0, 0, 0, NO_CRYSTAL])
    loss = model.loss(output, label, phase)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    without = type(output)(output.matrix[:5], output.determined[:5], output.phase_logits[:5])
    torch.testing.assert_close(model.loss(without, label[:5], phase[:5]), loss)


def test_tables_of_the_reference_model_are_exact():
    model = ReferenceModel(
        ModelConfig("reference", width=32, blocks=1, heads=4), (PHASES["Cu"],), TokenSpec()
    )
    for table, base in ((model.radius_table, 5000.0), (model.intensity_table, 10000.0)):
        for index, value in np.ndenumerate(table.numpy()):
            wave = math.cos if index[1] % 2 else math.sin
            assert abs(value - wave(index[0] / base ** (2 * index[1] / 32))) < 2**-24, index


# checkpoints


def rewrite(path, change):
    """Change a checkpoint's header in place."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["microinfer"])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(header)
    save_file(weights, path, metadata={"microinfer": json.dumps(header)})


def test_checkpoint_round_trip(small_model, tmp_path):
    path = tmp_path / "small.safetensors"
    small_model = copy.deepcopy(small_model)
    small_model.calibration = (1.3, -0.2)
    save_model(path, small_model)
    loaded = load_model(path)
    assert loaded.calibration == (1.3, -0.2)
    tokens = tokens_of(random_patterns(9))
    with torch.no_grad():
        for one, two in zip(small_model.predict(tokens), loaded.predict(tokens), strict=True):
            torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert not loaded.training
    assert (loaded.card, loaded.spec, loaded.config) == (
        small_model.card,
        small_model.spec,
        small_model.config,
    )
    assert loaded.phases[0].to_dict() == small_model.phases[0].to_dict()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_damaged_and_foreign_checkpoints_are_refused(small_model, tmp_path):
    path = tmp_path / "small.safetensors"
    save_model(path, small_model)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"small\.safetensors"):
        load_model(path)
    path.write_bytes(b"\xff" * 64 + whole[64:])
    with pytest.raises(ValueError, match=r"small\.safetensors"):
        load_model(path)
    path.write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ValueError, match=r"small\.safetensors"):
        load_model(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"small\.safetensors.*not a microinfer checkpoint"):
        load_model(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_model(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(version=99), "version 99"),
        (lambda header: header.update(format="other"), "not a usable"),
        (lambda header: header.pop("phases"), "phases"),
        (lambda header: header["model"].update(width=64), "not a usable"),
    ],
)
def test_checkpoints_with_another_header_are_refused(small_model, tmp_path, change, message):
    path = tmp_path / "small.safetensors"
    save_model(path, small_model)
    rewrite(path, change)
    with pytest.raises(ValueError, match=rf"small\.safetensors.*{message}"):
        load_model(path)


def test_shipped_models_are_named_by_their_files():
    assert all(path.is_file() and path.stem == name for name, path in shipped_models().items())


def test_prediction_needs_neither_orix_nor_py4dstem(small_model, tmp_path):
    path = tmp_path / "small.safetensors"
    save_model(path, small_model)
    script = f"""
import sys
for name in ("orix", "py4DSTEM", "matplotlib", "diffpy"):
    sys.modules[name] = None
import numpy as np
from microinfer.models import load_model
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.ops.tokens import tokenize
peaks = BraggPeaks.from_patterns([np.array([[0.5, 0.1, 1.0], [0.2, -0.6, 0.5], [-0.5, -0.1, 0.9]])], (1, 1))
print(load_model({str(path)!r}).predict(tokenize(peaks)).valid.tolist())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[True]", result.stderr
