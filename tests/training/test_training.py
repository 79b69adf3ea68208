"""Augmentation and the training loop."""

import dataclasses
import json
import sys
from itertools import takewhile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.optional import import_py4dstem
from microinfer.mapping import map_orientations
from microinfer.models import load_model
from microinfer.models.network import NO_CRYSTAL
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens
from microinfer.simulation import PatternLibrary, simulate_library
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.training import train, trainer
from microinfer.training.augmentation import CHUNK_BATCHES, augmented, training_batches, turned
from microinfer.training.calibration import CERTAIN, fit_beta
from microinfer.training.config import AugmentationConfig, Config, TrainingConfig
from microinfer.training.folder import read_library

SPEC = TokenSpec()
CONFIG = Config(
    "tiny",
    (PhaseConfig("Cu"),),
    SimulationConfig(zone_axes=60, thicknesses=2, method="kinematic", k_max=1.3),
    SPEC,
    ModelConfig(width=32, blocks=1, heads=4, zone_axis_spacing=8.0, channels=8),
    AugmentationConfig(),
    TrainingConfig(samples=6000, batch_size=48, warmup_steps=10, validation_share=0.3, learning_rate=4e-3),
)
QUIET = AugmentationConfig(
    **{field.name: 0.0 for field in dataclasses.fields(AugmentationConfig) if field.type is float}
)


@pytest.fixture(scope="module")
def library() -> PatternLibrary:
    import_py4dstem()
    return simulate_library(CONFIG, processes=1)


@pytest.fixture(scope="module")
def everything(library) -> np.ndarray:
    return np.arange(len(library))


def farthest_from_a_reflection(tokens: Tokens, orientation, phase) -> float:
    """Largest distance of a disk from the nearest reflection that its label projects there, in 1/Angstrom."""
    g = torch.tensor(phase.reflections[:, :3] @ phase.reciprocal)
    projected = (g @ orientation.double())[..., :2]  # rows of M.T @ g, (B, M, 2)
    disks = torch.stack([tokens.angle.cos(), tokens.angle.sin()], -1) * tokens.radius[..., None]
    return float(torch.cdist(disks.double(), projected).amin(-1)[tokens.mask].max())


def test_turned_patterns_keep_to_their_labels(library, everything):
    batch = turned(library, everything, SPEC, seed=4)
    assert batch.tokens.valid.all()
    assert farthest_from_a_reflection(batch.tokens, batch.orientation, library.phases[0]) < 1e-3
    # the beam direction stays, everything about it is turned by angles of its own
    plain = torch.tensor(library.orientation)
    torch.testing.assert_close(batch.orientation[:, :, 2], plain[:, :, 2], atol=1e-5, rtol=0)
    relative = plain.mT @ batch.orientation  # Rz(phi) transposed
    phi = torch.atan2(relative[:, 0, 1], relative[:, 0, 0])
    assert phi.std() > 1.0
    assert farthest_from_a_reflection(batch.tokens, plain, library.phases[0]) > 0.05


def test_augmentation_turned_off_changes_nothing_but_the_turn(library, everything):
    rng = np.random.default_rng(0)
    batch = augmented(library, everything, SPEC, QUIET, rng)
    assert farthest_from_a_reflection(batch.tokens, batch.orientation, library.phases[0]) < 1e-3
    np.testing.assert_array_equal(batch.tokens.count, np.minimum(library.peaks.counts, SPEC.max_disks))
    np.testing.assert_array_equal(batch.phase, library.phase)


def test_augmentation_disturbs_positions_and_intensities(library, everything):
    plain = augmented(library, everything, SPEC, QUIET, np.random.default_rng(0))

    def change(**values):
        return augmented(
            library, everything, SPEC, dataclasses.replace(QUIET, **values), np.random.default_rng(0)
        )

    for name, value, low, high in (
        ("position_jitter", 0.01, 0.01, 0.1),
        ("radial_jitter", 0.01, 0.01, 0.06),
        ("angular_jitter", 1.0, 0.01, 0.1),
        ("scale_error", 0.01, 0.004, 0.06),
        ("ellipticity", 0.01, 0.004, 0.06),
        ("centre_shift", 0.01, 0.005, 0.06),
    ):
        moved = change(**{name: value})
        distance = farthest_from_a_reflection(moved.tokens, moved.orientation, library.phases[0])
        assert low < distance < high, name
    radii = change(angular_jitter=1.0).tokens.radius
    assert (radii - plain.tokens.radius).abs().max() < 1e-5  # along the circle only
    compressed = change(compress=1.0).tokens
    assert (compressed.intensity >= plain.tokens.intensity).all()
    assert (
        compressed.intensity[compressed.mask].mean() > 1.3 * plain.tokens.intensity[plain.tokens.mask].mean()
    )
    flat = change(flatten=1.0).tokens
    assert (flat.intensity[flat.mask] == 1.0).all()
    lost = change(lose_weak=1.0, lose_weak_threshold=0.5).tokens.count
    assert (lost <= plain.tokens.count).all()
    assert lost.sum() < plain.tokens.count.sum()
    added = change(false_disks=5.0).tokens.count
    assert added.sum() > plain.tokens.count.sum() + len(added)
    hidden = change(beam_stop=1.0).tokens.count
    assert 0.75 * plain.tokens.count.sum() < hidden.sum() < plain.tokens.count.sum()
    edged = change(cropped=0.25, edge_range=(0.8, 0.8)).tokens
    clipped = (edged.radius * edged.mask).amax(1) <= 0.8
    assert 0.05 < clipped.float().mean() < 0.6


