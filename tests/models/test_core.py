"""The models in the C++ core: they answer as torch does, each pattern by itself, on every instruction set."""

from contextlib import nullcontext
from functools import cache
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest

import microinfer as mi
from helpers.agreement import LEAD, of_rank, require_agreement
from helpers.devices import needs_bfloat16
from helpers.example_models import odd_model
from helpers.patterns import awkward_patterns, scan_of
from microinfer import _core
from microinfer.crystals.errors import RIGHT, orientation_errors
from microinfer.mapping.inference import Inference
from microinfer.models.device import product_dtype

DEMO = files("microinfer") / "data/demo"
IN_TORCH = "cpu:0"  # the core knows "cpu" alone


@cache
def case(name):
    """A model and a scan for it."""
    if name in ("posterior", "reference"):
        return odd_model(name), scan_of(awkward_patterns(1, 400))
    return mi.load_model(name), mi.read_peaks(DEMO / "polycrystal.h5")


@cache
def in_torch(name, refine):
    model, peaks = case(name)
    return Inference(model, IN_TORCH, refine, model.spec.min_disks)(peaks).arrays


def answer(core, peaks, refine=False, **options):
    return core.answer(peaks.qx, peaks.qy, peaks.intensity, peaks.offsets, refine=refine, **options)


def require_same_bits(first, second):
    for one, two in zip(first, second, strict=True):
        for name in one.dtype.names or [...]:
            np.testing.assert_array_equal(one[name], two[name])


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def instructions(request):
    """Each instruction set for float32 that this CPU has."""
    if request.param not in _core.instruction_sets():
        pytest.skip(f"this CPU has no {request.param}")
    return request.param


@pytest.mark.parametrize("refine", [None, "kinematic"])
@pytest.mark.parametrize("name", ["posterior", "reference", "cu", "cu-cu2o"])
def test_answers_are_those_of_torch(name, refine, instructions):
    (model, peaks), expected = case(name), in_torch(name, refine)
    core = model.core(instructions=instructions)
    candidates, valid, disks = answer(core, peaks, refine is not None, min_disks=model.spec.min_disks)
    require_agreement(model, of_rank(candidates, 0), valid, expected, expected["valid"])
    if core.candidates > 1:  # so do the second ones, where the first are clear
        lead = -np.diff(expected["probability"][:, :2])[:, 0]
        first_is_clear = valid & expected["valid"] & (lead >= LEAD)
        others = {field: expected[field][:, 1:] for field in expected if field != "valid"}
        require_agreement(model, of_rank(candidates, 1), first_is_clear, others, first_is_clear, clear=0.1)
    assert set(candidates["phase"][valid, 0]) == set(range(len(model.phases)))
    np.testing.assert_array_equal(disks, mi.tokenize(peaks, model.spec).count)


def test_accuracy_is_that_of_torch():
    model, peaks = case("cu")
    with np.load(DEMO / "polycrystal_truth.npz") as truth:
        inside, matrix = truth["interior"].ravel(), truth["matrix"].reshape(-1, 3, 3)
    shares = []
    for device in ("cpu", IN_TORCH):
        found = mi.map_orientations(peaks, model, device=device, dtype="float32")
        answers = found.matrix.reshape(-1, 3, 3)[inside], found.phase.ravel()[inside]
        error = orientation_errors(*answers, matrix[inside], np.zeros(inside.sum(), int), model.phases)
        shares.append(np.mean(error < RIGHT))
    assert min(shares) > 0.5  # the demo is noisy
    assert abs(shares[0] - shares[1]) <= 0.001


@pytest.mark.parametrize("name", ["posterior", "reference"])
def test_an_answer_depends_on_its_own_pattern_alone(name, instructions):
    core, patterns = case(name)[0].core(instructions=instructions), awkward_patterns(2, 40)
    whole = answer(core, scan_of(patterns), refine=True)
    for rows in (np.random.default_rng(4).permutation(40), np.array([6]), np.array([10, 0, 3])):
        part = answer(core, scan_of([patterns[row] for row in rows]), refine=True)
        require_same_bits(part, [values[rows] for values in whole])


@pytest.mark.parametrize("name", ["posterior", "reference"])
def test_no_thread_count_changes_a_bit(name):
    model, peaks = case(name)
    core, before, found = model.core(), _core.num_threads(), []
    try:
        for threads in (1, 3):
            _core.set_num_threads(threads)
            found.append(answer(core, peaks, refine=True))
    finally:
        _core.set_num_threads(before)
    require_same_bits(*found)


