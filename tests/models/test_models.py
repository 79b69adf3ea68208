"""The networks, their decoding and their checkpoints."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch.nn import functional

from helpers.agreement import of_rank, require_agreement
from helpers.example_models import odd_model
from helpers.example_phases import PHASES
from helpers.patterns import about_z, random_patterns, scan_of
from microinfer.crystals.symmetry import misorientation, random_orientations, zone_axis_frames, zone_axis_grid
from microinfer.mapping.inference import Inference
from microinfer.models import Model, load_model, shipped_models
from microinfer.models.decode import ORDERS, density_of_waves, find_modes
from microinfer.models.network import NO_CRYSTAL, build_network
from microinfer.ops.tokens import Tokens, tokenize

CUBIC = PHASES["Cu"].operators
KINDS = ["posterior", "reference"]


def padded(tokens: Tokens, extra: int) -> Tokens:
    return Tokens(*(functional.pad(part, (0, extra)) if part.dim() == 2 else part for part in tokens))


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(-np.pi, np.pi))
def test_posterior_turns_with_the_pattern(small_model, seed, angle):
    network, patterns = small_model.network(), random_patterns(seed)
    with torch.no_grad():
        plain, turned = (network(tokenize(scan_of(patterns, by))) for by in (0.0, angle))
    torch.testing.assert_close(turned.logits, plain.logits, atol=2e-3, rtol=1e-3)
    # the density at phi of the pattern is the density at phi - angle of the cell's frame
    u = torch.complex(*plain.waves.double().chunk(2, -1))
    v = torch.complex(*turned.waves.double().chunk(2, -1))
    factor = torch.exp(1j * angle * torch.tensor(ORDERS, dtype=torch.float64))
    torch.testing.assert_close(v, u * factor, atol=1e-3 * float(u.abs().max()), rtol=0)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])  # in the core and in torch
@pytest.mark.parametrize("angle", np.radians([2.0, 70.0, -166.0]))
def test_answers_turn_with_the_pattern(small_model, device, angle):
    # by steps of the density's grid, between which the masses of an untrained model's peaks differ
    infer, patterns = Inference(small_model, device), random_patterns(int(100 * abs(angle)), 200)
    plain, turned = (infer(scan_of(patterns, by)).arrays for by in (0.0, angle))
    valid = plain.pop("valid"), turned.pop("valid")
    found = of_rank(turned, 0)
    still = misorientation(found["matrix"][valid[0]], plain["matrix"][valid[0], 0], CUBIC)
    assert np.median(still) > 0.03
    plain["matrix"] = plain["matrix"] @ about_z(angle).T
    require_agreement(small_model, found, valid[1], plain, valid[0])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_the_answer(kind):
    network, tokens = odd_model(kind).network(), tokenize(scan_of(random_patterns(2, 12)))
    with torch.no_grad():
        for plain, longer in zip(network(tokens), network(padded(tokens, 9)), strict=True):
            torch.testing.assert_close(longer, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_ranked_rotations(kind):
    model = odd_model(kind)
    with torch.no_grad():
        found = model.network().candidates(tokenize(scan_of(random_patterns(5, 50))))
    exists = found.valid[:, None] & ((found.probability > 0) | (kind == "reference"))
    assert exists.shape == (50, model.core().candidates)
    matrix = found.matrix[exists].double()
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand_as(matrix), atol=1e-5, rtol=0)
    assert (torch.linalg.det(matrix) > 0).all()
    assert (found.probability.diff(dim=1) <= 0).all()
    assert (found.probability.sum(1) <= 1.0 + 1e-5).all()
    assert set(found.phase[exists].tolist()) == {0, 1}


def test_pattern_without_crystal_has_no_answer(small_model):
    network, tokens = small_model.network(), tokenize(scan_of(random_patterns(3)))
    with torch.no_grad():
        assert network.candidates(tokens).valid.all()
        network.cell_head[-1].bias[-1] = 1e4
        assert not network.candidates(tokens).valid.any()


# training


@pytest.mark.parametrize("kind", KINDS)
def test_loss_sees_no_symmetry_and_has_gradients(kind):
    network, tokens = odd_model(kind).network(), tokenize(scan_of(random_patterns(4, 24)))
    label = torch.tensor(random_orientations(24, np.random.default_rng(4))).float()
    phase = torch.zeros(24, dtype=torch.long)
    output = network(tokens)
    loss = network.loss(output, label, phase)
    torch.testing.assert_close(network.loss(output, torch.tensor(CUBIC).float() @ label, phase), loss)
    turned = network.loss(output, label @ torch.tensor(about_z(0.5)).float(), phase)
    assert abs((turned - loss).item()) > 1e-2
    nothing = -output.logits.log_softmax(-1)[:, -1].mean() if kind == "posterior" else torch.tensor(0.0)
    torch.testing.assert_close(network.loss(output, label, torch.full((24,), NO_CRYSTAL)), nothing)
    mixed = network.loss(output, label, torch.tensor([0, 1, NO_CRYSTAL] * 8))
    mixed.backward()
    assert mixed.isfinite()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_lower_the_loss(kind):
    model, tokens = odd_model(kind), tokenize(scan_of(random_patterns(6, 16)))
    label = torch.tensor(random_orientations(16, np.random.default_rng(6))).float()
    phase = torch.arange(16) % 2
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_network(model.config, model.phases, model.spec)
    optimizer, losses = torch.optim.AdamW(network.parameters(), lr=2e-3), []
    for _ in range(40):
        loss = network.loss(network(tokens), label, phase)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


# decoding


def peak(angle: float, height: float = 40.0) -> torch.Tensor:
    """Waves of a density with one peak."""
    n = torch.tensor(ORDERS) * angle
    return height * torch.cat([n.cos(), -n.sin()])


def decode(logits, waves, frames):
    return find_modes(
        logits[None],
        waves[None],
        density_of_waves(),
        torch.tensor(frames, dtype=torch.float32),
        torch.zeros(len(frames), dtype=torch.long),
        torch.tensor(CUBIC, dtype=torch.float32)[None],
    )


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return zone_axis_frames(zone_axis_grid(CUBIC, 6.0))


@pytest.mark.parametrize("angle", [0.0, 0.011, 1.0, 3.1, -2.4])
def test_one_peak_is_found_where_it_is(frames, angle):
    logits = torch.full((len(frames) + 1,), -50.0)
    logits[5] = 0.0
    modes = decode(logits, peak(angle).repeat(len(frames), 1), frames)
    error = misorientation(modes.matrix[:, 0].numpy(), (frames[5] @ about_z(angle))[None], CUBIC)
    assert np.degrees(error[0]) < 0.2
    assert modes.probability[0, 0] > 0.97
    assert modes.probability[0, 1] < 0.02


def test_two_far_peaks_share_the_probability(frames):
    target = np.stack([frames[3] @ about_z(0.7), frames[-2] @ about_z(-1.9)])
    assert np.degrees(misorientation(target[:1], target[1:], CUBIC)[0]) > 15
    logits = torch.full((len(frames) + 1,), -50.0)
    logits[[3, len(frames) - 2]] = 0.0
    waves = torch.zeros(len(frames), 2 * len(ORDERS))
    waves[3], waves[-2] = peak(0.7), peak(-1.9)
    modes = decode(logits, waves, frames)
    np.testing.assert_allclose(modes.probability[0, :2], [0.5, 0.5], atol=0.02)
    error = misorientation(np.repeat(modes.matrix[0, :2].numpy(), 2, 0), np.tile(target, (2, 1, 1)), CUBIC)
    assert np.degrees(error.reshape(2, 2).min(0)).max() < 0.2


def test_equivalent_peaks_of_a_stabiliser_are_one_mode():
    waves = torch.zeros(1, 2 * len(ORDERS))
    waves[0, ORDERS.index(4)] = 200.0  # four peaks about [001]
    modes = decode(torch.tensor([0.0, -50.0]), waves, np.eye(3)[None])
    assert modes.probability[0, 0] > 0.97
    assert np.degrees(misorientation(modes.matrix[:, 0].numpy(), np.eye(3)[None], CUBIC)[0]) < 0.2


def test_equal_and_impossible_cells_are_no_obstacle(frames):
    logits = torch.zeros(len(frames) + 1)
    logits[::3] = -torch.inf
    modes = decode(logits, peak(0.4).repeat(len(frames), 1), frames)
    assert modes.matrix.isfinite().all()
    assert 0.0 < modes.probability[0, 0] < 1.0


@pytest.mark.parametrize(("odds", "valid"), [(3.0, False), (0.5, True)])
def test_no_crystal_is_an_answer_of_its_own(odds, valid):
    modes = decode(torch.tensor([0.0, math.log(odds)]), peak(0.3)[None], np.eye(3)[None])
    assert float(modes.probability[0, 0]) == pytest.approx(1 / (1 + odds), abs=0.01)
    assert modes.valid.tolist() == [valid]


# checkpoints


@pytest.fixture
def path(small_model, tmp_path):
    small_model.save(tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def rewrite(path, model, change, leave_out=()):
    """Save a model again with another header, and without some of its arrays."""
    header = json.loads(model.header)
    change(header)
    weights = {name: values for name, values in model.weights.items() if name not in leave_out}
    save_file(weights, path, metadata={"microinfer": json.dumps(header)})


def test_checkpoint_round_trip(small_model, tmp_path, path):
    replace(small_model, calibration=(1.3, 0.9, -0.2)).save(path)
    loaded = load_model(path)
    assert loaded.calibration == (1.3, 0.9, -0.2)
    for name in ("card", "spec", "config"):
        assert getattr(loaded, name) == getattr(small_model, name)
    assert loaded.phases[0].to_dict() == small_model.phases[0].to_dict()
    assert loaded.weights.keys() == small_model.weights.keys()
    for name, values in loaded.weights.items():
        np.testing.assert_array_equal(values, small_model.weights[name])
    assert (loaded.name, loaded.voltage, loaded.k_max) == ("small", 300e3, 2.0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_slope_and_offset_of_older_checkpoints_load(small_model, path):
    rewrite(path, small_model, lambda header: header.update(calibration=[1.3, -0.2]))
    loaded = load_model(path)
    assert loaded.calibration == (1.3, 1.3, -0.2)
    assert json.loads(loaded.header)["calibration"] == [1.3, 1.3, -0.2]


def test_digest_tells_models_apart(small_model, path):
    assert load_model(path).digest == small_model.digest
    name, values = next(iter(small_model.weights.items()))
    for other in (
        replace(small_model, weights=small_model.weights | {name: values + 1e-3}),
        replace(small_model, calibration=(1.1, 1.0, 0.0)),
    ):
        assert other.digest != small_model.digest


def test_a_model_is_no_view_of_its_network(small_model):
    network = small_model.network()
    model = Model.of(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    for name, values in model.weights.items():
        np.testing.assert_array_equal(values, small_model.weights[name])


def test_checkpoints_of_version_1_load(small_model, path):
    rewrite(path, small_model, lambda header: header.update(version=1), leave_out=("cells", "cell_phase"))
    loaded = load_model(path)
    for name, values in small_model.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], values)


def test_damaged_and_foreign_checkpoints_are_refused(small_model, path):
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"\xff" * 64 + whole[64:], pickle.dumps({"weights": 1})):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"small\.safetensors"):
            load_model(path)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"small\.safetensors.*not a microinfer checkpoint"):
        load_model(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*shipped model \(cu"):
        load_model(path.with_name("nowhere.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(version=99), "version 99"),
        (lambda header: header.update(format="other"), "not a usable"),
        (lambda header: header.pop("phases"), "phases"),
        (lambda header: header["model"].update(heads=7), "not a usable"),
    ],
)
def test_checkpoints_with_another_header_are_refused(small_model, path, change, message):
    rewrite(path, small_model, change)
    with pytest.raises(ValueError, match=rf"small\.safetensors.*{message}"):
        load_model(path)


def test_shipped_models_are_named_by_their_files():
    assert {"cu", "cu-cu2o"} <= set(shipped_models())
    assert all(path.is_file() and path.stem == name for name, path in shipped_models().items())