def test_patterns_of_false_disks_are_labelled_no_crystal(library, everything):
    everywhere = dataclasses.replace(QUIET, no_crystal=1.0)
    batch = augmented(library, everything, SPEC, everywhere, np.random.default_rng(1))
    assert (batch.phase == NO_CRYSTAL).all()
    some = dataclasses.replace(QUIET, no_crystal=0.5)
    batch = augmented(library, everything, SPEC, some, np.random.default_rng(1))
    share = (batch.phase == NO_CRYSTAL).float().mean()
    assert 0.25 < share < 0.75
    crystal = batch.phase != NO_CRYSTAL
    with_crystal = Tokens(*(part[crystal] for part in batch.tokens))
    assert farthest_from_a_reflection(with_crystal, batch.orientation[crystal], library.phases[0]) < 1e-3


def chunk(library, number, seed=0, first=None):
    """All batches of one chunk of the stream that begins at chunk `first`."""
    members = np.arange(0, len(library), 2)
    stream = training_batches(
        library, members, SPEC, CONFIG.augmentation, 8, seed, number if first is None else first
    )
    return [batch for index, batch in takewhile(lambda item: item[0] <= number, stream) if index == number]


def test_chunks_depend_on_seed_and_number_alone(library):
    from_start, direct = chunk(library, 1, first=0), chunk(library, 1)
    assert len(from_start) == len(direct) > CHUNK_BATCHES / 2
    for one, two in zip(from_start, direct, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.tokens, two.tokens, strict=True))
        assert torch.equal(one.orientation, two.orientation)
        assert torch.equal(one.phase, two.phase)
    for other in (chunk(library, 2), chunk(library, 1, seed=1)):
        assert not torch.equal(other[0].orientation, direct[0].orientation)


def test_batches_hold_patterns_of_nearly_equal_length(library):
    batches = chunk(library, 0)
    spread = [int(batch.tokens.count.max() - batch.tokens.count.min()) for batch in batches]
    counts = torch.cat([batch.tokens.count for batch in batches])
    # in order of length the batches' ranges do not overlap
    assert sum(spread) <= int(counts.max() - counts.min())
    for batch in batches:
        assert batch.tokens.valid.all()
        assert batch.tokens.radius.shape[1] == int(batch.tokens.count.max())
        assert len(batch.phase) <= 8


def log_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, train(CONFIG, folder, library=library, device="cpu")


def test_training_lowers_the_validation_loss(trained):
    folder, checkpoint = trained
    assert sorted(file.name for file in folder.iterdir()) == ["log.jsonl", "state.pt", "tiny.safetensors"]
    log = log_of(folder)
    assert len(log) >= trainer.VALIDATIONS - 1
    assert log[-1]["samples"] >= CONFIG.training.samples
    assert log[-1]["validation_loss"] < log[0]["validation_loss"] - 0.5
    best = min(log, key=lambda record: record["validation_loss"])
    card = load_model(checkpoint).card
    assert card["validation"]["samples_seen"] == best["samples"]
    assert Config.from_dict(card["recipe"]) == CONFIG
    assert (card["name"], card["k_max"]) == ("tiny", CONFIG.simulation.k_max)


def test_validation_zone_axes_are_not_trained_on(library):
    members, held_out = trainer.split(library, TrainingConfig(validation_share=0.3))
    assert not set(library.zone[members]) & set(library.zone[held_out])
    assert len(held_out) == 36 == len(library) - len(members)
    of_patterns = TrainingConfig(validation_share=0.3, validation_split="patterns")
    members, held_out = trainer.split(library, of_patterns)
    assert sorted([*members, *held_out]) == list(range(len(library)))
    assert len(held_out) == round(0.3 * len(library))
    assert set(library.zone[members]) & set(library.zone[held_out])
    with pytest.raises(ValueError, match=r"0\.999 leaves none of the library's 60 zone axes"):
        trainer.split(library, TrainingConfig(validation_share=0.999))


