"""The models in the C++ core against the plain torch models."""

import copy
import math
from contextlib import nullcontext
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

import microinfer as mi
from helpers.devices import needs_bfloat16
from helpers.example_phases import PHASES
from helpers.exporting import leave_some_open
from microinfer import _core
from microinfer.mapping.inference import Inference
from microinfer.models import PosteriorModel, ReferenceModel, inplane
from microinfer.models.device import multiplies_bfloat16, product_dtype
from microinfer.models.fused import FusedPosterior, FusedReference, core_form
from microinfer.models.operations import matrix_operations
from microinfer.models.rounding import (
    GELU_TAIL,
    RoundedProducts,
    _by_halves,
    _halves,
    _inputs,
    _rounded,
    _weights,
    precise,
)
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens, tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks

LENGTHS = [0, 1, 2, 3, 5, 8, 13, 16, 17, 29, 76, 4, 90, 6, 7, 9, 10, 11, 12, 31]


def tokens_of_lengths(seed: int, lengths: list[int]) -> Tokens:
    rng = np.random.default_rng(seed)
    patterns = []
    for length in lengths:
        radius, angle = rng.uniform(0.3, 2.0, length), rng.uniform(-np.pi, np.pi, length)
        intensity = rng.uniform(0.01, 1.0, length)
        patterns.append(np.column_stack([radius * np.cos(angle), radius * np.sin(angle), intensity]))
    return tokenize(BraggPeaks.from_patterns(patterns, (len(lengths), 1)))


def part_of(tokens: Tokens, index: list[int]) -> Tokens:
    return Tokens(*(values[index] for values in tokens))


@pytest.fixture(scope="module")
def odd_model():
    """Two phases, and sizes that fill no vector: width 30, 5 heads of 6 channels, 7 wave channels."""
    config = ModelConfig(width=30, blocks=2, heads=5, zone_axis_spacing=12.0, channels=7)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = PosteriorModel(config, (PHASES["Cu"], PHASES["Ti"]), TokenSpec())
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                torch.nn.init.normal_(parameter, 1.0 if "weight" in name else 0.0, 0.3)
        for layer in (model.cell_head[-1], *model.cell_waves):
            layer.weight.data *= 8.0
    return model.eval()


@pytest.fixture(params=["baseline", "avx2", "avx512", "avx512_bf16"])
def instructions(request):
    """Each instruction set that this CPU has."""
    if request.param not in _core.instruction_sets():
        pytest.skip(f"this CPU has no {request.param}")
    return request.param


@pytest.mark.parametrize("name", ["small_model", "odd_model"])
def test_fused_answers_are_those_of_torch(name, instructions, request):
    model = request.getfixturevalue(name)
    tokens = tokens_of_lengths(1, LENGTHS * 4)
    with torch.inference_mode():
        plain = model.candidates(tokens)
    fused = FusedPosterior(model, instructions=instructions).candidates(tokens)
    torch.testing.assert_close(fused.probability, plain.probability, atol=2e-3, rtol=0)
    assert torch.equal(fused.valid, plain.valid)
    assert plain.valid.any()
    # ranks of equal probability may change places
    clear = (plain.probability[:, 0] - plain.probability[:, 1] > 1e-2) & plain.valid
    assert clear.float().mean() > 0.3
    assert torch.equal(fused.phase[clear, 0], plain.phase[clear, 0])
    torch.testing.assert_close(fused.matrix[clear, 0], plain.matrix[clear, 0], atol=2e-3, rtol=0)
    assert (fused.matrix[clear, 0] - plain.matrix[clear, 0]).abs().median() < 2e-5


