"""Checkpoints as files: their checksum, what is damaged or absurd in them, and a disk that is full."""

import json
import os
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from helpers.damage import attempt, damages
from helpers.example_models import odd_model
from microinfer.models import load_model, shipped_models


@pytest.fixture
def path(small_model, tmp_path):
    small_model.save(tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def stated(path):
    with safe_open(path, framework="np") as file:
        return file.metadata()


def test_the_checksum_is_what_the_documentation_says(small_model, path):
    expected = zlib.crc32(small_model.header.encode())
    for name, values in sorted(small_model.weights.items()):
        expected = zlib.crc32(name.encode(), expected)
        expected = zlib.crc32(np.array(values.shape, "<i8").tobytes(), expected)
        expected = zlib.crc32(values.tobytes(), expected)
    assert stated(path)["crc32"] == str(expected)


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_are_saved_anew_with_a_checksum_and_nothing_else_changed(name, tmp_path):
    old = load_model(name)
    old.save(tmp_path / "new.safetensors")
    new = load_model(tmp_path / "new.safetensors")
    assert new.header == old.header
    assert new.weights.keys() == old.weights.keys()
    assert all(new.weights[key].tobytes() == old.weights[key].tobytes() for key in old.weights)
    assert "crc32" in stated(tmp_path / "new.safetensors")


def test_every_changed_bit_of_a_weight_is_found(path):
    whole = path.read_bytes()
    first = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    for at in rng.integers(first, len(whole), 100):
        bit = 1 << int(rng.integers(8))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        with pytest.raises(
            ValueError, match=r"small\.safetensors: .*it is damaged: its checksum does not hold"
        ):
            load_model(path)


def test_a_checkpoint_without_checksum_loads(small_model, path):
    save_file(small_model.weights, path, metadata={"microinfer": small_model.header})
    assert load_model(path).digest == small_model.digest


@pytest.mark.parametrize("count", [250, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_is_refused_or_the_same(small_model, path, count):
    refused = 0
    for data in damages(path.read_bytes(), count):
        path.write_bytes(data)
        read = attempt(load_model, path)
        refused += isinstance(read, str)
        assert str(path) in read if isinstance(read, str) else read.digest == small_model.digest
    assert refused > 0.95 * count


def claim(model, path, place, value):
    """Write a model's checkpoint, without checksum, whose header says something else in one place."""
    header = json.loads(model.header)
    entries = header
    for key in place[:-1]:
        entries = entries[key]
    entries[place[-1]] = value
    save_file(model.weights, path, metadata={"microinfer": json.dumps(header)})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("model", "blocks"), 1_000_000, r"the model has no array blocks\.\d\.norm1\.weight"),
        (("model", "blocks"), 1, r"the model has an array blocks\.1\."),
        (("model", "width"), 16800, r"model\.width is 16800, but norm"),
        (("model", "width"), 840.0, "width: a whole number in range was expected, got 840.0"),
        (("model", "channels"), True, "channels: a whole number in range was expected, got true"),
        (("model", "heads"), 10**30, "must be a multiple of twice the heads"),
        (("tokens", "max_disks"), 10**12, "numbers of another kind or size .*'max_disks': 1000000000000"),
        (("version",), 0, "checkpoint version 0, this microinfer reads 1 to 2"),
        (("version",), -1, "checkpoint version -1"),
        (("version",), float("nan"), "checkpoint version nan"),
        (("version",), True, "checkpoint version True"),
        (("format",), 3, "its format is 3"),
        (("card",), [1.0], r"its card must be a table, got \[1\.0\]"),
        (("card", "voltage"), 1e20, r"card\.voltage must be that of an electron microscope, .*, got 1e\+20"),
        (("card", "voltage"), "300 kV", "card.voltage must be a number"),
        (("card", "k_max"), None, r"card\.k_max must be a number, got null"),
        (("card", "k_max"), -1.0, r"card\.k_max must be above 0 and below 100"),
        (("calibration",), None, "not a usable checkpoint"),
        (("phases",), {}, "not a usable checkpoint"),
    ],
)
@pytest.mark.parametrize("kind", ["posterior", "reference"])
def test_absurd_headers_are_refused(tmp_path, kind, place, value, message):
    model, path = odd_model(kind), tmp_path / "odd.safetensors"
    claim(model, path, place, value)
    with pytest.raises(ValueError, match=rf"odd\.safetensors: .*{message}"):
        load_model(path)


def test_a_network_has_the_cells_of_its_weights(tmp_path):
    # not those of the spacing in the header, which may be many more than the file holds
    model, path = odd_model("posterior"), tmp_path / "odd.safetensors"
    claim(model, path, ("model", "zone_axis_spacing"), 0.1)
    np.testing.assert_array_equal(load_model(path).network().cells.numpy(), model.weights["cells"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_children_forked_from_a_parent_with_models_map_as_it_does(small_model, scan, tmp_path):
    small_model.save(tmp_path / "small.safetensors")
    scan.save(tmp_path / "scan.h5")
    script = """
import multiprocessing, warnings
import torch
import microinfer as mi
warnings.simplefilter("ignore")  # Python says that to fork a process with threads is dangerous

def total(device):
    model = mi.load_model("small.safetensors")
    return float(mi.map_orientations("scan.h5", model, device=device).confidence.sum())

torch.set_num_threads(4)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
devices = ["cpu", "cpu:0"]  # in the core and in torch
expected = list(map(total, devices))
assert torch.get_num_threads() == 4
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(total, 2 * devices, chunksize=1) == 2 * expected
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_full_disk_is_an_error_of_the_checkpoint_and_of_the_export(small_model, tmp_path):
    small_model.save(tmp_path / "small.safetensors")
    script = """
import os, resource
import microinfer as mi
model = mi.load_model("small.safetensors")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
export = mi.export_model  # torch is loaded here, which needs a folder for temporary files
for write, limits in ((model.save, (0, 1000)), (lambda path: export(model, path), (100_000,))):
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            write("out")
        except OSError as error:
            assert error.filename == "out" and "cannot write the file: File too large" in str(error), error
        else:
            raise AssertionError(limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert os.listdir() == ["small.safetensors"]
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_card_that_json_cannot_hold_writes_nothing(small_model, tmp_path):
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        replace(small_model, card={"name": "x", "loss": float("nan")}).save(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []
