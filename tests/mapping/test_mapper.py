"""The mapper: what a map depends on, and what it must not depend on."""

import itertools
import os
import threading

import numpy as np
import pytest
import torch

import microinfer as mi
from microinfer import _core
from microinfer.crystals.symmetry import misorientation
from microinfer.mapping import map_to_file
from microinfer.mapping.inference import Inference
from microinfer.mapping.job import MapJob, RowBlock
from microinfer.mapping.unfinished import HEAD
from microinfer.maps.map_file import UNFINISHED_KIND
from microinfer.maps.orientation_map import OrientationMap
from microinfer.models.device import devices
from microinfer.record_file import RecordFile

DIRECT_BEAM = 1  # peaks at every position of `scan` that are no disks


def assert_identical(a: OrientationMap, b: OrientationMap) -> None:
    for name, values in a.arrays.items():
        np.testing.assert_array_equal(values, b.arrays[name], name)


def assert_same_orientations(a: OrientationMap, b: OrientationMap) -> None:
    np.testing.assert_array_equal(a.valid, b.valid)
    np.testing.assert_array_equal(a.phase, b.phase)
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-4)
    np.testing.assert_allclose(a.score, b.score, atol=1e-4)
    difference = (a.matrix - b.matrix)[a.valid].astype(float)
    angle = 2 * np.arcsin(np.linalg.norm(difference, axis=(1, 2)) / np.sqrt(8))
    assert angle.max() < 1e-4


@pytest.fixture
def whole(scan, small_model):
    return mi.map_orientations(scan, small_model, device="cpu")


def test_map_describes_scan_and_model(scan, small_model, whole):
    assert whole.scan == scan.scan
    assert whole.phases == small_model.phases
    assert whole.model_card == small_model.card
    assert whole.dtype == ("bfloat16" if _core.gains_by_bfloat16() else "float32")
    assert 0.3 < whole.valid.mean() < 1.0


def test_positions_with_too_few_disks_are_invalid(scan, small_model, whole):
    disks = scan.counts.reshape(scan.scan_shape) - DIRECT_BEAM
    assert (disks == 0).any()
    assert not whole.valid[disks < 2].any()
    assert np.isnan(whole.matrix[~whole.valid]).all()
    assert (whole.phase[~whole.valid] == -1).all()
    assert (whole.confidence[~whole.valid] == 0).all()
    few = mi.map_orientations(scan, small_model, device="cpu", min_disks=6)
    np.testing.assert_array_equal(few.valid, whole.valid & (disks >= 6))