def test_selection_and_fewest_disks():
    model, peaks = case("posterior")
    core = model.core()
    candidates, valid, disks = answer(core, peaks, min_disks=2)
    selected = np.random.default_rng(5).random(len(peaks)) < 0.5
    some, answered, _ = answer(core, peaks, min_disks=6, selected=selected)
    np.testing.assert_array_equal(answered, valid & selected & (disks >= 6))
    require_same_bits((some[answered],), (candidates[answered],))
    assert np.isnan(some["matrix"][~answered]).all()
    assert (some["phase"][~answered] == -1).all()


def test_a_model_that_the_core_cannot_follow_is_refused():
    model, _ = case("posterior")
    weights = dict(model.weights)
    for change, message in (
        ({"embedding.0.bias": weights["norm.weight"][:3]}, r"embedding\.0\.bias"),
        ({"more.weight": weights["norm.weight"]}, r"more\.weight"),
        ({"norm.weight": weights["norm.weight"].astype(np.int64)}, r"norm\.weight"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            _core.Model(model.header, weights | change)
    del weights["disk_waves.bias"]
    with pytest.raises(ValueError, match=r"disk_waves\.bias"):
        _core.Model(model.header, weights)
    with pytest.raises(ValueError, match=r"instructions must be one of .*got 'neon'"):
        model.core(instructions="neon")
    with pytest.raises(ValueError, match="baseline does not multiply bfloat16"):
        model.core(bfloat16=True, instructions="baseline")


def test_wrong_arrays_are_named():
    model, peaks = case("posterior")
    core, flat = model.core(), [peaks.qx, peaks.qy, peaks.intensity, peaks.offsets]
    with pytest.raises(ValueError, match="selected"):
        core.answer(*flat, selected=np.ones(3, bool))
    with pytest.raises(TypeError, match="qx must have dtype float32"):
        core.answer(peaks.qx.astype(float), *flat[1:])
    tokens = [part.numpy()[:5] for part in mi.tokenize(peaks, model.spec)]
    shape = (5, core.candidates)
    found = np.zeros((*shape, 3, 3), np.float32), np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=r"count must lie between 0 and .*, got 1000"):
        core.rank(*tokens[:3], tokens[7] * 0 + 1000, *found)
    with pytest.raises(ValueError, match="phase"):
        core.rank(*tokens[:3], tokens[7], found[0], found[1][:, :1], found[2])


@pytest.mark.parametrize(("multiplies", "gains"), [(False, False), (True, False), (True, True)])
def test_bfloat16_is_chosen_where_the_cpu_gains_by_it(multiplies, gains, monkeypatch):
    core = SimpleNamespace(multiplies_bfloat16=lambda: multiplies, gains_by_bfloat16=lambda: gains)
    monkeypatch.setattr("microinfer.models.device._core", core)
    assert product_dtype(["cpu"], "auto") == ("bfloat16" if gains else "float32")
    assert product_dtype(["cpu"], "float32") == product_dtype(["cpu", "cuda:0"], "auto") == "float32"
    with nullcontext() if multiplies else pytest.raises(ValueError, match="device 'cpu' does not multiply"):
        assert product_dtype(["cpu"], "bfloat16") == "bfloat16"
    with pytest.raises(ValueError, match="'bfloat16': the device 'cuda:0' does not multiply it"):
        product_dtype(["cuda:0"], "bfloat16")
    with pytest.raises(ValueError, match="dtype must be 'auto', 'float32' or 'bfloat16', got 'float16'"):
        product_dtype(["cpu"], "float16")


@needs_bfloat16
@pytest.mark.parametrize("name", ["cu", "cu-cu2o"])
def test_bfloat16_is_as_right_as_float32(name):
    model, peaks = case(name)
    half, single = (
        mi.map_orientations(peaks, model, device="cpu", dtype=dtype) for dtype in ("bfloat16", "float32")
    )
    assert np.mean(half.valid == single.valid) > 0.998
    both = half.valid & single.valid
    assert 0.0 < np.abs(half.confidence - single.confidence)[both].mean() < 0.005
    clear = both & (single.confidence > 0.6)
    assert (np.abs(half.matrix - single.matrix)[clear].max(axis=(-2, -1)) < 5e-3).mean() > 0.99
