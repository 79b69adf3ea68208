"""The C++ example, built against the installed package and torch as a user would build it, and what it answers."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from helpers.devices import needs_bfloat16
from helpers.example_phases import PHASES
from helpers.exporting import awkward_patterns, check_answers, leave_some_open
from microinfer import _core
from microinfer.export import export_model
from microinfer.export.core import RECORD as ARRAYS
from microinfer.export.seal import seal
from microinfer.models import OrientationModel, PosteriorModel, build_model
from microinfer.models.settings import ModelConfig

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "cpp" / "examples" / "acquisition"
PHASE_NAMES = ["Cu", "Ti"]
"""Of the models of two phases; the small model's is the first."""
CONCURRENCY = ROOT / "cpp" / "tests" / "concurrency"
# libtorch's headers take minutes to compile on a slow machine
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def run(*command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment, check=False)
    assert done.returncode == code, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example and the test of concurrency are built, on one runtime."""
    build = tmp_path_factory.mktemp("acquisition")
    package = run(sys.executable, "-m", "microinfer", "--cmake-dir").stdout.strip()
    assert Path(package) == Path(_core.__file__).parent / "lib" / "cmake" / "microinfer"
    prefixes = f"-DCMAKE_PREFIX_PATH={package};{torch.utils.cmake_prefix_path}"
    run("cmake", "-S", CONCURRENCY, "-B", build, prefixes, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")
    run("cmake", "--build", build, "--parallel", str(os.cpu_count()))
    return build


@pytest.fixture(scope="session")
def acquisition(build: Path) -> Path:
    """The example's program."""
    return build / "acquisition" / "acquisition"


def model_of_two_phases(config: ModelConfig, small_model: OrientationModel) -> OrientationModel:
    """A model with random weights."""
    phases = tuple(PHASES[name] for name in PHASE_NAMES)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build_model(config, phases, small_model.spec, small_model.card).eval()


@pytest.fixture(scope="session")
def reference_model(small_model) -> OrientationModel:
    config = ModelConfig("reference", width=32, blocks=1, heads=4)
    return leave_some_open(model_of_two_phases(config, small_model), seed=1)


@pytest.fixture(scope="session")
def posterior_model(small_model) -> OrientationModel:
    model = model_of_two_phases(small_model.config, small_model)
    for layer in (model.cell_head[-1], *model.cell_waves):  # as in small_model: else the answers are ties
        layer.weight.data *= 30.0
    return model


