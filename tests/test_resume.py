"""Interrupted mappings: what is finished stays, and --resume goes on from there to the same map."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import microinfer as mi
from microinfer.cli import app
from microinfer.mapping import map_to_file
from microinfer.models import save_model

ROWS_DONE = 5
OPTIONS = {"device": "cpu", "block_rows": 1}


class StoppedScan:
    """A scan whose reading stops for good at a row: by an error, or by waiting to be interrupted."""

    def __init__(self, peaks, row, stop):
        self.peaks, self.row, self.stop = peaks, row, stop

    def __getattr__(self, name):
        return getattr(self.peaks, name)

    def read_rows(self, start, stop):
        if start >= self.row:
            self.stop()
        return self.peaks.read_rows(start, stop)


def break_off():
    raise OSError("the network is gone")


@pytest.fixture(scope="module")
def prepared(scan, small_model, tmp_path_factory):
    """A scan, a model, the map of them without interruption, and an unfinished one of `ROWS_DONE` rows."""
    folder = tmp_path_factory.mktemp("prepared")
    mi.write_peaks(folder / "scan.h5", scan)
    save_model(folder / "small.safetensors", small_model)
    map_to_file(folder / "scan.h5", folder / "small.safetensors", folder / "whole.h5", **OPTIONS)
    broken = StoppedScan(scan, ROWS_DONE, break_off)
    with pytest.raises(OSError, match="network"):
        map_to_file(broken, folder / "small.safetensors", folder / "map.h5", **OPTIONS)
    return folder


@pytest.fixture
def files(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("scan.h5", "small.safetensors", "whole.h5"):
        shutil.copy(prepared / name, tmp_path)
    return tmp_path


@pytest.fixture
def unfinished(prepared, files):
    return Path(shutil.copy(prepared / "map.h5.part", files))


def content(path):
    """Every attribute and the bytes of every dataset of a file."""
    with h5py.File(path) as file:
        items = {name: file[name][...] for name in file}
        return {
            **{f"@{name}": value for name, value in file.attrs.items()},
            **{
                name: (value.dtype, value.shape, value.tobytes())
                for name, value in items.items()
                if value.ndim
            },
            **{name: value[()] for name, value in items.items() if not value.ndim},
        }


INTERRUPTED = """
import signal, sys, threading
import microinfer as mi
from microinfer.mapping import map_to_file
from microinfer.mapping.unfinished import UnfinishedMap
sys.path.insert(0, sys.argv[1])
from test_resume import OPTIONS, ROWS_DONE, StoppedScan

written, interrupted = threading.Semaphore(0), threading.Event()
write = UnfinishedMap.write
UnfinishedMap.write = lambda self, block: (write(self, block), written.release())

def interrupt(*arguments):
    interrupted.set()
    signal.default_int_handler(*arguments)

signal.signal(signal.SIGINT, interrupt)

def wait():
    if not interrupted.is_set():
        for _ in range(ROWS_DONE):
            written.acquire()
        print("ready", flush=True)
        interrupted.wait()

map_to_file(StoppedScan(mi.read_peaks("scan.h5"), ROWS_DONE, wait), "small.safetensors", "map.h5", **OPTIONS)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_mapping_goes_on_to_the_same_map(files, stop):
    here = os.path.dirname(__file__)
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, here], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(stop)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == -stop, errors
    assert not (files / "map.h5").exists()
    with pytest.raises(ValueError, match="unfinished: go on with microinfer map --resume"):
        mi.load_map("map.h5.part")

    report = map_to_file("scan.h5", "small.safetensors", "map.h5", resume=True, **OPTIONS)
    assert report.resumed == ROWS_DONE * 7
    assert report.positions == 13 * 7
    assert content("map.h5") == content("whole.h5")
    assert not (files / "map.h5.part").exists()


def test_only_missing_rows_are_read_again_and_the_report_counts_all(unfinished, scan):
    read = []
    watched = StoppedScan(scan, 0, lambda: None)
    watched.read_rows = lambda start, stop: read.append(start) or scan.read_rows(start, stop)
    report = map_to_file(watched, "small.safetensors", "map.h5", resume=True, **OPTIONS)
    assert read[3:] == list(range(ROWS_DONE, 13))  # three rows were compared with what they held
    whole = mi.load_map("whole.h5")
    assert report.valid == whole.valid.sum() == report.phase_counts["Cu"]
    assert report.mean_confidence == pytest.approx(whole.confidence[whole.valid].mean(), rel=1e-5)


def test_other_blocks_and_batches_may_finish_it(unfinished, scan):
    map_to_file(scan, "small.safetensors", "map.h5", resume=True, device="cpu", block_rows=3, batch_size=2)
    omap, whole = mi.load_map("map.h5"), mi.load_map("whole.h5")
    np.testing.assert_array_equal(omap.valid, whole.valid)
    np.testing.assert_allclose(omap.matrix, whole.matrix, atol=1e-4)


def test_a_second_interruption_keeps_what_both_finished(unfinished, scan):
    with pytest.raises(OSError, match="network"):
        map_to_file(StoppedScan(scan, 9, break_off), "small.safetensors", "map.h5", resume=True, **OPTIONS)
    report = map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS)
    assert report.resumed == 9 * 7
    assert content("map.h5") == content("whole.h5")


def other_peaks(scan):
    return mi.BraggPeaks(scan.offsets, scan.qx * 1.001, scan.qy, scan.intensity, (13, 7), 2.5, "nm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scan": other_peaks}, "with another scan: the peaks of the scan rows 0 to 0 differ"),
        ({"scan": lambda scan: replace(scan, scan_shape=(7, 13))}, "scan '13 x 7.*now '7 x 13"),
        ({"model": lambda model: model.card.update(name="large")}, "model 'small .*now 'large "),
        ({"model": lambda model: model.cell_head[-1].bias.data.add_(1.0)}, "model 'small .*now 'small "),
        ({"refine": None}, "refine 'kinematic', now 'None'"),
        ({"min_disks": 4}, "min_disks '2', now '4'"),
        ({"roi": (0, 13, 0, 5)}, "positions '91 .*now '65 "),
    ],
)
def test_another_scan_model_or_option_is_refused_and_the_rows_stay(unfinished, scan, change, message):
    model = mi.load_model("small.safetensors")
    before = content(unfinished)
    options = dict(change)
    peaks = options.pop("scan", lambda scan: scan)(scan)
    options.pop("model", lambda model: None)(model)
    with pytest.raises(ValueError, match=message) as caught:
        map_to_file(peaks, model, "map.h5", resume=True, **OPTIONS, **options)
    assert "map.h5.part" in str(caught.value)
    assert content(unfinished) == before


def test_nothing_may_have_been_finished(unfinished, scan):
    with h5py.File(unfinished, "r+") as file:
        file["finished_blocks"].resize(0, axis=0)
    assert map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS).resumed == 0
    assert content("map.h5") == content("whole.h5")


def test_a_damaged_file_is_refused(unfinished, scan):
    unfinished.write_bytes(unfinished.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"map\.h5\.part is damaged, remove it and start anew"):
        map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS)
    shutil.copy("whole.h5", unfinished)
    with pytest.raises(ValueError, match=r"map\.h5\.part is not an unfinished map"):
        map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS)
    assert content(unfinished) == content("whole.h5")


def test_unfinished_work_is_never_replaced(unfinished, scan):
    before = unfinished.read_bytes()
    with pytest.raises(FileExistsError, match=r"resume it, or remove the file.*map\.h5\.part"):
        map_to_file(scan, "small.safetensors", "map.h5", **OPTIONS)
    assert unfinished.read_bytes() == before


def test_there_must_be_something_to_resume(files, scan):
    with pytest.raises(FileNotFoundError, match=r"nothing to resume.*map\.h5\.part"):
        map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS)


def test_two_processes_do_not_write_one_map(unfinished, scan):
    inside = []

    def second_mapping():
        with pytest.raises(OSError, match="another process is writing it"):
            map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS)
        inside.append(True)

    map_to_file(StoppedScan(scan, 12, second_mapping), "small.safetensors", "map.h5", resume=True, **OPTIONS)
    assert inside
    assert content("map.h5") == content("whole.h5")


def test_command_line_goes_on(unfinished):
    arguments = ["map", "scan.h5", "--model", "small.safetensors", "--device", "cpu", "--block-rows", "1"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "map.h5.part: holds unfinished work" in refused.stderr
    result = CliRunner().invoke(app, [*arguments, "--resume"])
    assert result.exit_code == 0, result.output
    assert "35 (38.5%)" in result.output
    assert content("map.h5") == content("whole.h5")
