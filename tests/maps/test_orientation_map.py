import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from microinfer.crystals.phase import CrystalPhase
from microinfer.maps.map_file import FORMAT_VERSION, MapWriter, load_map
from microinfer.maps.orientation_map import ALTERNATIVES, FIELDS, MapBlock, OrientationMap

CUBIC = Rotation.create_group("O").as_matrix()
COPPER = CrystalPhase(
    "Cu", (3.61, 3.61, 3.61, 90, 90, 90), "Fm-3m", "m-3m", CUBIC, np.array([[1, 1, 1, 20.0]])
)
OXIDE = CrystalPhase("Cu2O", (4.27, 4.27, 4.27, 90, 90, 90), "Pn-3m", "m-3m", CUBIC, np.zeros((0, 4)))


def random_fields(seed, shape, n_phases=2):
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    return {
        "matrix": Rotation.random(count, random_state=seed)
        .as_matrix()
        .astype(np.float32)
        .reshape(*shape, 3, 3),
        "valid": rng.random(shape) < 0.7,
        "phase": rng.integers(0, n_phases, shape),
        "confidence": rng.random(shape, dtype=np.float32),
        "score": rng.random(shape, dtype=np.float32),
        "alternative_matrix": Rotation.random(count * ALTERNATIVES, random_state=seed + 1)
        .as_matrix()
        .astype(np.float32)
        .reshape(*shape, ALTERNATIVES, 3, 3),
        "alternative_phase": rng.integers(-1, n_phases, (*shape, ALTERNATIVES)),
        "alternative_probability": rng.random((*shape, ALTERNATIVES), dtype=np.float32),
    }


def random_map(seed=0, shape=(7, 5), **kwargs):
    return OrientationMap(**random_fields(seed, shape), phases=(COPPER, OXIDE), **kwargs)


def assert_same_maps(first, second):
    for name in FIELDS:
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for name in ("scan_step", "scan_units", "qr_calibrated", "model_card", "version", "dtype"):
        assert getattr(first, name) == getattr(second, name)
    assert [phase.to_dict() for phase in first.phases] == [phase.to_dict() for phase in second.phases]


def test_invalid_positions_are_blank():
    fields = random_fields(1, (6, 4))
    omap = OrientationMap(**fields, phases=(COPPER, OXIDE))
    valid = fields["valid"]
    assert not valid.all()
    assert np.isnan(omap.matrix[~valid]).all()
    assert (omap.phase[~valid] == -1).all()
    assert (omap.confidence[~valid] == 0).all()
    np.testing.assert_array_equal(omap.matrix[valid], fields["matrix"][valid])
    np.testing.assert_array_equal(omap.phase[valid], fields["phase"][valid])
    np.testing.assert_array_equal(omap.confidence[valid], fields["confidence"][valid])
    dtypes = omap.matrix.dtype, omap.valid.dtype, omap.phase.dtype, omap.confidence.dtype
    assert dtypes == (np.float32, np.bool_, np.int16, np.float32)
    assert not np.isnan(fields["matrix"]).any()  # the caller's arrays stay as they are


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("matrix", np.zeros((6, 4, 3)), ValueError, r"matrix must have the shape \(6, 4, 3, 3\)"),
        ("phase", np.zeros((4, 6), int), ValueError, r"phase must have the shape \(6, 4\)"),
        ("confidence", np.zeros(6), ValueError, r"confidence must have the shape \(6, 4\)"),
        ("valid", np.ones((6, 4)), TypeError, "valid must be a boolean mask, got float64"),
        ("phase", np.zeros((6, 4)), TypeError, "phase must hold integers, got float64"),
    ],
)
def test_wrong_shapes_and_types_are_named(name, value, error, message):
    with pytest.raises(error, match=message):
        OrientationMap(**random_fields(2, (6, 4)) | {name: value}, phases=(COPPER, OXIDE))


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("matrix", np.nan, "matrix must hold proper rotations"),
        ("matrix", np.diag([1, 1, -1]), "matrix must hold proper rotations"),
        ("matrix", 1.01 * np.eye(3), "matrix must hold proper rotations"),
        ("phase", 2, r"phase must lie in \[0, 2\)"),
        ("phase", -1, r"phase must lie in \[0, 2\)"),
        ("phase", 70000, r"phase must lie in \[0, 2\)"),
        ("confidence", 1.5, r"confidence must lie in \[0, 1\]"),
        ("confidence", np.nan, r"confidence must lie in \[0, 1\]"),
        ("alternative_phase", 2, r"alternative_phase must lie in \[-1, 2\)"),
        ("alternative_matrix", np.nan, "alternative_matrix must hold proper rotations"),
    ],
)
def test_bad_answers_are_named_with_their_position(name, bad, message):
    fields = random_fields(3, (6, 4))
    fields["valid"][3, 2], fields["alternative_phase"][3, 2, -1] = True, 0
    fields[name][3, 2] = bad
    with pytest.raises(ValueError, match=message + r".*\(3, 2\)"):
        OrientationMap(**fields, phases=(COPPER, OXIDE))