def test_each_pattern_is_answered_as_if_alone(scan, small_model, whole):
    answered = np.argwhere(whole.valid)
    for row, column in answered[:: len(answered) // 5]:
        alone = mi.BraggPeaks.from_patterns([scan.pattern(row, column)], (1, 1))
        answer = mi.map_orientations(alone, small_model, device="cpu")
        for name, values in answer.arrays.items():
            np.testing.assert_array_equal(values[0, 0], whole.arrays[name][row, column], name)


def test_without_refinement_there_is_no_score(scan, small_model, whole):
    plain = mi.map_orientations(scan, small_model, device="cpu", refine=None)
    assert np.isnan(plain.score).all()
    assert not np.isnan(whole.score[whole.valid]).any()
    assert not np.array_equal(plain.matrix[whole.valid], whole.matrix[whole.valid])


@pytest.mark.parametrize("block_rows", [2, 50])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_map_does_not_depend_on_blocks_and_batches(scan, small_model, whole, block_rows, batch_size):
    other = mi.map_orientations(scan, small_model, device="cpu", block_rows=block_rows, batch_size=batch_size)
    assert_same_orientations(other, whole)


def test_map_in_torch_does_not_depend_on_blocks_and_batches(scan, small_model):
    whole = mi.map_orientations(scan, small_model, device="cpu:0")
    for options in ({"batch_size": 1}, {"batch_size": 40, "block_rows": 2}, {"block_rows": 50}):
        assert_same_orientations(mi.map_orientations(scan, small_model, device="cpu:0", **options), whole)


@pytest.mark.parametrize("device", ["cpu,cpu", (torch.device("cpu"), "cpu", "cpu")])
def test_several_devices_share_a_map(scan, small_model, whole, tmp_path, device):
    assert_identical(mi.map_orientations(scan, small_model, device=device, block_rows=1), whole)
    report = map_to_file(scan, small_model, tmp_path / "map.h5", device=device, block_rows=2)
    assert report.positions == whole.valid.size
    assert_identical(mi.load_map(tmp_path / "map.h5"), whole)
    assert not stage_threads()


def test_several_devices_multiply_the_same_numbers(scan, small_model, monkeypatch):
    float32 = mi.map_orientations(scan, small_model, device="cpu", dtype="float32")
    one_of_two = itertools.cycle([True, False])
    monkeypatch.setattr("microinfer.models.device.gains_by_bfloat16", lambda device: next(one_of_two))
    shared = mi.map_orientations(scan, small_model, device="cpu,cpu", block_rows=1)
    assert shared.dtype == float32.dtype == "float32"
    assert_identical(shared, float32)


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices("cuda:0,cpu") == ["cuda:0", "cpu"]
    with pytest.raises(ValueError, match="device 'cuda:7': torch finds 1 CUDA GPUs here"):
        devices("cuda:7")


@pytest.mark.parametrize("threads", [1, 3])
def test_map_does_not_depend_on_threads(scan, small_model, whole, threads):
    before = torch.get_num_threads(), _core.num_threads()
    try:
        torch.set_num_threads(threads)
        _core.set_num_threads(threads)
        other = mi.map_orientations(scan, small_model, device="cpu")
    finally:
        torch.set_num_threads(before[0])
        _core.set_num_threads(before[1])
    assert_same_orientations(other, whole)


def test_map_does_not_depend_on_the_order_of_disks(scan, small_model, whole):
    rng = np.random.default_rng(3)
    rows, columns = scan.scan_shape
    patterns = [rng.permutation(scan.pattern(i, j)) for i in range(rows) for j in range(columns)]
    shuffled = mi.BraggPeaks.from_patterns(patterns, scan.scan)
    assert not np.array_equal(shuffled.qx, scan.qx)
    assert_identical(mi.map_orientations(shuffled, small_model, device="cpu"), whole)


def test_memory_reader_path_and_file_give_the_same_bits(scan, small_model, whole, tmp_path):
    path = tmp_path / "scan.h5"
    mi.write_peaks(path, scan)
    assert_identical(mi.map_orientations(path, small_model, device="cpu"), whole)
    with mi.open_peaks(path) as reader:
        assert_identical(mi.map_orientations(reader, small_model, device="cpu"), whole)
    map_to_file(path, small_model, tmp_path / "map.h5", device="cpu")
    assert_identical(mi.load_map(tmp_path / "map.h5"), whole)


def test_alternatives_are_ranked_and_elsewhere(scan, small_model, whole):
    matrix, phase, probability, score = whole.alternatives
    exists = whole.valid[..., None] & (probability > 0)
    assert exists[whole.valid, :2].mean() > 0.5
    assert (phase == np.where(exists, 0, -1)).all()
    assert np.isnan(matrix[~exists]).all()
    assert np.isnan(score[~exists]).all()
    assert (np.diff(probability, axis=-1) <= 0).all()
    assert (probability.sum(-1) + whole.confidence <= 1 + 1e-5).all()
    assert matrix.shape[2] == small_model.core().candidates - 1
    for other in range(2):
        there = exists[..., other]
        angle = misorientation(matrix[there][:, other], whole.matrix[there], small_model.phases[0].operators)
        assert np.median(np.degrees(angle)) > 3.0


def test_roi_and_mask_map_a_part(scan, small_model, whole):
    inside = np.zeros(scan.scan_shape, bool)
    inside[2:8, 3:6] = True
    part = mi.map_orientations(scan, small_model, device="cpu", roi=(2, 8, 3, 6), block_rows=3)
    np.testing.assert_array_equal(part.valid, whole.valid & inside)
    mask = np.random.default_rng(5).random(scan.scan_shape) < 0.4
    mask[4:8] = False
    masked = mi.map_orientations(scan, small_model, device="cpu", mask=mask, block_rows=2)
    np.testing.assert_array_equal(masked.valid, whole.valid & mask)
    both = mi.map_orientations(scan, small_model, device="cpu", roi=(2, 8, 3, 6), mask=mask)
    np.testing.assert_array_equal(both.valid, whole.valid & mask & inside)
    np.testing.assert_allclose(both.confidence[both.valid], whole.confidence[both.valid], atol=1e-4)


def test_report_counts_what_was_mapped(scan, small_model, tmp_path):
    report = map_to_file(scan, small_model, tmp_path / "map.h5", device="cpu", roi=(0, 5, 0, 7), block_rows=2)
    omap = mi.load_map(tmp_path / "map.h5")
    assert report.positions == 5 * 7
    assert report.valid == omap.valid.sum()
    assert report.phase_counts == {"Cu": report.valid}
    assert report.mean_confidence == pytest.approx(omap.confidence[omap.valid].mean(), rel=1e-5)
    assert set(report.seconds) == {"read", "infer", "write"}
    assert min(report.seconds.values()) > 0
    assert report.seconds[report.bottleneck] == max(report.seconds.values())
    text = f"{report.valid / 35:.1%} valid, Cu 100.0%, mean confidence {report.mean_confidence:.2f}, "
    assert repr(report).startswith(f"MapReport(35 positions, {text}")
    assert report.positions_per_second == pytest.approx(report.positions / report.elapsed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roi": (0, 14, 0, 5)}, "roi must be"),
        ({"roi": (3, 3, 0, 5)}, "roi must be"),
        ({"mask": np.ones((2, 2), bool)}, "mask must have"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"block_rows": 0}, "block_rows must be"),
        ({"min_disks": 0}, "min_disks must be"),
        ({"device": "microscope"}, "device must be"),
        ({"device": "cpu,microscope"}, "device must be .* got 'microscope'"),
        ({"device": []}, "device must name at least one"),
    ],
)
def test_wrong_arguments_are_named(scan, small_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        mi.map_orientations(scan, small_model, **arguments)


def test_mask_must_be_boolean(scan, small_model):
    with pytest.raises(TypeError, match="mask must be boolean"):
        mi.map_orientations(scan, small_model, mask=np.ones(scan.scan_shape))


class BrokenScan:
    """A scan that cannot be read to its end."""

    def __init__(self, peaks, good_rows):
        self.peaks, self.good_rows = peaks, good_rows
        self.rows_read = []

    def __getattr__(self, name):
        return getattr(self.peaks, name)

    def read_rows(self, start, stop):
        if stop > self.good_rows:
            raise OSError("the disk fell out")
        self.rows_read.append(start)
        return self.peaks.read_rows(start, stop)


def stage_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("microinfer-")]


