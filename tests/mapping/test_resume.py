"""Interrupted mappings: what is finished stays, and --resume goes on from there to the same map."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from io import FileIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.devices import needs_bfloat16
from microinfer import _core, record_file
from microinfer.cli import app
from microinfer.mapping import map_to_file
from microinfer.peaks.native import NativeReader

ROWS_DONE = 5
OPTIONS = {"device": "cpu", "block_rows": 1, "check": False}
DTYPE, OTHER_DTYPE = ("float32", "bfloat16")[:: -1 if _core.gains_by_bfloat16() else 1]


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
    small_model.save(folder / "small.safetensors")
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
    """Every attribute and the bytes of every dataset of a map; of another file all bytes."""
    if not h5py.is_hdf5(path):
        return Path(path).read_bytes()
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
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from test_resume import OPTIONS, ROWS_DONE, StoppedScan

written, interrupted = threading.Semaphore(0), threading.Event()
write = UnfinishedMap.write
UnfinishedMap.write = lambda self, block: (write(self, block), written.release())

def interrupt(*arguments):
    interrupted.set()
    signal.default_int_handler(*arguments)

signal.signal(signal.SIGINT, interrupt)

def wait():
    # what looks at the scan first does so in the main thread, what maps it does not
    if threading.current_thread() is not threading.main_thread() and not interrupted.is_set():
        for _ in range(ROWS_DONE):
            written.acquire()
        print("ready", flush=True)
        interrupted.wait()

"""

IN_PYTHON = """
map_to_file(StoppedScan(mi.read_peaks("scan.h5"), ROWS_DONE, wait), "small.safetensors", "map.h5", **OPTIONS)
"""

ON_THE_COMMAND_LINE = """
from microinfer.cli import app
from microinfer.interruption import Stopped
from microinfer.peaks.native import NativeReader

Stopped.__init__ = lambda stopped, number: (setattr(stopped, "number", number), interrupted.set())[0]
read_rows = NativeReader.read_rows
NativeReader.read_rows = lambda reader, *rows: (rows[0] >= ROWS_DONE and wait(), read_rows(reader, *rows))[1]
app(["map", "scan.h5", "--model", "small.safetensors", "--device", "cpu", "--block-rows", "1"])
"""


def interrupt(script, stop):
    """Run a script and stop it once `ROWS_DONE` rows are written; its exit status and what it printed."""
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED + script, here],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "ready\n" in iter(process.stdout.readline, "")
        process.send_signal(stop)
        _, errors = process.communicate(timeout=300)
    return process.returncode, errors


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_mapping_goes_on_to_the_same_map(files, stop):
    status, errors = interrupt(IN_PYTHON, stop)
    assert status == -stop, errors
    assert not (files / "map.h5").exists()
    with pytest.raises(ValueError, match=r"is an unfinished map.* goes on with --resume"):
        mi.load_map("map.h5.part")

    report = map_to_file("scan.h5", "small.safetensors", "map.h5", resume=True, **OPTIONS)
    assert report.resumed == ROWS_DONE * 7
    assert report.positions == 13 * 7
    assert content("map.h5") == content("whole.h5")
    assert not (files / "map.h5.part").exists()


FULL_DISK = """
import os, resource, sys
import microinfer as mi
from microinfer.mapping import map_to_file
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from test_resume import OPTIONS, content

model = mi.load_model("small.safetensors")
whole = content("whole.h5")
map_to_file("scan.h5", model, "map.h5", **OPTIONS)
size = os.path.getsize("map.h5")
os.remove("map.h5")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in [0, 90, *range(2000, size, 1777), size - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        map_to_file("scan.h5", model, "map.h5", **OPTIONS)
    except OSError as error:
        message = str(error)
    else:
        raise AssertionError(limit)
    assert "cannot write the file: File too large" in message and "map.h5" in message, message
    kept = os.path.exists("map.h5.part")
    assert kept == (f"what is finished stays in {os.path.realpath('map.h5.part')}" in message), message
    if kept:  # the disk is still full: nothing is lost by trying
        try:
            map_to_file("scan.h5", model, "map.h5", resume=True, **OPTIONS)
        except OSError:
            assert os.path.exists("map.h5.part")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    report = map_to_file("scan.h5", model, "map.h5", resume=kept, **OPTIONS)
    print(report.resumed // 7)
    assert content("map.h5") == whole, limit
    os.remove("map.h5")
"""


def test_what_was_finished_stays_on_a_full_disk(files):
    # the limit of a file's size stands for the end of the disk
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, here], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    resumed = [int(line) for line in done.stdout.split()]
    assert resumed[:2] == [0, 0]
    assert resumed == sorted(resumed)  # the more room, the more rows are finished
    assert len(set(resumed)) > 5
    assert resumed[-1] >= 12


class Disk(FileIO):
    """An unfinished map that ends in the middle of a write, once so many are through."""

    room = 0

    def write(self, content):
        self.room -= 1
        if self.room >= 0:
            return super().write(content)
        super().write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", range(14))  # the first write is the head, the others are blocks