def test_phases_and_step_are_checked():
    fields = random_fields(4, (2, 2))
    with pytest.raises(ValueError, match="at least one crystal phase"):
        OrientationMap(**fields, phases=())
    with pytest.raises(ValueError, match="scan_step must be positive"):
        OrientationMap(**fields, phases=(COPPER, OXIDE), scan_step=0.0)


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    block=st.integers(1, 9),
    step=st.floats(1e-3, 1e3),
    calibrated=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_file_round_trip_in_any_blocks(tmp_path_factory, seed, shape, block, step, calibrated):
    path = tmp_path_factory.mktemp("map") / "map.h5"
    metadata = {
        "scan_step": step,
        "scan_units": "nm",
        "qr_calibrated": calibrated,
        "model_card": {"name": "cu", "voltage": 300e3, "figures": {"median": 0.44}, "note": "µ"},
        "version": "0.0.7",
        "dtype": "bfloat16",
    }
    fields = random_fields(seed, shape)
    with MapWriter(path, shape, (COPPER, OXIDE), **metadata) as writer:
        starts = np.random.default_rng(seed).permutation(np.arange(0, shape[0], block))
        for start in starts:
            rows = slice(start, start + block)
            writer.write_rows(int(start), MapBlock(**{name: fields[name][rows] for name in fields}))
    assert_same_maps(load_map(path), OrientationMap(**fields, phases=(COPPER, OXIDE), **metadata))


def test_save_and_load(tmp_path):
    omap = random_map(scan_step=0.5, scan_units="nm", qr_calibrated=True, model_card={"voltage": 200e3})
    omap.save(tmp_path / "map.h5")
    assert_same_maps(load_map(tmp_path / "map.h5"), omap)
    assert "7 x 5 positions" in repr(omap)


def test_map_of_version_1_has_no_score(tmp_path):
    omap = random_map()
    omap.save(tmp_path / "map.h5")
    with h5py.File(tmp_path / "map.h5", "a") as file:
        file.attrs["format_version"] = 1
        del file.attrs["dtype"]
        for name in FIELDS:
            if name == "score" or name.startswith("alternative"):
                del file[name]
    older = load_map(tmp_path / "map.h5")
    assert np.isnan(older.score).all()
    assert older.dtype == "unknown"
    assert (older.alternatives.phase == -1).all()
    np.testing.assert_array_equal(older.matrix, omap.matrix)


def test_rows_never_written_are_invalid(tmp_path):
    fields = random_fields(5, (2, 4))
    fields["valid"][:] = True
    with MapWriter(tmp_path / "map.h5", (6, 4), (COPPER, OXIDE)) as writer:
        writer.write_rows(3, MapBlock(**fields))
    omap = load_map(tmp_path / "map.h5")
    np.testing.assert_array_equal(omap.valid.all(axis=1), [False, False, False, True, True, False])
    with h5py.File(tmp_path / "map.h5") as file:  # other readers of the file see the same
        assert np.isnan(file["matrix"][0]).all()
        assert (file["phase"][0] == -1).all()
        assert (file["confidence"][0] == 0).all()


def test_large_maps_are_chunked_and_compressed(tmp_path):
    with MapWriter(tmp_path / "map.h5", (300, 256), (COPPER,)) as writer:
        fields = random_fields(6, (10, 256), n_phases=1)
        writer.write_rows(0, MapBlock(**fields))
    with h5py.File(tmp_path / "map.h5") as file:
        assert file["matrix"].chunks == (32, 256, 3, 3)
        assert file["phase"].compression == "gzip"
        assert file["matrix"].compression is None  # noise: it would not pay
    assert (tmp_path / "map.h5").stat().st_size < 40 * 256 * 140  # rows without answers cost next to nothing


