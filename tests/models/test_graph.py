"""Exported models: tokens, answers, operators and metadata against the package's own."""

import copy
import hashlib
import json
import re
import warnings
import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from safetensors.numpy import load as load_arrays
from test_tokens import SMALL, flat, scans
from torch.fx.experimental.proxy_tensor import make_fx

import microinfer as mi
from helpers.devices import needs_bfloat16
from helpers.example_phases import PHASES
from helpers.exporting import awkward_patterns, check_answers, leave_some_open, padded, ragged
from microinfer.export import export_model
from microinfer.export.core import for_core
from microinfer.export.program import Program
from microinfer.export.tokenizer import pad_ragged, tokenize_padded
from microinfer.models import OrientationModel, ReferenceModel, save_model
from microinfer.models.fused import core_form
from microinfer.models.settings import ModelConfig
from microinfer.ops.procrustes import nearest_rotation, operators_are_portable, portable_operators
from microinfer.ops.rotations import project_to_so3
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import tokenize_arrays


@pytest.fixture(scope="module")
def reference_model() -> ReferenceModel:
    config = ModelConfig("reference", width=32, blocks=1, heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = ReferenceModel(config, (PHASES["Cu"], PHASES["Ti"]), TokenSpec(), {"name": "r"}).eval()
    return leave_some_open(model, seed=1)


@pytest.fixture(scope="module")
def calibrated_model(small_model: OrientationModel) -> OrientationModel:
    model = copy.deepcopy(small_model)
    model.calibration = (1.3, -0.4)
    return model


@pytest.fixture(params=["calibrated_model", "reference_model"])
def model(request: pytest.FixtureRequest) -> OrientationModel:
    return request.getfixturevalue(request.param)


def load_script(path: Path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.load's own
        return torch.jit.load(path, **options)


@pytest.fixture(scope="module")
def script_file(calibrated_model: OrientationModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "small.ts"
    export_model(calibrated_model, path)
    return path


@pytest.fixture(scope="module")
def script(script_file: Path) -> torch.jit.ScriptModule:
    return load_script(script_file)


# tokens


def check_tokens(arrays: tuple[torch.Tensor, ...], spec: TokenSpec) -> None:
    qx, qy, intensity, offsets = arrays
    expected = tokenize_arrays(*arrays, spec)
    found = tokenize_padded(*pad_ragged(torch.stack([qx, qy, intensity], -1), offsets), spec)
    length = expected.radius.shape[1]
    for name in ("radius", "angle", "intensity", "radius_bin", "angle_bin", "intensity_bin"):
        values = getattr(found, name)
        assert values.dtype == getattr(expected, name).dtype
        torch.testing.assert_close(values[:, :length], getattr(expected, name), rtol=2e-7, atol=0)
        assert not values[:, length:].any()
    assert torch.equal(found.count, expected.count)
    assert torch.equal(found.valid, expected.valid)
    shown = expected.mask | ((expected.count == 0)[:, None] & (torch.arange(length) == 0))
    assert torch.equal(found.mask[:, :length], shown)


@given(scans)
def test_tokens_are_the_cores(scan) -> None:
    patterns = [np.array(p, np.float32).reshape(-1, 3) for p in scan]
    if patterns:
        check_tokens(flat(patterns), SMALL)


def test_tokens_of_awkward_patterns_are_the_cores() -> None:
    check_tokens(flat(awkward_patterns(300, seed=1)), TokenSpec())


def test_tokens_at_bin_edges_are_the_cores() -> None:
    spec = TokenSpec(radius_max=2.0, direct_beam_radius=0.0, max_disks=300)
    radii = np.array([[q, 0.0, 1.0] for q in np.arange(257) / 128], np.float32)
    compass = np.array([[x, y, 1.0] for x in (-1, -0.0, 0.0, 1) for y in (-1, -0.0, 0.0, 1)], np.float32)
    strengths = np.array([[1.0, k / 64, (k + 1) / 64] for k in range(64)], np.float32)
    edge = np.float32(1e-3)
    weak = np.array([[1, 0, 1], [1, 0.5, edge], [1, 0.6, np.nextafter(edge, np.float32(0))]], np.float32)
    for limits in (spec, TokenSpec()):
        check_tokens(flat([radii, compass, strengths, weak]), limits)


def test_tokens_are_divided_in_float64() -> None:
    # in float32 Triton divides to two units in the last place, and a peak at an edge falls to either side of it
    peaks, count = padded(awkward_patterns(5, seed=1))
    graph = make_fx(lambda *given: tokenize_padded(*given, SMALL))(peaks, count).graph
    divisions = graph.find_nodes(op="call_function", target=torch.ops.aten.div.Tensor)
    assert [node.meta["tensor_meta"].dtype for node in divisions] == [torch.float64] * 4


@settings(max_examples=20)
@given(scans)
def test_what_lies_behind_the_count_is_not_looked_at(scan) -> None:
    patterns = [np.array(p, np.float32).reshape(-1, 3) for p in scan]
    if not patterns:
        return
    qx, qy, intensity, offsets = flat(patterns)
    peaks, count = pad_ragged(torch.stack([qx, qy, intensity], -1), offsets)
    behind = torch.arange(peaks.shape[1]) >= count[:, None]
    spoiled = torch.where(behind[..., None], torch.nan, peaks)
    for one, two in zip(
        tokenize_padded(peaks, count, SMALL), tokenize_padded(spoiled, count, SMALL), strict=True
    ):
        assert torch.equal(one, two)


def test_nearest_rotation_is_the_cores() -> None:
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(5000, 3, 3, generator=generator, dtype=torch.float64)
    # where the two nearest rotations differ by little, so do the digits: leave these few out
    _, s, _ = torch.linalg.svd(matrix)
    clear = s[:, 1] + torch.linalg.det(matrix).sign() * s[:, 2] > 0.01
    torch.testing.assert_close(
        nearest_rotation(matrix)[clear], project_to_so3(matrix)[clear], atol=1e-9, rtol=0
    )
    single = matrix.float()
    torch.testing.assert_close(nearest_rotation(single), nearest_rotation(single.double()).float())
    assert nearest_rotation(torch.zeros(2, 3, 3)).isfinite().all()


# TorchScript


def test_script_answers_as_the_mapper_does(model, tmp_path) -> None:
    path = tmp_path / "model.ts"
    export_model(model, path, format="torchscript")
    patterns = awkward_patterns(400, seed=2)
    loaded = load_script(path)
    check_answers(loaded(*padded(patterns)), patterns, model)
    check_answers(loaded.ragged(*ragged(patterns)), patterns, model)
    # as the C++ runtime calls it: no type may hang on an optimiser
    with torch.jit.optimized_execution(False):
        check_answers(loaded(*padded(patterns)), patterns, model)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (1, 7), (1, 1), (2, 0), (5, 200)])
def test_script_takes_any_numbers_of_patterns_and_peaks(script, shape) -> None:
    generator = torch.Generator().manual_seed(0)
    peaks = torch.randn(*shape, 3, generator=generator)
    count = torch.full(shape[:1], shape[1])
    answers = script(peaks, count)
    offsets = torch.arange(shape[0] + 1) * shape[1]
    for one, two in zip(answers, script.ragged(peaks.reshape(-1, 3), offsets), strict=True):
        torch.testing.assert_close(one, two, equal_nan=True, atol=1e-4, rtol=0)
    assert [tuple(part.shape[1:]) for part in answers] == [(3, 3), (), (), ()]
    assert [part.dtype for part in answers] == [torch.float32, torch.int64, torch.float32, torch.bool]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_script_uses_atens_operators_alone(model, dtype, tmp_path) -> None:
    export_model(model, tmp_path / "model.ts", dtype=dtype)
    script = load_script(tmp_path / "model.ts")
    for entry in ("forward", "ragged", "candidates"):
        kinds = {node.kind() for node in getattr(script, entry).inlined_graph.nodes()}
        assert "aten::linear" in kinds
        assert {kind for kind in kinds if not kind.startswith(("aten::", "prim::"))} == set()


@needs_bfloat16
def test_script_in_bfloat16_answers_as_the_mapper_does(model, tmp_path) -> None:
    export_model(model, tmp_path / "half.ts", dtype="bfloat16")
    patterns = awkward_patterns(400, seed=4)
    answers = load_script(tmp_path / "half.ts")(*padded(patterns))
    check_answers(answers, patterns, model, dtype="bfloat16")
    with pytest.raises(AssertionError, match=r"differ: |not equal"):  # not for want of rounding
        check_answers(answers, patterns, model, dtype="float32")
    # the model that was given is as it was
    assert "forward" not in vars(model)


def test_files_in_bfloat16_hold_rounded_weights(model, tmp_path, monkeypatch) -> None:
    portable = []

    def project(matrix):
        portable.append(operators_are_portable())
        return project_to_so3(matrix)

    for module in ("reference", "decode"):
        monkeypatch.setattr(f"microinfer.models.{module}.project_to_so3", project)
    export_model(model, tmp_path / "half.ts", dtype="bfloat16")
    assert portable
    assert all(portable)
    weights = dict(load_script(tmp_path / "half.ts").named_parameters())
    of_linear_maps = [name for name, w in model.named_parameters() if "blocks" in name and w.ndim == 2]
    assert {weights[f"model.{name}"].dtype for name in of_linear_maps} == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@needs_bfloat16
def test_shipped_model_in_bfloat16_answers_as_the_mapper_does(tmp_path) -> None:
    export_model("cu", tmp_path / "cu.ts", dtype="bfloat16")
    peaks = mi.read_peaks(files("microinfer") / "data/demo/polycrystal.h5")
    patterns = [peaks.pattern(*divmod(i, peaks.scan_shape[1])) for i in range(0, len(peaks), 3)]
    patterns = [pattern for pattern in patterns if len(pattern) > 3]
    answers = load_script(tmp_path / "cu.ts")(*padded(patterns))
    check_answers(answers, patterns, mi.load_model("cu"), dtype="bfloat16")


# what is in a file


def test_file_describes_itself(script_file, calibrated_model) -> None:
    extra = {"microinfer.json": ""}
    load_script(script_file, _extra_files=extra)
    facts = json.loads(extra["microinfer.json"])
    assert facts["version"] == 2
    assert facts["microinfer"] == mi.__version__
    assert (facts["format"], facts["dtype"], facts["device"]) == ("torchscript", "float32", "cpu")
    assert facts["calibration"] == [1.3, -0.4]
    assert facts["phases"][0]["name"] == "Cu"
    np.testing.assert_allclose(facts["phases"][0]["operators"], calibrated_model.phases[0].operators)
    assert facts["tokens"] == calibrated_model.spec.to_dict()
    assert facts["ranges"]["radius"] == [0.05, 2.0]
    assert facts["units"]["qx"].startswith("1/Angstrom")
    assert facts["refinement"]["wavelength"] == pytest.approx(0.0197, abs=1e-4)
    with zipfile.ZipFile(script_file) as archive:
        assert any(name.endswith("extra/microinfer.json") for name in archive.namelist())


@pytest.mark.parametrize("file_format", ["torchscript", pytest.param("pt2", marks=pytest.mark.slow)])
def test_file_holds_what_the_core_needs(model, file_format, tmp_path) -> None:
    export_model(model, tmp_path / "model", format=file_format)
    with zipfile.ZipFile(tmp_path / "model") as archive:
        records = {name.rsplit("/", 1)[-1]: archive.read(name) for name in archive.namelist()}
    core = core_form(model)
    assert json.loads(records["microinfer.json"])["core"] == core.settings
    arrays = load_arrays(records["microinfer.safetensors"])
    assert arrays.keys() == core.arrays.keys()
    for name, values in core.arrays.items():
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name], values)


