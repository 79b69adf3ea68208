"""The C++ examples, built against the installed package as a user would build them, and what they answer."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import microinfer as mi
from helpers.agreement import require_agreement
from helpers.cmake import ROOT, build, installed_package, needs_cmake, run
from helpers.example_models import odd_model
from helpers.patterns import awkward_patterns, scan_of
from microinfer.models import Model, load_model, model_path

pytestmark = needs_cmake
EXAMPLES = ROOT / "cpp" / "examples"
PEAKS = EXAMPLES / "acquisition" / "peaks.csv"


@pytest.fixture(scope="session")
def acquisition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program on the core."""
    folder = tmp_path_factory.mktemp("acquisition")
    return build(EXAMPLES / "acquisition", folder, installed_package()) / "acquisition"


@pytest.fixture(scope="session")
def torchscript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program on libtorch, whose headers take long to compile."""
    folder = tmp_path_factory.mktemp("torchscript")
    prefixes = installed_package(), torch.utils.cmake_prefix_path
    return build(EXAMPLES / "torchscript", folder, *prefixes) / "torchscript"


@pytest.fixture(scope="session", params=["posterior", "reference"])
def model(request: pytest.FixtureRequest) -> Model:
    return odd_model(request.param)


@pytest.fixture
def checkpoint(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def write_csv(path: Path, patterns: list[np.ndarray], columns: int = 50) -> Path:
    lines = [
        f"{index // columns},{index % columns},{x:.9g},{y:.9g},{intensity:.9g}"
        for index, peaks in enumerate(patterns)
        for x, y, intensity in peaks
    ]
    path.write_text("row,column,qx,qy,intensity\n" + "\n".join(lines) + "\n")
    return path


def answers_of(text: str, model: Model) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Matrix, phase, probability and score of what an example prints, and where they are valid."""
    names = [phase.name for phase in model.phases]
    table = np.array([line.split(",") for line in text.splitlines()[1:]])
    found = {
        "matrix": table[:, 6:].astype(np.float32).reshape(-1, 3, 3),
        "phase": np.array([names.index(name) if name else -1 for name in table[:, 3]]),
        "probability": table[:, 4].astype(np.float32),
        "score": table[:, 5].astype(np.float32),
    }
    return found, table[:, 2] == "1"


@pytest.mark.parametrize("options", [(), ("--no-refine",)])
def test_the_core_answers_as_python_does(acquisition, checkpoint, model, options, tmp_path) -> None:
    patterns = awkward_patterns(8, 1000)
    peaks = write_csv(tmp_path / "peaks.csv", patterns)
    found, valid = answers_of(run(acquisition, checkpoint, peaks, *options).stdout, model)
    refine = None if options else "kinematic"
    omap = mi.map_orientations(
        scan_of(patterns), model, device="cpu", dtype="float32", refine=refine, check=False
    )
    np.testing.assert_array_equal(valid, omap.valid.ravel())
    np.testing.assert_array_equal(found["phase"], omap.phase.ravel())
    np.testing.assert_allclose(found["matrix"], omap.matrix.reshape(-1, 3, 3), atol=1e-6)
    np.testing.assert_allclose(found["probability"], omap.confidence.ravel(), atol=1e-6)
    assert np.isnan(found["score"]).all() == bool(options)
    assert 0.3 < valid.mean() < 1.0
    assert set(found["phase"]) == {-1, 0, 1}


def compare_graph(torchscript: Path, model: Model, folder: Path, device: str) -> None:
    mi.export_model(model, folder / "model.ts", device=device)
    patterns = awkward_patterns(9, 1000)
    peaks = write_csv(folder / "peaks.csv", patterns)
    found, valid = answers_of(run(torchscript, folder / "model.ts", peaks, device).stdout, model)
    omap = mi.map_orientations(
        scan_of(patterns), model, device="cpu", dtype="float32", refine=None, check=False
    )
    expected = {name: values[:, 0] for name, values in omap.candidates._asdict().items()}
    require_agreement(model, found, valid, expected, omap.valid.ravel())


@pytest.mark.slow
def test_the_graph_agrees_with_python(torchscript, model, tmp_path) -> None:
    compare_graph(torchscript, model, tmp_path, "cpu")


@pytest.mark.slow
@pytest.mark.gpu
def test_the_graph_on_a_gpu_agrees_with_python(torchscript, model, tmp_path) -> None:
    compare_graph(torchscript, model, tmp_path, "cuda")