@pytest.fixture(scope="session")
def script_file(small_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("script") / "small.model"
    export_model(small_model, path)
    return path


@pytest.fixture(scope="session")
def compiled_file(small_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "small.model"
    export_model(small_model, path, format="aoti")
    return path


@pytest.fixture(params=["script_file", "compiled_file"])
def model_file(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[(), ("--graph",)], ids=["core", "graph"])
def engine(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The example's option that chooses what runs the model."""
    return request.param


def write_csv(path: Path, patterns: list[np.ndarray], columns: int) -> None:
    lines = ["row,column,qx,qy,intensity"]
    for index, pattern in enumerate(patterns):
        row, column = divmod(index, columns)
        lines += [f"{row},{column},{x:.9g},{y:.9g},{i:.9g}" for x, y, i in pattern]
    path.write_text("\n".join(lines) + "\n")


def rewrite(
    old: Path, new: Path, file_format: str, changes: dict[str, Callable[[bytes], bytes | None]]
) -> None:
    """Copy an exported file with some records changed, or left out where they become None, and seal it."""
    seen = set()
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        for entry in source.infolist():
            name = entry.filename.rsplit("/", 1)[-1]
            data = source.read(entry)
            if name in changes:
                seen.add(name)
                data = changes[name](data)
            if data is not None:
                target.writestr(entry.filename, data)
    assert seen == set(changes)
    seal(new, file_format)


def without(entries: dict, name: str) -> dict:
    return {key: value for key, value in entries.items() if key != name}


def without_core(metadata: bytes) -> bytes:
    return json.dumps(without(json.loads(metadata), "core")).encode()


def for_another_processor(metadata: bytes) -> bytes:
    return json.dumps(json.loads(metadata) | {"processor": "AVX1024"}).encode()


def answers_of(program: Path, model: Path, peaks: Path, *options: str) -> tuple[np.ndarray, ...]:
    done = run(program, model, peaks, *options)
    assert ("run by its graph" if "--graph" in options else "run by its core") in done.stderr
    assert re.search(r"row +median [0-9.]+ ms, 90 % [0-9.]+ ms, 99 % ", done.stderr)
    return table_of(done.stdout)


def table_of(text: str) -> tuple[np.ndarray, ...]:
    """Matrix, phase, confidence and valid of what the example prints."""
    table = np.genfromtxt(text.splitlines(), delimiter=",", skip_header=1, dtype=None, encoding="utf-8")
    matrix = np.stack([table[f"f{k}"] for k in range(6, 15)], -1).reshape(-1, 3, 3)
    valid = table["f2"].astype(bool)
    phase = np.array([PHASE_NAMES.index(name) if name else -1 for name in table["f3"]])
    return matrix, phase, table["f4"], valid


def test_example_answers_ten_thousand_patterns_as_python_does(
    acquisition, model_file, engine, small_model, tmp_path
) -> None:
    patterns = awkward_patterns(10_000, seed=8)
    write_csv(tmp_path / "peaks.csv", patterns, 250)
    found = answers_of(acquisition, model_file, tmp_path / "peaks.csv", "--no-refine", *engine)
    check_answers(found, patterns, small_model)


def test_example_refines_as_python_does(acquisition, model_file, engine, small_model, tmp_path) -> None:
    patterns = awkward_patterns(1000, seed=9)
    write_csv(tmp_path / "peaks.csv", patterns, 100)
    found = answers_of(acquisition, model_file, tmp_path / "peaks.csv", *engine)
    check_answers(found, patterns, small_model, refine="kinematic")


@pytest.mark.parametrize("name", ["posterior_model", "reference_model"])
@pytest.mark.parametrize(
    ("file_format", "options"), [("torchscript", ()), ("torchscript", ("--graph",)), ("pt2", ())]
)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_example_answers_in_either_dtype_as_python_does(
    acquisition, name, file_format, options, dtype, request, tmp_path
) -> None:
    model = request.getfixturevalue(name)
    export_model(model, tmp_path / "model", format=file_format, dtype=dtype)
    patterns = awkward_patterns(1000, seed=10)
    write_csv(tmp_path / "peaks.csv", patterns, 100)
    found = answers_of(acquisition, tmp_path / "model", tmp_path / "peaks.csv", "--no-refine", *options)
    check_answers(found, patterns, model, dtype=dtype)
    assert set(found[1]) == {-1, 0, 1}


@pytest.mark.parametrize("name", ["posterior_model", "reference_model"])
def test_answers_of_two_phases_are_refined_as_in_python(acquisition, engine, name, request, tmp_path) -> None:
    model = request.getfixturevalue(name)
    export_model(model, tmp_path / "model.ts")
    patterns = awkward_patterns(1000, seed=11)
    write_csv(tmp_path / "peaks.csv", patterns, 100)
    found = answers_of(acquisition, tmp_path / "model.ts", tmp_path / "peaks.csv", *engine)
    check_answers(found, patterns, model, refine="kinematic")
    assert set(found[1]) == {-1, 0, 1}


@pytest.mark.gpu
@pytest.mark.parametrize("file_format", ["torchscript", "aoti"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_example_answers_on_a_gpu_as_python_does(
    acquisition, small_model, file_format, dtype, tmp_path
) -> None:
    export_model(small_model, tmp_path / "model", format=file_format, dtype=dtype, device="cuda")
    patterns = awkward_patterns(1000, seed=12)
    write_csv(tmp_path / "peaks.csv", patterns, 100)
    done = run(acquisition, tmp_path / "model", tmp_path / "peaks.csv", "--no-refine")
    assert "run by its graph" in done.stderr
    check_answers(table_of(done.stdout), patterns, small_model, dtype=dtype, device="cuda")


def test_example_maps_its_own_peaks(acquisition, tmp_path) -> None:
    export_model("cu", tmp_path / "cu.ts")
    matrix, _, confidence, valid = answers_of(acquisition, tmp_path / "cu.ts", EXAMPLE / "peaks.csv")
    assert valid.mean() > 0.3
    assert confidence[valid].mean() > 0.3
    assert np.abs(matrix[valid] @ matrix[valid].transpose(0, 2, 1) - np.eye(3)).max() < 1e-5


def test_the_readmes_commands_lead_to_orientations(tmp_path) -> None:
    section = (ROOT / "README.md").read_text().split("## At the microscope")[1]
    commands = section.split("```sh\n")[1].split("```")[0]
    assert "cmake --build" in commands
    (tmp_path / "cpp").symlink_to(ROOT / "cpp")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    header, *lines = (tmp_path / "orientations.csv").read_text().splitlines()
    assert header.startswith("row,column,valid,phase,confidence")
    assert any(line.split(",")[2:4] == ["1", "Cu"] for line in lines)


def test_threads_change_no_answer(acquisition, script_file) -> None:
    one, three = (
        run(acquisition, script_file, EXAMPLE / "peaks.csv", "--threads", count).stdout for count in "13"
    )
    assert one == three
    assert one.count("\n") > 100
    message = run(acquisition, script_file, EXAMPLE / "peaks.csv", "--threads", "0", code=1).stderr
    assert "--threads takes a number from 1 to 1024, got 0" in message


def test_an_older_file_runs_its_graph(acquisition, script_file, tmp_path) -> None:
    old = tmp_path / "old.ts"
    rewrite(script_file, old, "torchscript", {"microinfer.json": without_core, ARRAYS: lambda _: None})
    done = run(acquisition, old, EXAMPLE / "peaks.csv")
    assert "run by its graph" in done.stderr
    assert done.stdout == run(acquisition, script_file, EXAMPLE / "peaks.csv", "--graph").stdout


class TestRefusals:
    """Files that the runtime must refuse with their name and the reason."""

    @pytest.fixture
    def file(self, model_file, tmp_path) -> Path:
        return Path(shutil.copy(model_file, tmp_path / "model.bin"))

    def refusal(self, program: Path, file: Path, *options: str) -> str:
        message = run(program, file, EXAMPLE / "peaks.csv", *options, code=1).stderr
        assert f"error: {file}: " in message
        return message

    def test_damaged(self, acquisition, file) -> None:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        assert "damaged: its checksum differs" in self.refusal(acquisition, file)

    def test_cut_short(self, acquisition, file) -> None:
        file.write_bytes(file.read_bytes()[:-1000])
        assert "no seal at its end" in self.refusal(acquisition, file)

    def test_foreign(self, acquisition, file) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("data.pkl", b"something else")
        assert "not written by `microinfer export`" in self.refusal(acquisition, file)
        seal(file, "torchscript")  # as if it were ours
        assert "torch cannot load it" in self.refusal(acquisition, file)

    @pytest.mark.parametrize(("version", "advice"), [(1, ""), (3, "update microinfer, or ")])
    def test_older_and_newer(self, acquisition, file, version, advice) -> None:
        data = file.read_bytes()
        assert b"microinfer export 2 " in data
        file.write_bytes(data.replace(b"microinfer export 2 ", b"microinfer export %d " % version))
        reason = f"a file of version {version}, this library reads version 2: {advice}export the model anew"
        assert reason in self.refusal(acquisition, file)

    def test_missing(self, acquisition, tmp_path) -> None:
        assert "No such file" in self.refusal(acquisition, tmp_path / "nowhere.pt2")

    def test_not_for_cpp(self, acquisition, file) -> None:
        data = file.read_bytes()
        end = data.rindex(b"PK\x05\x06")
        file.write_bytes(data[: end + 20] + struct.pack("<H", 0))
        seal(file, "pt2")
        message = self.refusal(acquisition, file, "--graph")
        assert "a graph of the format pt2 does not run in C++" in message
        assert "export the model with --format aoti or --format torchscript" in message

    def test_without_its_arrays(self, acquisition, model_file, tmp_path) -> None:
        file = tmp_path / "without.model"
        rewrite(model_file, file, "torchscript", {ARRAYS: lambda _: None})
        assert "its record microinfer.safetensors is missing" in self.refusal(acquisition, file)

    def test_metadata_that_cannot_be(self, acquisition, script_file, tmp_path) -> None:
        def change(metadata: bytes) -> bytes:
            entries = json.loads(metadata)
            entries["tokens"]["max_disks"] = -1
            return json.dumps(entries).encode()

        file = tmp_path / "changed.ts"
        rewrite(script_file, file, "torchscript", {"microinfer.json": change})
        message = self.refusal(acquisition, file)
        assert (
            "its record extra/microinfer.json cannot be used: max_disks must be at least 1, got -1" in message
        )

    def test_network_of_phases_without_a_name(self, acquisition, script_file, tmp_path) -> None:
        def change(metadata: bytes) -> bytes:
            return json.dumps(json.loads(metadata) | {"phases": []}).encode()

        file = tmp_path / "changed.ts"
        rewrite(script_file, file, "torchscript", {"microinfer.json": change})
        for engine in ([], ["--graph"]):
            message = run(acquisition, file, EXAMPLE / "peaks.csv", "--no-refine", *engine, code=1).stderr
            assert "the model answers with phase 0, and its file names 0" in message

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda arrays: without(arrays, "norm.bias"), "the model has no array norm.bias"),
            (
                lambda arrays: arrays | {"norm.bias": np.zeros(31, np.float32)},
                "norm.bias does not fit the other arrays, got shape (31,), expected (32,)",
            ),
            (
                lambda arrays: arrays | {"norm.bias": np.zeros(32, np.float16)},
                "array norm.bias: its type is F16, expected F32 or I64",
            ),
            (
                lambda arrays: arrays | {"cell_waves.0.bias": np.zeros(8, np.float32)},
                "the model has an array cell_waves.0.bias that the core does not know",
            ),
        ],
    )
    def test_arrays_that_do_not_fit(self, acquisition, script_file, tmp_path, change, reason) -> None:
        file = tmp_path / "changed.ts"
        rewrite(script_file, file, "torchscript", {ARRAYS: lambda data: save(change(load(data)))})
        message = self.refusal(acquisition, file)
        assert f"its record microinfer.safetensors cannot be used: {reason}" in message

    def test_arrays_that_are_cut_short(self, acquisition, script_file, tmp_path) -> None:
        file = tmp_path / "cut.ts"
        rewrite(script_file, file, "torchscript", {ARRAYS: lambda data: data[:-4]})
        assert "its elements lie outside the" in self.refusal(acquisition, file)

    def test_graph_compiled_for_another_processor(self, acquisition, script_file, tmp_path) -> None:
        file = tmp_path / "other.pt2"
        rewrite(script_file, file, "aoti", {"microinfer.json": for_another_processor})
        assert "compiled for a processor with AVX1024" in self.refusal(acquisition, file, "--graph")
        run(acquisition, file, EXAMPLE / "peaks.csv")  # the core looks for its own instructions


def test_example_names_a_bad_line(acquisition, script_file, tmp_path) -> None:
    peaks = tmp_path / "peaks.csv"
    peaks.write_text("row,column,qx,qy,intensity\n0,0,0.1,0.2,1\n0,0,0.1,x,1\n")
    message = run(acquisition, script_file, peaks, code=1).stderr
    assert f"{peaks}, line 3: expected row,column,qx,qy,intensity" in message
    peaks.write_text("row,column,qx,qy,intensity\n0,0.5,0.1,0.2,1\n")
    message = run(acquisition, script_file, peaks, code=1).stderr
    assert f"{peaks}, line 2: row and column must be whole numbers" in message
    peaks.write_text("0,0,0.1,0.2,1\n")
    message = run(acquisition, script_file, peaks, code=1).stderr
    assert f"{peaks}, line 1: expected row,column,qx,qy,intensity" in message
    peaks.write_text("row,column,qx,qy,intensity\n999999,999999,0.1,0.2,1\n")
    message = run(acquisition, script_file, peaks, code=1).stderr
    assert f"{peaks}: its rows and columns make a scan of 1000000 x 1000000 positions" in message


def test_example_names_an_unknown_option(acquisition, script_file) -> None:
    message = run(acquisition, script_file, EXAMPLE / "peaks.csv", "--fast", code=2).stderr
    assert "error: unknown option, or one without its value: --fast" in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_example_says_that_the_disk_is_full(acquisition, script_file) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [acquisition, script_file, EXAMPLE / "peaks.csv"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert "error: standard output: the orientations cannot be written" in done.stderr


def test_example_reads_lines_that_end_as_on_windows(acquisition, script_file, tmp_path) -> None:
    peaks = tmp_path / "peaks.csv"
    peaks.write_bytes((EXAMPLE / "peaks.csv").read_bytes().replace(b"\n", b"\r\n"))
    assert (
        run(acquisition, script_file, peaks).stdout
        == run(acquisition, script_file, EXAMPLE / "peaks.csv").stdout
    )


def test_model_without_voltage_needs_no_refinement(acquisition, small_model, tmp_path) -> None:
    model = PosteriorModel(small_model.config, small_model.phases, small_model.spec).eval()
    export_model(model, tmp_path / "plain.ts")
    message = run(acquisition, tmp_path / "plain.ts", EXAMPLE / "peaks.csv", code=1).stderr
    assert "set MapperOptions::refine to false" in message
    run(acquisition, tmp_path / "plain.ts", EXAMPLE / "peaks.csv", "--no-refine")


def test_threads_that_map_and_submit_at_once_get_the_answers_of_one(build, script_file, engine) -> None:
    assert run(build / "concurrency", script_file, *engine).stdout == "96 of 96 rows agree\n"