def test_interrupted_training_goes_on(library, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, samples=2000))
    update, calls = trainer.Run.update, []

    def interrupted(run, batch):
        calls.append(run.samples)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return update(run, batch)

    monkeypatch.setattr(trainer.Run, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, library=library, device="cpu")
    assert 0 < log_of(tmp_path)[-1]["samples"] < calls[-1] < 1000
    path = train(config, tmp_path, library=library, device="cpu", resume=True)
    assert calls[20] == calls[19]  # from the very step
    samples = [record["samples"] for record in log_of(tmp_path)]
    assert samples == sorted(set(samples))
    assert samples[-1] >= 2000
    assert load_model(path).card["validation"]["samples_seen"] in samples


def test_a_training_that_is_interrupted_as_it_validates_validates_again(library, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, samples=400))
    validate, calls = trainer.Run.validate, []

    def interrupted(run):
        calls.append(run.samples)
        first_at_the_end = run.samples >= 400 and calls.count(run.samples) == 1
        if len(calls) == 3 or first_at_the_end:
            raise KeyboardInterrupt
        return validate(run)

    monkeypatch.setattr(trainer.Run, "validate", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path, library=library, device="cpu", resume=bool(calls))
        unfinished = load_model(next(tmp_path.glob("*.safetensors"))).card["unfinished"]
        assert unfinished.endswith(" of 400 samples")
    path = train(config, tmp_path, library=library, device="cpu", resume=True)
    assert calls[2] == calls[3]
    assert calls[-1] == calls[-2]
    assert [record["samples"] for record in log_of(tmp_path)] == sorted(set(calls))
    card = load_model(path).card
    assert "verdict" in card
    assert "unfinished" not in card


def test_a_training_is_not_overwritten(trained, library):
    folder, checkpoint = trained
    before = (folder / "log.jsonl").read_bytes(), checkpoint.read_bytes()
    with pytest.raises(FileExistsError, match="holds a training; --resume goes on with it; move it away"):
        train(CONFIG, folder, library=library, device="cpu")
    assert ((folder / "log.jsonl").read_bytes(), checkpoint.read_bytes()) == before


def test_a_reference_model_stays_without_confidence(library, tmp_path):
    config = dataclasses.replace(
        CONFIG,
        model=ModelConfig(kind="reference", width=32, blocks=1, heads=4),
        training=dataclasses.replace(CONFIG.training, samples=400),
    )
    model = load_model(train(config, tmp_path, library=library, device="cpu"))
    assert model.calibration == (1.0, 1.0, 0.0)
    for refine in (None, "kinematic"):
        with pytest.warns(UserWarning, match="its training found it not good enough to map with"):
            omap = map_orientations(library.peaks, model, device="cpu", refine=refine)
        assert omap.valid.any()
        assert (omap.confidence[omap.valid] == 0.0).all()


def test_only_its_own_training_is_resumed(trained, library, tmp_path):
    other = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, learning_rate=1e-3))
    with pytest.raises(ValueError, match=r"state\.pt: the training was begun with other settings: .*, now "):
        train(other, trained[0], library=library, device="cpu", resume=True)
    with pytest.raises(FileNotFoundError, match=r"state\.pt: nothing to resume"):
        train(CONFIG, tmp_path, library=library, device="cpu", resume=True)


def test_library_of_another_simulation_or_crystal_is_refused(library, tmp_path, monkeypatch):
    library.save(tmp_path / "library.h5")
    # names of crystals are compared without the packages of the simulation
    monkeypatch.setitem(sys.modules, "py4DSTEM.process.diffraction", None)
    assert read_library(CONFIG, tmp_path) is not None
    for change, said in (
        ({"voltage": 200e3}, r"voltage 300000\.0, now 200000\.0"),
        ({"thickness_nm": (1.0, 301.0)}, r"thickness_nm \[\[1\.0, .*\]\], now \[\[1\.0, 301\.0\]\]"),
    ):
        other = dataclasses.replace(CONFIG, simulation=dataclasses.replace(CONFIG.simulation, **change))
        with pytest.raises(
            ValueError, match=rf"library\.h5: was simulated with other settings: {said}; move"
        ):
            train(other, tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"library\.h5: holds patterns of Cu, not of Cu2O"):
        train(CONFIG.for_structures("Cu2O"), tmp_path, device="cpu")