def test_a_full_disk_loses_no_block_whichever_write_it_ends(files, scan, room, monkeypatch):
    model = mi.load_model("small.safetensors")
    monkeypatch.setattr(Disk, "room", room)
    with monkeypatch.context() as patch:
        patch.setattr(record_file.os, "fdopen", lambda descriptor, *_, **__: Disk(descriptor, "r+"))
        with pytest.raises(OSError, match=r"cannot write the file: No space left on device.*map\.h5"):
            map_to_file(scan, model, "map.h5", **OPTIONS)
    kept = Path("map.h5.part").exists()
    report = map_to_file(scan, model, "map.h5", resume=kept, **OPTIONS)
    assert report.resumed // 7 == max(0, room - 1)
    assert kept == (report.resumed > 0)
    assert content("map.h5") == content("whole.h5")


@pytest.mark.parametrize("flip", range(0, 200_000, 6_151))
def test_what_is_damaged_or_torn_is_done_again(unfinished, scan, flip):
    whole = unfinished.read_bytes()
    at = flip % len(whole)
    unfinished.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    resumed = outcome(scan)
    unfinished.write_bytes(whole[:at])
    torn = outcome(scan)
    block = (len(whole) - whole.index(b"\n") - 1) // ROWS_DONE
    finished = max(0, at - whole.index(b"\n") - 1) // block
    assert torn == finished
    assert resumed in (finished, "refused")


def outcome(scan):
    """Rows that were taken over by --resume, if it was not refused; the map is then right."""
    try:
        rows = (
            map_to_file(scan, "small.safetensors", "map.h5", resume=True, overwrite=True, **OPTIONS).resumed
            // 7
        )
    except ValueError as error:
        return "refused" if "map.h5.part" in str(error) else str(error)
    assert content("map.h5") == content("whole.h5")
    return rows


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
    return replace(scan, qx=scan.qx * 1.001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scan": other_peaks}, "with another scan: the peaks of the scan rows 0 to 0 differ"),
        ({"scan": lambda scan: replace(scan, scan=mi.Scan((7, 13), 2.5, "nm"))}, "scan '13 x 7.*now '7 x 13"),
        ({"model": lambda model: model.card.update(name="large")}, "model 'small .*now 'large "),
        (
            {"model": lambda model: model.weights["cell_head.2.bias"].__iadd__(1.0)},
            "model 'small .*now 'small ",
        ),
        ({"refine": None}, "refine 'kinematic', now 'None'"),
        pytest.param({"dtype": OTHER_DTYPE}, f"dtype '{DTYPE}', now '{OTHER_DTYPE}'", marks=needs_bfloat16),
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


@pytest.mark.parametrize("resume", [False, True])
def test_nothing_may_have_been_finished(unfinished, scan, resume):
    whole = unfinished.read_bytes()
    head = whole.index(b"\n") + 1
    for length in (0, 10, head - 1, head, head + 100):  # killed before the first block was there
        unfinished.write_bytes(whole[:length])
        report = map_to_file(scan, "small.safetensors", "map.h5", resume=resume, overwrite=True, **OPTIONS)
        assert report.resumed == 0
        assert content("map.h5") == content("whole.h5")


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_of_another_kind_is_refused_and_stays(unfinished, scan, resume):
    shutil.copy("whole.h5", unfinished)
    with pytest.raises(ValueError, match=r"map\.h5\.part is not an unfinished microinfer orientation map"):
        map_to_file(scan, "small.safetensors", "map.h5", resume=resume, **OPTIONS)
    assert content(unfinished) == content("whole.h5")


def test_unfinished_work_is_never_replaced(unfinished, scan):
    before = unfinished.read_bytes()
    with pytest.raises(FileExistsError, match=r"resume it \(--resume\), or remove the file.*map\.h5\.part"):
        map_to_file(scan, "small.safetensors", "map.h5", **OPTIONS)
    assert unfinished.read_bytes() == before


def test_there_must_be_something_to_resume(files, scan):
    with pytest.raises(FileNotFoundError, match=r"nothing to resume.*map\.h5\.part"):
        map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS)


def test_a_map_that_an_interrupted_one_was_to_replace_needs_leave_again(unfinished, scan):
    Path("map.h5").write_text("an older map")
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        map_to_file(scan, "small.safetensors", "map.h5", resume=True, **OPTIONS)
    report = map_to_file(scan, "small.safetensors", "map.h5", resume=True, overwrite=True, **OPTIONS)
    assert report.resumed == ROWS_DONE * 7
    assert content("map.h5") == content("whole.h5")


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


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_on_the_command_line_says_how_to_go_on(files, stop):
    status, errors = interrupt(ON_THE_COMMAND_LINE, stop)
    assert status == 128 + stop
    kept = files.resolve() / "map.h5.part"
    assert errors.splitlines()[-1] == f"Stopped; the finished rows are in {kept}: go on with --resume"
    assert errors.count("Stopped") == 1
    assert (
        map_to_file("scan.h5", "small.safetensors", "map.h5", resume=True, **OPTIONS).resumed == ROWS_DONE * 7
    )
    assert content("map.h5") == content("whole.h5")


def test_ctrl_c_before_any_row_says_so(files, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(NativeReader, "read_rows", stop)
    before = sorted(files.iterdir())
    result = CliRunner().invoke(app, ["map", "scan.h5", "--model", "small.safetensors", "--device", "cpu"])
    assert result.exit_code == 130
    assert "Stopped; no row was finished" in result.stderr
    assert sorted(files.iterdir()) == before