@pytest.mark.parametrize(("start", "shape"), [(5, (3, 4)), (-1, (2, 4)), (0, (2, 5))])
def test_blocks_outside_the_scan_are_refused(tmp_path, start, shape):
    with (
        pytest.raises(ValueError, match="does not fit a scan of 6 x 4"),
        MapWriter(tmp_path / "map.h5", (6, 4), (COPPER, OXIDE)) as writer,
    ):
        writer.write_rows(start, MapBlock(**random_fields(7, shape)))


def test_bad_blocks_name_the_row_of_the_scan(tmp_path):
    fields = random_fields(8, (2, 4))
    fields["valid"][:] = True
    fields["confidence"][1, 3] = 2.0
    with (
        pytest.raises(ValueError, match=r"\(5, 3\)"),
        MapWriter(tmp_path / "map.h5", (6, 4), (COPPER, OXIDE)) as writer,
    ):
        writer.write_rows(4, MapBlock(**fields))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_map_leaves_the_old_one(tmp_path, error):
    path = tmp_path / "map.h5"
    old = random_map(seed=9)
    old.save(path)

    def fail():
        with MapWriter(path, (6, 4), (COPPER, OXIDE)) as writer:
            writer.write_rows(0, MapBlock(**random_fields(10, (3, 4))))
            raise error

    with pytest.raises(error):
        fail()
    assert_same_maps(load_map(path), old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.h5"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match="missing"):
        random_map().save(tmp_path / "missing" / "map.h5")


FULL_DISK = """
import resource, signal, sys
import numpy as np
from microinfer.crystals.phase import CrystalPhase
from microinfer.maps.map_file import MapWriter
from microinfer.maps.orientation_map import MapBlock

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
phase = CrystalPhase("P1", (3, 4, 5, 90, 90, 90), "", "1", np.eye(3)[None], np.zeros((0, 4)))
rng = np.random.default_rng(0)
shape = (16, 256)
matrix = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))[0]
matrix *= np.linalg.det(matrix)[..., None, None]
try:
    with MapWriter(sys.argv[1], (160, 256), (phase,)) as writer:
        for start in range(0, 160, 16):
            writer.write_rows(
                start, MapBlock(matrix, np.ones(shape, bool), np.zeros(shape, int), np.ones(shape))
            )
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_said_so_and_leaves_nothing(tmp_path):
    path = tmp_path / "map.h5"
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=False
    )
    assert "cannot write the file" in result.stdout
    assert str(path) in result.stdout
    assert list(tmp_path.iterdir()) == []
    # HDF5 left with unwritten data would crash the interpreter on its way out
    assert (result.returncode, result.stderr) == (0, "")


def test_writer_works_only_in_its_context(tmp_path):
    writer = MapWriter(tmp_path / "map.h5", (2, 2), (COPPER, OXIDE))
    with pytest.raises(RuntimeError, match="with statement"):
        writer.write_rows(0, MapBlock(**random_fields(11, (2, 2))))
    assert list(tmp_path.iterdir()) == []


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5"):
        load_map(tmp_path / "nothing.h5")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(change):
    def apply(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return edit(change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("phi1 Phi phi2"), "cannot be opened"),
        (truncate, "cannot be opened"),
        (edit(lambda file: file.attrs.pop("format")), "not one that microinfer"),
        (edit(lambda file: file.attrs.modify("format", "EMD")), "not one that microinfer"),
        (edit(lambda file: file.attrs.modify("format_version", FORMAT_VERSION + 1)), "newer than"),
        (edit(lambda file: file.pop("phase")), "phase"),
        (edit(lambda file: file.attrs.pop("scan_step")), "scan_step"),
        (replace("confidence", np.zeros((3, 3))), "confidence must have the shape"),
        (replace("phases", "[{"), "cannot be opened"),
        (replace("phases", "[]"), "at least one crystal phase"),
    ],
)
def test_foreign_damaged_and_newer_files_are_named(tmp_path, damage, message):
    path = tmp_path / "suspect.h5"
    random_map().save(path)
    damage(path)
    with pytest.raises(ValueError, match=r"suspect\.h5") as caught:
        load_map(path)
    assert message in str(caught.value)