def test_core_takes_models_on_the_cpu_alone(small_model) -> None:
    assert for_core(small_model) is not None
    assert for_core(copy.deepcopy(small_model).to("meta")) is None


def test_graph_makes_no_tensor_on_another_device(model) -> None:
    program = Program(copy.deepcopy(model).to("meta"), torch.float32)
    peaks, count = torch.empty(3, 5, 3, device="meta"), torch.empty(3, dtype=torch.int64, device="meta")
    with torch.no_grad(), portable_operators():
        parts = [*program(peaks, count), *program.candidates(peaks, count)]
    assert {part.device.type for part in parts} == {"meta"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_script_for_a_gpu_answers_as_the_mapper_does(model, tmp_path, dtype) -> None:
    export_model(model, tmp_path / "model.ts", dtype=dtype, device="cuda")
    patterns = awkward_patterns(400, seed=12)
    loaded = load_script(tmp_path / "model.ts")
    for entry, inputs in ((loaded, padded(patterns)), (loaded.ragged, ragged(patterns))):
        answers = entry(*(values.to("cuda") for values in inputs))
        check_answers([part.cpu() for part in answers], patterns, model, device="cuda", dtype=dtype)


def test_file_ends_with_its_seal(script_file) -> None:
    whole = script_file.read_bytes()
    seal = re.fullmatch(rb".*microinfer export 2 torchscript sha256 ([0-9a-f]{64})", whole, re.DOTALL)
    assert seal is not None
    assert hashlib.sha256(whole[:-64]).hexdigest().encode() == seal[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onnx"}, "format must be one of torchscript, pt2, aoti, got 'onnx'"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16, got 'float16'"),
        ({"device": "tpu"}, "device must be cpu or cuda, got 'tpu'"),
    ],
)
def test_wrong_arguments_are_named(small_model, tmp_path, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        export_model(small_model, tmp_path / "model", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_card_that_json_cannot_hold_is_named(small_model, tmp_path) -> None:
    model = copy.deepcopy(small_model)
    model.card["figures"] = {"mean": float("nan")}
    with pytest.raises(ValueError, match="the card of the model 'small' cannot be written as JSON"):
        export_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_export_for_a_missing_device_is_refused(small_model, tmp_path) -> None:
    with pytest.raises(ValueError, match="no CUDA GPU"):
        export_model(small_model, tmp_path / "model", device="cuda")


def test_command_writes_a_file(small_model, tmp_path) -> None:
    from typer.testing import CliRunner

    from microinfer.cli import app

    save_model(tmp_path / "small.safetensors", small_model)
    arguments = ["export", str(tmp_path / "small.safetensors"), "--out", str(tmp_path / "small.ts")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    patterns = awkward_patterns(10, seed=6)
    check_answers(load_script(tmp_path / "small.ts")(*padded(patterns)), patterns, small_model)
    result = CliRunner().invoke(app, [*arguments, "--format", "onnx"])
    assert result.exit_code == 1
    assert "format must be one of" in result.output


# torch.export and AOTInductor: slow to make

SHAPES = [(0, 0), (0, 4), (1, 7), (1, 1), (2, 0), (5, 200)]


def check_callables(forward, by_offsets, candidates, model, dtype) -> None:
    patterns = awkward_patterns(200, seed=7)
    with torch.no_grad():
        check_answers(forward(*padded(patterns)), patterns, model, dtype=dtype)
        check_answers(by_offsets(*ragged(patterns)), patterns, model, dtype=dtype)
        for batch, length in SHAPES:
            values = torch.randn(batch, length, 3)
            count = torch.full((batch,), length)
            answers = forward(values, count)
            offsets = torch.arange(batch + 1) * length
            for one, two in zip(answers, by_offsets(values.view(-1, 3), offsets), strict=True):
                torch.testing.assert_close(one, two, equal_nan=True, atol=1e-4, rtol=0)
            matrix, _, probability, valid = candidates(values, count)
            assert torch.equal(valid, answers[3])
            torch.testing.assert_close(matrix[valid, 0], answers[0][valid], atol=1e-4, rtol=0)
            torch.testing.assert_close(
                model.calibrated(probability[valid, 0]), answers[2][valid], atol=1e-4, rtol=0
            )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_exported_program_answers_as_the_mapper_does(model, tmp_path, dtype) -> None:
    from torch.export.pt2_archive._package import load_pt2

    path = tmp_path / "model.pt2"
    export_model(model, path, format="pt2", dtype=dtype)
    programs = load_pt2(str(path)).exported_programs
    for program in programs.values():
        names = {
            str(node.target)
            for node in program.graph.nodes
            if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)
        }
        assert names
        assert {name for name in names if not name.startswith("aten.")} == set()
        kinds = {type(node.target).__name__ for node in program.graph.nodes if node.op == "call_function"}
        # beside operators: arithmetic on sizes
        assert kinds <= {"OpOverload", "function", "builtin_function_or_method"}
    modules = {name: program.module() for name, program in programs.items()}
    check_callables(modules["model"], modules["ragged"], modules["candidates"], model, dtype)
    assert torch.export.load(path).graph is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # AOTInductor's own
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_compiled_package_answers_as_the_mapper_does(model, tmp_path, dtype) -> None:
    from torch._inductor.package import load_package

    path = tmp_path / "model.pt2"
    export_model(model, path, format="aoti", dtype=dtype)
    entries = [load_package(str(path), name) for name in ("model", "ragged", "candidates")]
    check_callables(*entries, model, dtype)