def test_reader_error_reaches_the_caller_after_the_rows_before_it(scan, small_model, tmp_path):
    broken = BrokenScan(scan, good_rows=8)
    with pytest.raises(OSError, match="the disk fell out"):
        map_to_file(broken, small_model, tmp_path / "map.h5", device="cpu", block_rows=2, check=False)
    assert broken.rows_read == [0, 2, 4, 6]
    assert os.listdir(tmp_path) == ["map.h5.part"]
    assert stage_threads() == []
    records = RecordFile(tmp_path / "map.h5.part", UNFINISHED_KIND)
    begun = [np.frombuffer(records[index], HEAD, 1)[0] for index in range(len(records))]
    records.close()
    assert [(block["start"], block["stop"]) for block in begun] == [(0, 2), (2, 4), (4, 6), (6, 8)]


def test_rows_that_came_without_answers_are_an_error(scan, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(MapJob, "blocks", lambda job, done: [RowBlock(0, 5)])
    with pytest.raises(RuntimeError, match=r"scan rows \[5, 6, .* came without answers"):
        map_to_file(scan, small_model, tmp_path / "map.h5", device="cpu")
    assert os.listdir(tmp_path) == ["map.h5.part"]


def test_interruption_stops_the_reader_and_keeps_the_old_map(scan, small_model, tmp_path, monkeypatch):
    path = tmp_path / "map.h5"
    path.write_text("an older map")
    watched = BrokenScan(scan, good_rows=100)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Inference, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        map_to_file(watched, small_model, path, device="cpu", block_rows=1, check=False, overwrite=True)
    assert len(watched.rows_read) < scan.scan_shape[0]
    assert os.listdir(tmp_path) == ["map.h5"]
    assert path.read_text() == "an older map"
    assert stage_threads() == []


def test_output_that_cannot_be_written_is_named_before_any_work(scan, small_model, tmp_path):
    watched = BrokenScan(scan, good_rows=100)
    with pytest.raises(OSError, match=r"missing/map\.h5"):
        map_to_file(watched, small_model, tmp_path / "missing" / "map.h5", device="cpu")
    assert watched.rows_read == []


def test_a_map_is_replaced_only_where_that_is_asked_for(scan, small_model, tmp_path):
    path, watched = tmp_path / "map.h5", BrokenScan(scan, good_rows=100)
    path.write_text("precious")
    with pytest.raises(
        FileExistsError, match=r"the map is there already; overwrite=True replaces it.*map\.h5"
    ):
        map_to_file(watched, small_model, path, device="cpu")
    with pytest.raises(ValueError, match=r"map\.ctf: the name of the map must end in \.h5 or \.hdf5"):
        map_to_file(watched, small_model, tmp_path / "map.ctf", device="cpu")
    assert watched.rows_read == []
    assert path.read_text() == "precious"
    map_to_file(scan, small_model, path, device="cpu", overwrite=True)
    assert mi.load_map(path).valid.any()
    assert os.listdir(tmp_path) == ["map.h5"]


def test_map_never_replaces_the_scan(scan, small_model, tmp_path):
    path = tmp_path / "scan.h5"
    mi.write_peaks(path, scan)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="would replace the scan"):
        map_to_file(path, small_model, path, device="cpu")
    assert path.read_bytes() == before


