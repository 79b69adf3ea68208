"""What a file is, told from its content, and what is said of a wrong one."""

import re

import h5py
import numpy as np
import pytest

import microinfer as mi
from helpers.example_maps import random_map
from microinfer.file_kinds import FileKind, file_kind, require_kind
from microinfer.maps.map_file import UNFINISHED_KIND
from microinfer.record_file import RecordFile
from microinfer.simulation import PatternLibrary
from microinfer.simulation.scan.settings import PositionsConfig, ScanPhase, ScanSettings
from microinfer.simulation.scan.truth import TruthWriter
from microinfer.simulation.settings import SimulationConfig
from microinfer.training.config import load_config


def _unfinished(path):
    unfinished = RecordFile(path, UNFINISHED_KIND)
    unfinished.begin({})
    unfinished.close()


def _library(path, scan, model):
    count = len(scan)
    PatternLibrary(
        scan,
        np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.ones(count, np.float32),
        model.phases,
        SimulationConfig(),
    ).save(path)


def _py4dstem(path):
    with h5py.File(path, "w") as file:
        file.create_group("root").attrs["emd_group_type"] = "root"


def _truth(path, scan, model):
    with TruthWriter(path, ScanSettings((ScanPhase("Cu"),), scan=PositionsConfig((2, 2))), model.phases):
        pass


CIF = "# made by hand\ndata_Ti\n_cell_length_a 2.95\n"
WRITERS = {
    "map.h5": (FileKind.MAP, lambda path, scan, model: random_map("Cu").save(path)),
    "map.h5.part": (FileKind.UNFINISHED_MAP, lambda path, scan, model: _unfinished(path)),
    "peaks.h5": (FileKind.PEAKS, lambda path, scan, model: mi.write_peaks(path, scan)),
    "library.h5": (FileKind.LIBRARY, _library),
    "truth.h5": (FileKind.TRUTH, _truth),
    "model.safetensors": (FileKind.MODEL, lambda path, scan, model: model.save(path)),
    "any name": (FileKind.MODEL, lambda path, scan, model: model.save(path)),
    "graph.pt": (FileKind.TORCH, lambda path, scan, model: mi.export_model(model, path)),
    "Ti.cif": (FileKind.CIF, lambda path, scan, model: path.write_text("anything")),
    "Ti.txt": (FileKind.CIF, lambda path, scan, model: path.write_text(CIF)),
    "ti.toml": (FileKind.CONFIGURATION, lambda path, scan, model: path.write_text('name = "ti"')),
    "scan.mib": (FileKind.FRAMES, lambda path, scan, model: path.write_bytes(b"MQ1,000001")),
    "scan.npy": (FileKind.FRAMES, lambda path, scan, model: np.save(path, np.zeros((2, 2, 4, 4)))),
    "py4dstem.h5": (FileKind.PY4DSTEM, lambda path, scan, model: _py4dstem(path)),
    "other.h5": (FileKind.HDF5, lambda path, scan, model: h5py.File(path, "w").close()),
    "folder": (FileKind.FOLDER, lambda path, scan, model: path.mkdir()),
    "empty": (FileKind.EMPTY, lambda path, scan, model: path.touch()),
    "notes.txt": (FileKind.OTHER, lambda path, scan, model: path.write_text("data_ is what I have")),
}


@pytest.mark.parametrize("name", WRITERS)
def test_kinds(name, tmp_path, scan, small_model):
    kind, write = WRITERS[name]
    write(tmp_path / name, scan, small_model)
    assert file_kind(tmp_path / name) is kind


def test_every_kind_is_tested():
    assert {kind for kind, _ in WRITERS.values()} == set(FileKind)


READERS = {
    "a model": mi.load_model,
    "a scan of Bragg peaks": mi.read_peaks,
    "an orientation map": mi.load_map,
    "a configuration (TOML)": load_config,
}


@pytest.mark.parametrize(
    ("wanted", "name", "advice"),
    [
        ("a model", "Ti.cif", "microinfer train --cif"),
        ("a model", "ti.toml", "microinfer train "),
        ("a model", "map.h5", "microinfer info, plot or convert"),
        ("a model", "peaks.h5", "microinfer map"),
        ("a model", "py4dstem.h5", "microinfer map"),
        ("a scan of Bragg peaks", "model.safetensors", "microinfer map SCAN --model"),
        ("a scan of Bragg peaks", "map.h5", "microinfer info, plot or convert"),
        ("a scan of Bragg peaks", "scan.mib", "find its Bragg peaks with microinfer peaks"),
        ("an orientation map", "peaks.h5", "microinfer map"),
        ("an orientation map", "map.h5.part", "goes on with --resume"),
        ("a configuration (TOML)", "Ti.cif", "microinfer train --cif"),
        ("a configuration (TOML)", "model.safetensors", "microinfer map SCAN"),
    ],
)
def test_readers_say_what_a_wrong_file_is(wanted, name, advice, tmp_path, scan, small_model):
    kind, write = WRITERS[name]
    write(tmp_path / name, scan, small_model)
    message = f"{name} is {kind.words}, not {wanted}: "
    with pytest.raises(ValueError, match=re.escape(message) + ".*" + re.escape(advice)):
        READERS[wanted](tmp_path / name)


def test_commands_in_the_advice_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my Ti {a}.cif").write_text(CIF)
    with pytest.raises(ValueError, match=r"--cif 'my Ti \{a\}\.cif'$"):
        require_kind("my Ti {a}.cif", FileKind.MODEL)


def test_a_folder_names_the_model_in_it(tmp_path, small_model):
    (tmp_path / "run").mkdir()
    small_model.save(tmp_path / "run" / "ti.safetensors")
    with pytest.raises(
        ValueError, match=r"run is a folder, not a model: the model in it is .*ti\.safetensors"
    ):
        mi.load_model(tmp_path / "run")


def test_a_damaged_file_is_left_to_its_reader(tmp_path, scan):
    path = tmp_path / "peaks.h5"
    mi.write_peaks(path, scan)
    path.write_bytes(path.read_bytes()[:1000])
    assert file_kind(path) is FileKind.HDF5
    with pytest.raises(OSError, match="truncated"):
        mi.read_peaks(path)
