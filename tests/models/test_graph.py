"""TorchScript files: alone in a fresh process they answer as the core does, for any numbers of peaks."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.agreement import require_agreement
from helpers.devices import DEVICES
from helpers.example_models import odd_model
from helpers.patterns import awkward_patterns, scan_of
from microinfer.mapping.inference import Inference
from microinfer.models.graph import RECORD, export_model
from microinfer.models.graph_tokens import pad_ragged, tokenize_padded
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import tokenize

ALONE = """
import sys, torch
sys.modules["microinfer"] = None
graph = torch.jit.load(sys.argv[1])
peaks, count, values, offsets = torch.load(sys.argv[2])
answers = []
for optimised in (True, False):  # no type may hang on an optimiser
    with torch.jit.optimized_execution(optimised):
        answers += [tuple(graph(peaks, count)), tuple(graph.ragged(values, offsets))]
torch.save(answers, sys.argv[3])
"""


def load_graph(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.load's own
        return torch.jit.load(path, **options)


def inputs_of(peaks):
    """A scan padded with NaN, which no one should look at, and ragged."""
    values = torch.from_numpy(np.column_stack([peaks.qx, peaks.qy, peaks.intensity]))
    offsets = torch.from_numpy(peaks.offsets)
    padded, count = pad_ragged(values, offsets)
    behind = torch.arange(padded.shape[1]) >= count[:, None]
    return padded.masked_fill(behind[..., None], torch.nan), count, values, offsets


def require_answers(answers, model, peaks):
    """Compare with the core's answers without refinement."""
    matrix, phase, confidence, valid = (part.cpu().numpy() for part in answers)
    expected = Inference(model, refine=None, min_disks=model.spec.min_disks)(peaks).arrays
    found = {"matrix": matrix, "phase": phase, "probability": confidence}
    require_agreement(model, found, valid, expected, expected["valid"])
    assert np.isnan(matrix[~valid]).all()
    assert (phase[~valid] == -1).all()
    assert not confidence[~valid].any()


@pytest.fixture(scope="module", params=["posterior", "reference"])
def exported(request, tmp_path_factory):
    """A model and its file."""
    model = replace(odd_model(request.param), calibration=(1.3, 0.8, -0.4))
    path = tmp_path_factory.mktemp("graph") / "model.ts"
    export_model(model, path)
    return model, path


def test_a_file_answers_alone(exported, tmp_path):
    (model, path), peaks = exported, scan_of(awkward_patterns(2, 300))
    torch.save(inputs_of(peaks), tmp_path / "in")
    arguments = [path, tmp_path / "in", tmp_path / "out"]
    subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE, *arguments], check=True, cwd=tmp_path)
    for answers in torch.load(tmp_path / "out"):
        require_answers(answers, model, peaks)


@pytest.mark.gpu
def test_a_file_answers_on_a_gpu(exported):
    (model, path), peaks = exported, scan_of(awkward_patterns(3, 300))
    padded, count, values, offsets = (part.to("cuda") for part in inputs_of(peaks))
    graph = load_graph(path, map_location="cuda")
    with torch.jit.optimized_execution(False):
        for answers in (graph(padded, count), graph.ragged(values, offsets)):
            require_answers(answers, model, peaks)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (1, 7), (1, 1), (2, 0), (5, 200)])
def test_any_numbers_of_patterns_and_peaks_will_do(exported, shape):
    graph = load_graph(exported[1])
    peaks = torch.randn(*shape, 3, generator=torch.Generator().manual_seed(0))
    answers = graph(peaks, torch.full(shape[:1], shape[1]))
    by_offsets = graph.ragged(peaks.reshape(-1, 3), torch.arange(shape[0] + 1) * shape[1])
    for one, two in zip(answers, by_offsets, strict=True):
        torch.testing.assert_close(one, two, equal_nan=True, atol=1e-4, rtol=0)
    assert [tuple(part.shape) for part in answers] == [(shape[0], 3, 3), *[shape[:1]] * 3]
    assert [part.dtype for part in answers] == [torch.float32, torch.int64, torch.float32, torch.bool]


def test_a_file_describes_itself(exported):
    model, path = exported
    extra = {RECORD: ""}
    load_graph(path, _extra_files=extra)
    assert json.loads(extra[RECORD]) == json.loads(model.header)


@pytest.mark.parametrize("device", DEVICES)
def test_tokens_are_the_cores(device):
    weakest, signs = np.float32(1e-3), (-1, -0.0, 0.0, 1)
    edges = [
        [[q, 0.0, 1.0] for q in np.arange(257) / 128],
        [[x, y, 1.0] for x in signs for y in signs],
        [[1, 0, 1], [1, 0.5, weakest], [1, 0.6, np.nextafter(weakest, np.float32(0))]],
    ]
    patterns = awkward_patterns(4, 200) + [np.array(pattern, np.float32) for pattern in edges]
    for spec in (TokenSpec(), TokenSpec(radius_max=2.0, direct_beam_radius=0.0, max_disks=300, min_disks=5)):
        peaks = scan_of(patterns)
        expected = tokenize(peaks, spec)
        padded, count = (part.to(device) for part in inputs_of(peaks)[:2])
        found = tokenize_padded(padded, count, spec)
        length = expected.radius.shape[1]
        for name in ("radius", "angle", "intensity", "radius_bin", "angle_bin", "intensity_bin"):
            values = getattr(found, name).cpu()
            torch.testing.assert_close(values[:, :length], getattr(expected, name), rtol=2e-7, atol=0)
        assert torch.equal(found.count.cpu(), expected.count)
        assert torch.equal(found.valid.cpu(), expected.valid)
    spoilt = torch.tensor([[[0.5, 0.1, 1.0], [torch.nan, 0.2, 1.0], [0.1, 0.7, 2.0]]])
    assert not tokenize_padded(spoilt, torch.tensor([3]), TokenSpec()).valid.any()


def test_what_cannot_be_exported_is_refused(small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA GPU"):
        export_model(small_model, tmp_path / "model", device="cuda")
    unwritable = replace(small_model, card={"name": "small", "figures": float("nan")})
    with pytest.raises(ValueError, match="the card of the model 'small' cannot be written as JSON"):
        export_model(unwritable, tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="gold"):
        export_model("gold", tmp_path / "model")
    assert not list(tmp_path.iterdir())