@pytest.mark.slow
def test_the_graph_refuses_what_it_cannot_use(torchscript, tmp_path) -> None:
    message = run(torchscript, tmp_path / "nowhere.ts", PEAKS, code=1).stderr
    assert "nowhere.ts cannot be used as an exported model: " in message
    message = run(torchscript, model_path("cu"), PEAKS, code=1).stderr
    assert "cu.safetensors cannot be used as an exported model: " in message
    assert "device must be cpu, or cuda" in run(torchscript, "x.ts", PEAKS, "meta", code=1).stderr


def test_a_shipped_model_maps_the_examples_peaks(acquisition) -> None:
    model = load_model("cu")
    one, three = (run(acquisition, model_path("cu"), PEAKS, "--threads", count) for count in ("1", "3"))
    assert one.stdout == three.stdout
    assert "model cu (posterior)" in one.stderr
    found, valid = answers_of(one.stdout, model)
    assert valid.mean() > 0.3
    assert found["probability"][valid].mean() > 0.3
    product = found["matrix"][valid] @ found["matrix"][valid].transpose(0, 2, 1)
    assert np.abs(product - np.eye(3)).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-4], "its shape does not fit its place in the file"),
        (lambda data: data[:3000], "it is cut short, or no .safetensors file"),
        (lambda data: b"PK\x03\x04" + data, "it is cut short, or no .safetensors file"),
        (
            lambda data: data.replace(b"microinfer model", b"microinfer modal"),
            "it is damaged: its checksum does not hold",
        ),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "it is damaged: its checksum does not hold"),
        (
            lambda data: data.replace(b"crc32", b"older").replace(b'\\"version\\": 2', b'\\"version\\": 1'),
            "it is of an older version: write it",
        ),
        (
            lambda data: data.replace(b"crc32", b"older").replace(b"norm1.bias", b"norm1.bios"),
            "the model has no array blocks.0.norm1.bias",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused(acquisition, checkpoint, change, reason) -> None:
    checkpoint.write_bytes(change(checkpoint.read_bytes()))
    message = run(acquisition, checkpoint, PEAKS, code=1).stderr
    assert f"{checkpoint} cannot be used as a model: " in message
    assert reason in message


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            "row,column,qx,qy,intensity\n0,0,0.1,0.2,1\n0,0,0.1,x,1\n",
            "line 3: expected row,column,qx,qy,intensity",
        ),
        ("row,column,qx,qy,intensity\n0,0.5,0.1,0.2,1\n", "line 2: expected row,column"),
        ("row,column,qx,qy,intensity\n-1,0,0.1,0.2,1\n", "line 2: expected row,column"),
        ("0,0,0.1,0.2,1\n", "line 1: expected row,column,qx,qy,intensity, got 0,0,0.1"),
    ],
)
def test_a_bad_line_is_named(acquisition, lines, reason, tmp_path) -> None:
    (tmp_path / "peaks.csv").write_text(lines)
    assert f"peaks.csv, {reason}" in run(acquisition, model_path("cu"), tmp_path / "peaks.csv", code=1).stderr


def test_few_peaks_make_no_large_scan(acquisition, tmp_path) -> None:
    peaks = tmp_path / "peaks.csv"
    peaks.write_text("row,column,qx,qy,intensity\n" + "1999,2999,0.1,0.2,1\n" * 250)
    message = run(acquisition, model_path("cu"), peaks, code=1).stderr
    assert "peaks.csv: the scan is too large: 2000 x 3000 positions, at most 250000 for 250 peaks" in message


def test_lines_may_end_as_on_windows(acquisition, tmp_path) -> None:
    (tmp_path / "peaks.csv").write_bytes(PEAKS.read_bytes().replace(b"\n", b"\r\n"))
    found, expected = (run(acquisition, model_path("cu"), peaks) for peaks in (tmp_path / "peaks.csv", PEAKS))
    assert found.stdout == expected.stdout


def test_an_unknown_option_is_named(acquisition) -> None:
    message = run(acquisition, model_path("cu"), PEAKS, "--fast", code=1).stderr
    assert "error: unknown option, or one without its value: --fast" in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_no_success(acquisition) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [acquisition, model_path("cu"), PEAKS], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert "error: standard output: the orientations cannot be written" in done.stderr