def tokens_of_demo(model):
    tokens = tokenize(mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5"), model.spec)
    return part_of(tokens, list(range(0, 48 * 48, 36)))


def test_all_candidates_of_the_shipped_model_are_those_of_torch(instructions):
    model = mi.load_model("cu")
    tokens = tokens_of_demo(model)
    with torch.inference_mode():
        plain = model.candidates(tokens)
    fused = FusedPosterior(model, instructions=instructions).candidates(tokens)
    assert torch.equal(fused.valid, plain.valid)
    assert plain.valid.any()
    assert (tokens.valid & ~plain.valid).any()  # "no crystal" decides
    torch.testing.assert_close(fused.probability, plain.probability, atol=1e-4, rtol=0)
    assert (fused.probability - plain.probability).square().mean().sqrt() < 2e-6  # however high the densities
    present = plain.probability > 1e-2
    assert present[:, 1:].any()
    assert torch.equal(fused.phase[present], plain.phase[present])
    torch.testing.assert_close(fused.matrix[present], plain.matrix[present], atol=1e-4, rtol=0)


def test_an_instruction_set_that_the_cpu_lacks_is_refused(small_model):
    present = ", ".join(["auto", *_core.instruction_sets()])
    with pytest.raises(ValueError, match=f"instructions must be one of .*, {present}, got 'neon'"):
        FusedPosterior(small_model, instructions="neon")


def test_an_answer_depends_on_its_own_pattern_alone(odd_model, instructions):
    fused, tokens = FusedPosterior(odd_model, instructions=instructions), tokens_of_lengths(2, LENGTHS)
    whole = fused.candidates(tokens)
    order = np.random.default_rng(4).permutation(len(LENGTHS)).tolist()
    for index in (order, [6], [10, 0, 3]):
        part = fused.candidates(part_of(tokens, index))
        assert torch.equal(part.matrix, whole.matrix[index])
        assert torch.equal(part.probability, whole.probability[index])


def test_no_thread_count_changes_a_bit(odd_model):
    fused, tokens, before, found = FusedPosterior(odd_model), tokens_of_lengths(5, LENGTHS * 3), 0, []
    before = _core.num_threads()
    try:
        for threads in (1, 3):
            _core.set_num_threads(threads)
            found.append(fused.candidates(tokens))
    finally:
        _core.set_num_threads(before)
    assert torch.equal(found[0].matrix, found[1].matrix)
    assert torch.equal(found[0].probability, found[1].probability)


def test_fused_model_is_a_copy(odd_model):
    fused, tokens = FusedPosterior(odd_model), tokens_of_lengths(6, LENGTHS)
    before = fused.candidates(tokens).matrix
    with torch.no_grad():
        kept = odd_model.norm.bias.clone()
        odd_model.norm.bias += 5.0
        assert torch.equal(fused.candidates(tokens).matrix, before)
        odd_model.norm.bias.copy_(kept)


def test_wrong_arrays_are_named(odd_model):
    tokens = tokens_of_lengths(7, [3, 4])
    fused = FusedPosterior(odd_model)
    with pytest.raises(ValueError, match=r"angle does not fit the other arguments, got shape \(2, 3\)"):
        fused.candidates(tokens._replace(angle=tokens.angle[:, :3]))
    with pytest.raises(ValueError, match=r"count must lie between 0 and the length 4, got 5 at 0"):
        fused.candidates(tokens._replace(count=tokens.count + 2))
    with pytest.raises(ValueError, match=r"the model has no array norm.weight"):
        network_of({})


def network_of(arrays, **changed):
    """A core network of these arrays, with the odd model's settings but for those given."""
    settings = {
        "heads": 5, "orders": inplane.ORDERS, "top_cells": 1, "cells_edge": 0.1, "negligible": 0.0,
        "angles": 8, "peaks": 1, "window": 1, "modes": 1, "mode_radius": 0.1, "leading": 0.7,
        "confidence_radius": 0.1, "confidence_edge": 0.005,
    }  # fmt: skip
    return _core.PosteriorNetwork(arrays, **(settings | changed))


@pytest.mark.parametrize("missing", ["blocks.1.attention.qkv.bias", "disk_waves.bias", "embedding.0.bias"])
def test_a_missing_bias_is_named(odd_model, missing):
    arrays = core_form(odd_model).arrays
    network_of(arrays)
    del arrays[missing]
    with pytest.raises(ValueError, match=f"the model has no array {missing}"):
        network_of(arrays)


def test_an_array_that_the_core_does_not_use_is_refused(odd_model):
    bias = np.zeros(2 * len(odd_model.cells), np.float32)
    with pytest.raises(
        ValueError, match=r"the model has an array cell_waves.0.bias that the core does not know"
    ):
        network_of(core_form(odd_model).arrays | {"cell_waves.0.bias": bias})


def test_settings_that_the_core_cannot_follow_are_refused(odd_model):
    arrays = core_form(odd_model).arrays
    with pytest.raises(ValueError, match=r"harmonics must lie in \[0, 1024\], got -1"):
        network_of(arrays | {"harmonics": arrays["harmonics"] - 1})
    with pytest.raises(
        ValueError, match="orders must rise from 1 or more and end at 1024 or less, got 1 at 1"
    ):
        network_of(arrays, orders=[2, 1, 3, 4, 6])
    with pytest.raises(ValueError, match=r"mode_radius .* must end before 0.2"):
        network_of(arrays, mode_radius=0.3)


def check_bfloat16(model, fused, tokens):
    """Compare with torch's products of rounded factors, and with those of float32."""
    with torch.inference_mode():
        single = model.candidates(tokens)
        with RoundedProducts():
            output = model(tokens)
        rounded = model.decode(output, tokens)
    found = fused.candidates(tokens)
    assert torch.equal(found.valid, rounded.valid)
    assert found.valid.sum() > 100

    def differences(other):
        return (found.matrix - other.matrix)[found.valid, 0].abs().amax((-2, -1))

    assert differences(rounded).max() < 1e-4
    assert differences(single).median() > 2e-4


def test_factors_are_rounded_to_the_nearest():
    for scale in (2.0**-100, -1.0, 2.0**100):
        values = torch.arange(2**23, 2**24, 5, dtype=torch.float32) * (scale / 2**23)
        # the middles of two bfloat16 numbers, too
        middles = (values.view(torch.int32) & -0x10000 | 0x8000).view(torch.float32)
        values = torch.cat([values, middles, torch.zeros(1)])
        with RoundedProducts():
            rounded = torch.bmm(values.view(-1, 1, 1), torch.ones(len(values), 1, 1)).ravel()
        assert torch.equal(rounded, values.bfloat16().float())


@pytest.mark.parametrize("inputs", [1, 37, 128, 384, 1000])
def test_the_order_of_a_sum_does_not_count(inputs):
    generator = torch.Generator().manual_seed(inputs)
    values = 3.0 * torch.randn(25, inputs, generator=generator)
    weight = 0.05 * torch.randn(40, inputs, generator=generator)
    order = torch.randperm(inputs, generator=generator)
    turned = values[:, order], weight[:, order]
    linear = torch.nn.functional.linear
    with RoundedProducts():
        product = linear(values, weight)
        assert torch.equal(linear(*turned), product)
        batched = torch.bmm(values[None, :, order], turned[1].mT[None])[0]
        assert torch.equal(batched, product)
    exact = linear(values, weight)
    assert inputs == 1 or not torch.equal(linear(*turned), exact)
    assert (product - exact).abs().max() < 8e-3 * exact.abs().max()  # two roundings of 2^-9 each


def test_sums_on_a_cpu_are_exact():
    """Of positive factors, too, whose sums have more digits than float32 holds."""
    values, weight = torch.rand(200, 384), torch.rand(40, 384)
    with RoundedProducts():
        product = torch.nn.functional.linear(values, weight)
    factors = _inputs(values), _weights(weight)
    assert torch.equal(product, (factors[0].double() @ factors[1].double().mT).float())
    assert not torch.equal(product, factors[0] @ factors[1].mT)


def matrix_units(values, weight, together, digits):
    """Products as the matrix units of GPUs sum them, 32 bits wide: so many at once, after cutting each, and the sum
    so far, to so many binary digits behind the first of the largest (Khattak and Mikaitis, arXiv 2512.07004).
    """
    result = torch.zeros(len(values), len(weight), dtype=torch.float64)
    for first, second in zip(values.split(together, -1), weight.split(together, -1), strict=True):
        terms = torch.cat([result[..., None], first[:, None].double() * second], -1)
        step = torch.frexp(terms.abs().amax(-1, keepdim=True)).exponent - 1 - digits
        total = terms.ldexp(-step).trunc().sum(-1).ldexp(step[..., 0])
        cut = torch.frexp(total).exponent - 24
        result = total.ldexp(-cut).trunc().ldexp(cut)
    return result.float()


of_an_a100 = partial(matrix_units, together=8, digits=24)
of_an_h100 = partial(matrix_units, together=16, digits=25)


@pytest.mark.parametrize("inputs", [128, 384, 1000])
@pytest.mark.parametrize("large", [False, True])
def test_matrix_units_that_cut_off_sum_alike(inputs, large):
    generator = torch.Generator().manual_seed(inputs)
    values, weight = (torch.randn(rows, inputs, generator=generator) for rows in (25, 40))
    if large:  # sums that float32 holds in halves alone
        values, weight = (torch.rand(each.shape, generator=generator).square() for each in (values, weight))
        values, weight = 1.2 * values, 1.4 * weight / weight.sum(-1, keepdim=True)
    with RoundedProducts():
        product = torch.nn.functional.linear(values, weight)
    factors = _halves(values), _weights(weight)
    for units in (of_an_a100, of_an_h100):
        assert torch.equal(_by_halves(units, *factors), product)
        assert torch.equal(units(*factors), product) != large
    plain = values.bfloat16(), weight.bfloat16()
    assert not torch.equal(of_an_a100(*plain), of_an_h100(*plain))


def test_answers_by_matrix_units_are_those_by_other_sums(monkeypatch):
    model = mi.load_model("cu")
    tokens = tokens_of_demo(model)
    tokens = part_of(tokens, tokens.valid.nonzero()[:16, 0].tolist())

    def answers():
        with torch.inference_mode():
            with RoundedProducts():
                output = model(tokens)
            return model.decode(output, tokens)

    def on_a_gpu(self, values, weight, bias):
        products = _by_halves(of_an_h100, _halves(values).flatten(0, -2), self._rounded(weight))
        return products.view(*values.shape[:-1], -1) + bias

    expected = answers()
    monkeypatch.setattr(RoundedProducts, "_linear", on_a_gpu)
    found = answers()
    assert expected.valid.sum() > 10
    assert torch.equal(found.valid, expected.valid)
    torch.testing.assert_close(found.matrix, expected.matrix, atol=1e-4, rtol=0)


def test_fewer_operations_give_the_same_factors():
    values = torch.randn(50, 7, 33) * torch.logspace(-30, 30, 50)[:, None, None]
    middles = (values.view(torch.int32) & -0x10000 | 0x8000).view(torch.float32)
    values[3, 2] = 0.0
    for each in (values, middles):
        assert torch.equal(_halves(each).float(), _inputs(each))
    # float64 becomes float32 first, as in the core
    beside = middles.double() * (1.0 - 1e-12)
    assert torch.equal(_halves(beside), _halves(middles))


def test_between_products_all_is_float64():
    values = torch.randn(7, 12)
    norm = torch.nn.LayerNorm(12)
    with RoundedProducts():
        assert precise(values).dtype == torch.float64
        normed = norm(values)
    assert precise(values) is values
    assert torch.equal(normed, norm.double()(values.double()).float())


def test_gelu_takes_bfloat16_and_vanishes_in_its_tail():
    values = torch.linspace(-5.0, 5.0, 10_001)
    with RoundedProducts():
        found = torch.nn.functional.gelu(values)
    rounded = values.bfloat16()
    assert not found[rounded < GELU_TAIL].any()
    kept = rounded >= GELU_TAIL
    assert torch.equal(found[kept], torch.nn.functional.gelu(rounded.double()).float()[kept])


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's use of its own
def test_a_compiler_for_gpus_leaves_the_rounding_in():
    values = torch.randn(10_000, device="cuda")
    assert torch.equal(torch.compile(_rounded)(values), values.bfloat16().float())


@pytest.mark.parametrize("shape", [(5, 7, 16), (0, 7, 16), (5, 0, 16), (5, 16)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [torch.Tensor, torch.nn.Parameter])
@pytest.mark.parametrize("exporting", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # bfloat16: as `keep` leaves them
def test_a_gpu_multiplies_bfloat16_and_gives_float32(shape, bias, kind, exporting, dtype, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    with torch.no_grad(), FakeTensorMode(), RoundedProducts():
        values, weight, offset = (torch.empty(size, device="cuda") for size in (shape, (3, 16), (3,)))
        weight = weight.to(dtype)
        if kind is torch.nn.Parameter:
            weight = torch.nn.Parameter(weight, requires_grad=False)
        products = torch.nn.functional.linear(values, weight, offset if bias else None)
    assert products.device.type == "cuda"
    assert (products.shape, products.dtype) == ((*shape[:-1], 3), torch.float32)


def test_parameters_stay_rounded_as_they_were_met():
    values, weight = torch.randn(2, 3), torch.nn.Parameter(torch.randn(4, 3), requires_grad=False)
    linear = torch.nn.functional.linear
    products = RoundedProducts()
    with products:
        first, plain = linear(values, weight), linear(values, weight.data)
    weight.data.mul_(2.0)
    with products:
        assert torch.equal(linear(values, weight), first)
        assert torch.equal(linear(values, weight.data), 2.0 * plain)
    assert torch.equal(first, plain)
    products.keep()
    assert weight.dtype == torch.bfloat16
    with RoundedProducts():
        assert torch.equal(linear(values, weight), first)


@needs_bfloat16
@pytest.mark.parametrize("name", ["small_model", "odd_model"])
def test_fused_bfloat16_is_the_rounding_of_torch(name, request):
    model = request.getfixturevalue(name)
    fused = FusedPosterior(model, torch.bfloat16)
    check_bfloat16(model, fused, tokens_of_lengths(8, LENGTHS * 8))


@needs_bfloat16
def test_bfloat16_answers_of_the_shipped_model_are_those_of_float32():
    model = mi.load_model("cu")
    peaks = mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5")
    half, single = (
        mi.map_orientations(peaks, model, device="cpu", dtype=dtype, refine=None)
        for dtype in ("bfloat16", "float32")
    )
    assert np.mean(half.valid == single.valid) > 0.998
    both = half.valid & single.valid
    assert 0.0 < np.abs(half.confidence - single.confidence)[both].mean() < 0.002
    clear = both & (single.confidence > 0.6)  # else the other one of two candidates may come first
    assert clear.mean() > 0.2
    assert (np.abs(half.matrix - single.matrix)[clear].max(axis=(-2, -1)) < 1e-3).mean() > 0.99


@needs_bfloat16
def test_a_bfloat16_answer_depends_on_its_own_pattern_alone(odd_model):
    fused, tokens = FusedPosterior(odd_model, torch.bfloat16), tokens_of_lengths(9, LENGTHS)
    whole, index = fused.candidates(tokens), [10, 0, 3, 17]
    part = fused.candidates(part_of(tokens, index))
    assert torch.equal(part.matrix, whole.matrix[index])
    assert torch.equal(part.probability, whole.probability[index])


def test_bfloat16_is_refused_where_it_is_not_multiplied(small_model):
    with pytest.raises(ValueError, match="the instruction set baseline does not multiply bfloat16"):
        FusedPosterior(small_model, torch.bfloat16, "baseline")
    with pytest.raises(ValueError, match="dtype must be 'auto', 'float32' or 'bfloat16', got 'float16'"):
        product_dtype([torch.device("cpu")], "float16")
    with pytest.raises(ValueError, match="dtype 'bfloat16': the device 'meta' has no instructions for it"):
        product_dtype([torch.device("meta")], "bfloat16")


@pytest.mark.parametrize(("multiplies", "gains"), [(False, False), (True, False), (True, True)])
def test_auto_is_bfloat16_where_the_cpu_gains_by_it(multiplies, gains, monkeypatch):
    core = SimpleNamespace(multiplies_bfloat16=lambda: multiplies, gains_by_bfloat16=lambda: gains)
    monkeypatch.setattr("microinfer.models.device._core", core)
    cpu = [torch.device("cpu")]
    assert product_dtype(cpu, "auto") == (torch.bfloat16 if gains else torch.float32)
    assert product_dtype(cpu, "float32") == torch.float32
    with nullcontext() if multiplies else pytest.raises(ValueError, match="no instructions for it"):
        assert product_dtype(cpu, "bfloat16") == torch.bfloat16


def test_auto_is_float32_on_gpus():
    assert product_dtype([torch.device("cuda")], "auto") == torch.float32


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_amds_processors_gain_by_bfloat16():
    facts = Path("/proc/cpuinfo").read_text()
    assert _core.gains_by_bfloat16() == ("AuthenticAMD" in facts and _core.multiplies_bfloat16())


@pytest.fixture(scope="module")
def reference_model():
    """Two phases, and sizes that fill no vector."""
    config = ModelConfig(kind="reference", width=42, blocks=2, heads=3)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = ReferenceModel(config, (PHASES["Cu"], PHASES["Ti"]), TokenSpec())
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                torch.nn.init.normal_(parameter, 1.0 if "weight" in name else 0.0, 0.3)
        with torch.no_grad():  # either phase now and then
            logits = model(tokens_of_lengths(14, LENGTHS[1:])).phase_logits
            model.phase_head[-1].bias -= logits.median(0).values
    return leave_some_open(model.eval(), seed=1)


def test_fused_reference_is_that_of_torch(reference_model, instructions):
    tokens = tokens_of_lengths(10, [length for length in LENGTHS * 4 if length > 0])
    with torch.inference_mode():
        plain = reference_model.candidates(tokens)
    fused = FusedReference(reference_model, instructions=instructions).candidates(tokens)
    assert len(plain.phase.unique()) == len(plain.valid.unique()) == 2
    assert torch.equal(fused.phase, plain.phase)
    assert torch.equal(fused.valid, plain.valid)
    assert torch.equal(fused.probability, plain.probability)
    torch.testing.assert_close(fused.matrix, plain.matrix, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("c", "determined"), [(0.88, True), (0.883, False), (1.0, False), (math.nan, False)])
def test_a_reference_model_answers_where_its_output_determines_the_rotation(reference_model, c, determined):
    model = copy.deepcopy(reference_model)  # of which each output is diag(1, 1, -c)
    model.orientation_head[-1].weight.data.zero_()
    model.orientation_head[-1].bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0, -c])
    tokens = tokens_of_lengths(15, LENGTHS)
    with torch.inference_mode():
        plain = model.candidates(tokens)
    assert torch.equal(plain.valid, tokens.valid & determined)
    assert torch.equal(FusedReference(model).candidates(tokens).valid, plain.valid)


def test_a_fused_reference_answer_depends_on_its_own_pattern_alone(reference_model):
    tokens = tokens_of_lengths(11, LENGTHS)
    for dtype in (torch.float32, torch.bfloat16)[: 1 + multiplies_bfloat16(torch.device("cpu"))]:
        fused = FusedReference(reference_model, dtype)
        whole = fused.candidates(tokens)
        assert torch.equal(fused.candidates(part_of(tokens, [10, 0, 3])).matrix, whole.matrix[[10, 0, 3]])


@needs_bfloat16
def test_fused_reference_in_bfloat16_is_the_rounding_of_torch(reference_model):
    fused = FusedReference(reference_model, torch.bfloat16)
    check_bfloat16(reference_model, fused, tokens_of_lengths(12, LENGTHS * 8))


def test_bins_out_of_range_are_named(reference_model):
    fused, tokens = FusedReference(reference_model), tokens_of_lengths(13, [3, 4])
    with pytest.raises(ValueError, match=r"angle must lie in \[0, 360\), got 360"):
        fused.candidates(tokens._replace(angle_bin=tokens.angle_bin * 0 + 360))
    with pytest.raises(ValueError, match=r"intensity does not fit the other arguments, got shape \(2, 3\)"):
        fused.candidates(tokens._replace(intensity_bin=tokens.intensity_bin[:, :3]))


def test_models_on_cpus_are_fused(small_model, reference_model):
    assert isinstance(Inference(small_model, None, 8).fused, FusedPosterior)
    assert isinstance(Inference(reference_model, None, 8).fused, FusedReference)


def test_matrix_operations_are_those_of_the_layers(odd_model):
    width, wave = 30, 5 * 7
    of_disk = 2 * (64 * width + width * width + 2 * (3 * width**2 + width**2 + 4 * width**2))
    cells = len(odd_model.cells)
    of_pattern = 2 * (
        (2 * width) ** 2 + 2 * width * (cells + 1) + 2 * width * wave + 2 * width * 2 * wave + 16 * 4 * wave
    )
    attention = 2 * 4 * width  # two blocks, for each pair of disks
    assert matrix_operations(odd_model, np.array([3])) == 3 * of_disk + of_pattern + 9 * attention
    assert matrix_operations(odd_model, np.array([3, 0])) == 3 * of_disk + 2 * of_pattern + 9 * attention
