"""Mapping on a Dask cluster: a real scheduler, real worker processes, and what happens when one is killed."""

import os
import pickle
import signal
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import microinfer as mi
from helpers.devices import needs_bfloat16
from microinfer import _core
from microinfer.mapping import map_to_file
from microinfer.models import device
from microinfer.peaks import PeakSource

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Dask's own sockets and event loops
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OPTIONS = {"device": "cpu", "block_rows": 1}


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
    ) as running:
        yield running


@pytest.fixture(scope="module")
def files(scan, small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    mi.write_peaks(folder / "scan.h5", scan)
    small_model.save(folder / "small.safetensors")
    return folder


@pytest.fixture(scope="module")
def whole(scan, small_model):
    return mi.map_orientations(scan, small_model, **OPTIONS)


def assert_same(omap, whole):
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(omap.arrays[name], values, name)
    assert (omap.model_card, omap.dtype) == (whole.model_card, whole.dtype)


def test_the_map_is_that_of_one_machine(cluster, files, whole, tmp_path):
    report = map_to_file(
        files / "scan.h5", files / "small.safetensors", tmp_path / "map.h5",
        cluster=cluster.scheduler_address, **OPTIONS,
    )  # fmt: skip
    assert_same(mi.load_map(tmp_path / "map.h5"), whole)
    assert report.valid == whole.valid.sum()
    assert min(report.seconds.values()) > 0


def set_bfloat16(gained):
    """Make this process believe that its CPU gains by bfloat16, or that it has no instructions for it."""
    device._core = SimpleNamespace(multiplies_bfloat16=lambda: gained, gains_by_bfloat16=lambda: gained)


def find_bfloat16():
    """Make this process look at its CPU again."""
    device._core = _core


@needs_bfloat16
def test_all_workers_multiply_the_same_numbers(cluster, scan, small_model):
    options = {"cluster": cluster.scheduler_address, **OPTIONS}
    one = next(iter(cluster.scheduler_info["workers"]))
    float32, bfloat16 = (
        mi.map_orientations(scan, small_model, dtype=dtype, **OPTIONS) for dtype in ("float32", "bfloat16")
    )
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        try:
            client.run(set_bfloat16, True)
            assert_same(mi.map_orientations(scan, small_model, **options), bfloat16)
            client.run(set_bfloat16, False, workers=[one])
            assert_same(mi.map_orientations(scan, small_model, **options), float32)
            with pytest.raises(ValueError, match="dtype 'bfloat16': the device 'cpu' does not multiply it"):
                mi.map_orientations(scan, small_model, dtype="bfloat16", **options)
        finally:
            client.run(find_bfloat16)


class DeadlyScan(PeakSource):
    """A scan on whose fifth row the first worker that reads it dies at once."""

    def __init__(self, peaks, flag):
        self.peaks, self.flag = peaks, flag

    scan = property(lambda self: self.peaks.scan)

    def read_rows(self, start, stop):
        if start == 5:
            try:
                self.flag.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.peaks.read_rows(start, stop)


def test_a_killed_worker_is_made_up_for(cluster, scan, small_model, whole, tmp_path):
    flag = tmp_path / "killed"
    omap = mi.map_orientations(
        DeadlyScan(scan, flag), small_model, cluster=cluster.scheduler_address, check=False, **OPTIONS
    )
    assert flag.exists()
    assert_same(omap, whole)


def test_an_interrupted_mapping_goes_on_elsewhere(cluster, scan, files, whole, tmp_path):
    class Broken(DeadlyScan):
        def read_rows(self, start, stop):
            if start == 6:
                raise OSError("the network is gone")
            return self.peaks.read_rows(start, stop)

    path, model = tmp_path / "map.h5", files / "small.safetensors"
    with pytest.raises(OSError, match="the network is gone"):
        map_to_file(Broken(scan, None), model, path, **OPTIONS)
    report = map_to_file(scan, model, path, resume=True, cluster=cluster.scheduler_address, **OPTIONS)
    assert report.resumed == 6 * 7
    assert_same(mi.load_map(path), whole)


def test_errors_of_workers_reach_the_caller(cluster, scan, small_model, tmp_path):
    mi.write_peaks(tmp_path / "scan.h5", scan)
    with mi.open_peaks(tmp_path / "scan.h5") as reader:
        (tmp_path / "scan.h5").unlink()
        with pytest.raises(FileNotFoundError, match=r"scan\.h5"):
            mi.map_orientations(reader, small_model, cluster=cluster.scheduler_address, **OPTIONS)


def test_workers_have_one_device_each(scan, small_model):
    with pytest.raises(ValueError, match="with a cluster, device must be one device, got 'cuda:0,cuda:1'"):
        mi.map_orientations(scan, small_model, cluster="tcp://127.0.0.1:9", device="cuda:0,cuda:1")


def test_without_a_scheduler(scan, small_model, monkeypatch):
    monkeypatch.setattr("microinfer.mapping.cluster.CONNECT_SECONDS", 0.5)
    with pytest.raises(OSError, match=r"'tcp://127\.0\.0\.1:9': no Dask scheduler answers there"):
        mi.map_orientations(scan, small_model, cluster="tcp://127.0.0.1:9", **OPTIONS)


def test_without_dask(scan, small_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r'Dask cluster needs distributed: .*pip install .*"distributed>='):
        mi.map_orientations(scan, small_model, cluster="tcp://127.0.0.1:9", **OPTIONS)


def test_a_reader_travels_with_its_options(files):
    with mi.open_peaks(files / "scan.h5") as reader, pickle.loads(pickle.dumps(reader)) as again:
        np.testing.assert_array_equal(again.read_rows(3, 5).qx, reader.read_rows(3, 5).qx)


def test_no_thread_stays(cluster):
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("microinfer-")]