def test_scan_that_does_not_fit_the_model_warns(scan, small_model):
    wrong = mi.BraggPeaks(scan.offsets, scan.qx * 1.03, scan.qy * 1.03, scan.intensity, scan.scan_shape)
    with pytest.warns(UserWarning, match=r"the peaks lie 3\.0% too far out for Cu"):
        mi.map_orientations(wrong, small_model, device="cpu")
    mi.map_orientations(wrong, small_model, device="cpu", check=False)


def test_scan_without_disks_warns_and_is_invalid_throughout(small_model):
    empty = mi.BraggPeaks.from_patterns([np.zeros((0, 3), np.float32)] * 6, (2, 3))
    with pytest.warns(UserWarning, match="no scan position has the 2 disks"):
        omap = mi.map_orientations(empty, small_model, device="cpu")
    assert not omap.valid.any()


def test_checkpoint_path_is_a_model(scan, small_model, whole, tmp_path):
    small_model.save(tmp_path / "small.safetensors")
    assert_identical(mi.map_orientations(scan, tmp_path / "small.safetensors", device="cpu"), whole)


@pytest.mark.gpu
def test_gpu_and_cpu_agree(scan, small_model):
    on_gpu, on_cpu = (
        mi.map_orientations(scan, small_model, device=device, dtype="float32") for device in ("cuda", "cpu")
    )
    assert_same_orientations(on_gpu, on_cpu)