def test_a_library_of_thicknesses_in_lattice_constants_is_the_same(library, tmp_path):
    library.save(tmp_path / "library.h5")
    low, high = (10.0 / 3.615 * bound for bound in CONFIG.simulation.thickness_nm)
    old = dataclasses.replace(CONFIG.simulation, thickness_nm=(5.0, 6.0), thickness_range=(low, high))
    assert len(read_library(dataclasses.replace(CONFIG, simulation=old), tmp_path)) == len(library)


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("lattice", lambda phase: (3.7, *phase.lattice[1:])),
        ("operators", lambda phase: phase.operators[:12]),
        ("reflections", lambda phase: phase.reflections * [1.0, 1.0, 1.0, 1.1]),  # as of other atoms
    ],
)
def test_library_of_a_namesake_is_refused(library, tmp_path, what, other):
    assert read_library(CONFIG, tmp_path) is None
    library.save(tmp_path / "library.h5")
    assert len(read_library(CONFIG, tmp_path)) == len(library)
    phase = dataclasses.replace(library.phases[0], **{what: other(library.phases[0])})
    dataclasses.replace(library, phases=(phase,)).save(tmp_path / "library.h5")
    with pytest.raises(ValueError, match=rf"library\.h5: the {what} of Cu are not those of the configured"):
        read_library(CONFIG, tmp_path)


def test_a_library_without_usable_patterns_is_refused(library, everything):
    spec = TokenSpec(min_disks=70)
    with pytest.raises(ValueError, match=r"0 of 512 patterns .* hold the 70 disks"):
        next(training_batches(library, everything, spec, QUIET, 8, seed=0))


# calibration


def test_log_odds_are_recovered():
    rng = np.random.default_rng(8)
    probability = rng.random(40_000)
    odds = 1.7 * np.log(probability / (1 - probability)) - 0.4
    right = rng.random(40_000) < 1 / (1 + np.exp(-odds))
    np.testing.assert_allclose(fit_beta(probability, right), (1.7, 1.7, -0.4), atol=0.06)


@given(seed=st.integers(0, 10**6), certain=st.floats(0.0, 0.9), wrong=st.floats(0.0, 0.3))
@settings(max_examples=30)
def test_calibration_is_no_worse_than_none_where_many_answers_are_certain(seed, certain, wrong):
    rng = np.random.default_rng(seed)
    probability = rng.random(12_000)
    right = rng.random(12_000) < probability
    sure = rng.random(12_000) < certain
    probability[sure], right[sure] = 1.0, rng.random(sure.sum()) >= wrong
    bounded = probability.clip(CERTAIN, 1.0 - CERTAIN)

    def negative_log_likelihood(at):
        logit = at[0] * np.log(bounded) - at[1] * np.log(1.0 - bounded) + at[2]
        return (np.logaddexp(0.0, logit) - right * logit).sum()

    found = np.array(fit_beta(probability, right))
    assert (found[:2] >= 0.0).all()
    assert negative_log_likelihood(found) <= negative_log_likelihood((1.0, 1.0, 0.0))
    for step in np.vstack([np.diag([0.01, 0.01, 0.03]), np.diag([-0.01, -0.01, -0.03])]):
        if (found + step)[:2].min() >= 0.0:
            assert negative_log_likelihood(found) < negative_log_likelihood(found + step) + 0.1


@pytest.mark.parametrize("truth", [(0.6, 2.3, -1.2), (2.0, 0.5, 0.3), (0.0, 1.5, -1.0)])
def test_odds_that_bend_are_recovered(truth):
    rng = np.random.default_rng(3)
    probability = rng.random(40_000)
    odds = truth[0] * np.log(probability) - truth[1] * np.log(1 - probability) + truth[2]
    right = rng.random(40_000) < 1 / (1 + np.exp(-odds))
    np.testing.assert_allclose(fit_beta(probability, right), truth, atol=0.12)


def test_probabilities_that_mislead_are_refused():
    rng = np.random.default_rng(2)
    probability = rng.random(1000)
    with pytest.raises(ValueError, match="more probable answers are not right more often"):
        fit_beta(probability, rng.random(1000) > probability)


def test_certain_answers_and_none_do_not_break_the_calibration():
    assert np.isfinite(fit_beta(np.array([0.0, 1.0, 1.0]), np.array([True, False, True]))).all()
    assert fit_beta(np.zeros(0), np.zeros(0, bool)) == (1.0, 1.0, 0.0)
    assert fit_beta(np.zeros(9), np.ones(9, bool)) == (1.0, 1.0, 0.0)


def test_training_calibrates_the_confidence(trained, library):
    model = load_model(trained[1])
    a, b, c = model.calibration
    assert model.calibration != (1.0, 1.0, 0.0)
    plain, calibrated = (
        map_orientations(library.peaks, each, device="cpu").confidence
        for each in (dataclasses.replace(model, calibration=(1.0, 1.0, 0.0)), model)
    )
    some = (plain > 0.01) & (plain < 0.99)
    assert some.any()
    odds = a * np.log(plain[some]) - b * np.log(1.0 - plain[some]) + c
    np.testing.assert_allclose(calibrated[some], 1.0 / (1.0 + np.exp(-odds)), atol=1e-4)
    assert not calibrated[plain == 0.0].any()
