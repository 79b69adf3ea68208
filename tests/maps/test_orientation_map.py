import copy
import json
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from helpers.example_phases import PHASES
from microinfer.crystals.phase import CellAtoms, CrystalPhase
from microinfer.maps.arrays import FIELDS, checked_arrays
from microinfer.maps.map_file import ATTRIBUTES, FORMAT_VERSION, MapWriter, _checksum, load_map
from microinfer.maps.orientation_map import MapDescription, OrientationMap
from microinfer.peaks import Scan

CUBIC = Rotation.create_group("O").as_matrix()
COPPER = CrystalPhase(
    "Cu", (3.61, 3.61, 3.61, 90, 90, 90), "Fm-3m", "m-3m", CUBIC, np.array([[1, 1, 1, 20.0]])
)
OXIDE = CrystalPhase(
    "Cu2O",
    (4.27, 4.27, 4.27, 90, 90, 90),
    "Pn-3m",
    "m-3m",
    CUBIC,
    np.zeros((0, 4)),
    CellAtoms.of([29, 8], [[0.25, 0.25, 0.25], [0, 0, 0]], [1.0, 0.9]),
)


def random_arrays(seed, shape, candidates=3):
    rng = np.random.default_rng(seed)
    ranks = (*shape, candidates)
    phase = rng.integers(-1, 2, ranks)
    phase[..., 0] = np.abs(phase[..., 0])
    return {
        "valid": rng.random(shape) < 0.7,
        "matrix": Rotation.random(np.prod(ranks), random_state=seed).as_matrix().reshape(*ranks, 3, 3),
        "phase": phase,
        "probability": rng.random(ranks, dtype=np.float32),
        "score": rng.random(ranks, dtype=np.float32),
    }


def described(shape, **kwargs):
    return MapDescription(**{"phases": (COPPER, OXIDE), "scan": Scan(shape)} | kwargs)


def random_map(seed=0, shape=(7, 5), candidates=3, **kwargs):
    return OrientationMap.from_arrays(random_arrays(seed, shape, candidates), described(shape, **kwargs))


def assert_same_maps(first, second):
    assert first.arrays.keys() == second.arrays.keys() == FIELDS.keys()
    for name, values in first.arrays.items():
        assert values.dtype == second.arrays[name].dtype == FIELDS[name].dtype
        np.testing.assert_array_equal(values, second.arrays[name], name)
    for name in ("scan", "model_card", "version", "dtype", "warnings"):
        assert getattr(first, name) == getattr(second, name)
    assert [phase.to_dict() for phase in first.phases] == [phase.to_dict() for phase in second.phases]


@given(seed=st.integers(0, 2**16), candidates=st.integers(1, 6))
@settings(max_examples=20)
def test_what_exists_is_kept_and_the_rest_is_blank(seed, candidates):
    arrays = random_arrays(seed, (6, 4), candidates)
    omap = OrientationMap.from_arrays(arrays, described((6, 4)))
    exists = arrays["valid"][..., None] & (arrays["phase"] >= 0)
    np.testing.assert_array_equal(omap.valid, arrays["valid"])
    for name, blank in (("matrix", np.nan), ("phase", -1), ("probability", 0), ("score", np.nan)):
        values = getattr(omap.candidates, name)
        np.testing.assert_array_equal(values[exists], arrays[name][exists].astype(values.dtype))
        np.testing.assert_array_equal(values[~exists], np.full_like(values[~exists], blank))
        np.testing.assert_array_equal(getattr(omap, name), values[:, :, 0])
        np.testing.assert_array_equal(getattr(omap.alternatives, name), values[:, :, 1:])
    assert omap.confidence is not None
    np.testing.assert_array_equal(omap.confidence, omap.probability)
    assert not np.isnan(arrays["matrix"]).any()  # the caller's arrays stay as they are


def test_a_map_of_one_answer_needs_no_axis_of_candidates():
    arrays = random_arrays(1, (6, 4), candidates=1)
    matrix, phase, confidence = (arrays[name][:, :, 0] for name in ("matrix", "phase", "probability"))
    omap = OrientationMap(matrix, arrays["valid"], phase, confidence, (COPPER, OXIDE))
    assert omap.scan == Scan((6, 4))
    assert np.isnan(omap.score).all()
    assert omap.alternatives.matrix.shape == (6, 4, 0, 3, 3)
    del arrays["score"]
    assert_same_maps(omap, OrientationMap.from_arrays(arrays, described((6, 4))))


def test_steps_on_a_map_make_another_one():
    omap = random_map(1)
    before = {name: values.copy() for name, values in omap.arrays.items()}
    certain = omap.replace(valid=omap.valid & (omap.confidence > 0.5), scan=Scan((7, 5), 2.0, "nm"))
    assert 0 < certain.valid.sum() < omap.valid.sum()
    np.testing.assert_array_equal(certain.phase, np.where(certain.valid, omap.phase, -1))
    assert (certain.scan_step, certain.scan_units, omap.scan_units) == (2.0, "nm", "pixels")
    for name, values in omap.arrays.items():
        np.testing.assert_array_equal(values, before[name])
        with pytest.raises(ValueError, match="read-only"):
            getattr(omap, name)[0, 0] = 0
    with pytest.raises(ValueError, match=r"no others than valid, .*colour"):
        omap.replace(colour=omap.valid)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = omap.colour


def test_an_array_of_the_best_candidates_leaves_the_alternatives():
    omap = random_map(2)
    halved = omap.replace(confidence=omap.confidence / 2)
    np.testing.assert_array_equal(halved.confidence, omap.confidence / 2)
    np.testing.assert_array_equal(halved.alternatives.probability, omap.alternatives.probability)
    turned = omap.replace(matrix=np.where(omap.valid[..., None, None], np.diag([1, -1, -1]), np.nan))
    np.testing.assert_array_equal(
        turned.matrix[omap.valid], np.tile(np.diag([1, -1, -1]), (omap.valid.sum(), 1, 1))
    )
    np.testing.assert_array_equal(turned.alternatives.matrix, omap.alternatives.matrix)
    assert_same_maps(omap.replace(phase=omap.phase, score=omap.score), omap)


@pytest.mark.parametrize(
    "again",
    [lambda omap: omap, copy.copy, copy.deepcopy, lambda omap: pickle.loads(pickle.dumps(omap))],
    ids=["itself", "copy", "deepcopy", "pickle"],
)
def test_maps_and_their_copies_do_not_change(again):
    omap = again(random_map(1))
    assert_same_maps(omap, random_map(1))
    for name in ("matrix", "confidence", "scan", "anything"):
        with pytest.raises(AttributeError, match=rf"omap\.replace\({name}=\.\.\.\) makes another one"):
            setattr(omap, name, omap.valid)
    with pytest.raises(AttributeError, match="arrays cannot be deleted"):
        del omap.arrays
    with pytest.raises(TypeError, match="does not support item assignment"):
        omap.arrays["valid"] = ~omap.valid
    for values in (omap.matrix, omap.valid, omap.candidates.phase, *omap.arrays.values(), omap[2:, 1:].score):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


def test_one_position():
    omap = random_map(4, candidates=4)
    for i, j in np.ndindex(omap.scan_shape):
        position = omap[i, j]
        there = (omap.candidates.phase[i, j] >= 0).nonzero()[0]
        assert position.index == (i, j)
        assert position.valid == omap.valid[i, j]
        assert len(position.answers) == len(there)
        for answer, rank in zip(position.answers, there, strict=True):
            assert answer.phase is omap.phases[omap.candidates.phase[i, j, rank]]
            np.testing.assert_array_equal(answer.matrix, omap.candidates.matrix[i, j, rank])
            assert answer.confidence == omap.candidates.probability[i, j, rank]
            assert answer.score == omap.candidates.score[i, j, rank]
        np.testing.assert_array_equal(position.matrix, omap.matrix[i, j])
        assert position.confidence == omap.confidence[i, j]
        np.testing.assert_equal(position.score, omap.score[i, j])
        assert position.alternatives == position.answers[1:]
        if not position.valid:
            assert position.phase is None
            assert repr(position) == f"Position ({i}, {j}): no answer"
    assert omap[-1, np.int64(-2)].index == (6, 3)


def test_a_position_says_what_it_is_and_what_else_it_may_be():
    about_z = Rotation.from_euler("z", [[0], [30], [5]], degrees=True).as_matrix()
    omap = OrientationMap(
        about_z[None, None],
        [[True]],
        [[[0, 0, 1]]],
        [[[0.7, 0.2, 0.1]]],
        (COPPER, OXIDE),
        score=[[[0.9, 0.8, np.nan]]],
    )
    assert repr(omap[0, 0]).split("\n") == [
        "Position (0, 0): Cu near [0 0 1] (0.0° off), confidence 0.70, score 0.90",
        "  or Cu near [0 0 1] (0.0° off), confidence 0.20, score 0.80, 30.0° from the first",
        "  or Cu2O near [0 0 1] (0.0° off), confidence 0.10",
    ]
    titanium = PHASES["Ti"]
    beam_along_a = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    omap = OrientationMap(beam_along_a[None, None], [[True]], [[0]], [[0.5]], (titanium,))
    assert "Ti near [2 -1 -1 0] (0.0° off), confidence 0.50" in repr(omap[0, 0])


@pytest.mark.parametrize(
    ("index", "rows", "columns", "step"),
    [
        (np.s_[2:5, 1:], [2, 3, 4], [1, 2, 3, 4], 0.5),
        (np.s_[::2, ::2], [0, 2, 4, 6], [0, 2, 4], 1.0),
        (np.s_[3, :], [3], [0, 1, 2, 3, 4], 0.5),
        (np.s_[-2:, -1], [5, 6], [4], 0.5),
        (np.s_[1:6:3, 2], [1, 4], [2], 1.5),
    ],
)
def test_part_of_a_map(index, rows, columns, step):
    omap = random_map(5, scan=Scan((7, 5), 0.5, "nm", True), model_card={"voltage": 2e5})
    part = omap[index]
    assert part.scan == Scan((len(rows), len(columns)), step, "nm", True)
    assert part.model_card == omap.model_card
    for name, values in part.arrays.items():
        np.testing.assert_array_equal(values, omap.arrays[name][np.ix_(rows, columns)], name)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ((7, 0), IndexError, "row 7 lies outside the map, which has 7 rows"),
        ((0, -6), IndexError, "column -6 lies outside the map, which has 5 columns"),
        (np.s_[4:4, :], IndexError, "rows 4:4 hold none of the map's 7 rows"),
        (np.s_[:, ::-1], IndexError, "columns None:None hold none of the map's 5 columns in their order"),
        (np.s_[::2, ::3], IndexError, "one step along rows and columns, got 2, 3"),
        (3, TypeError, r"omap\[i, j\] or omap\[10:40, 5:45\], got int"),
        (np.ones((7, 5), bool), TypeError, r"got ndarray; to blank positions: omap\.replace\(valid=\.\.\.\)"),
        ((0, 0, 0), TypeError, "a row and a column"),
        ((0, 1.5), TypeError, "integer"),
    ],
)
def test_what_is_no_part_of_a_map(index, error, message):
    with pytest.raises(error, match=message):
        random_map()[index]


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("matrix", np.zeros((6, 4, 3)), ValueError, r"matrix must have the shape \(6, 4, 1, 3, 3\)"),
        ("phase", np.zeros((6, 4), int), ValueError, r"phase must have the shape \(6, 4, 3\), got \(6, 4\)"),
        ("probability", np.zeros(6), ValueError, r"probability must have the shape \(6, 4, 3\)"),
        ("valid", np.ones(6, bool), ValueError, r"valid must have the shape \(Rx, Ry\)"),
        ("valid", np.ones((6, 4)), TypeError, "valid must hold booleans, got float64"),
        ("phase", np.zeros((6, 4, 3)), TypeError, "phase must hold integers, got float64"),
        ("score", np.full((6, 4, 3), "?"), TypeError, "score must hold real numbers, got <U1"),
        ("colour", np.zeros((6, 4)), ValueError, "no others than valid, .*; got .*colour"),
    ],
)
def test_wrong_shapes_and_types_are_named(name, value, error, message):
    with pytest.raises(error, match=message):
        checked_arrays(random_arrays(2, (6, 4)) | {name: value}, 2)


@pytest.mark.parametrize(
    ("name", "candidate", "bad", "message"),
    [
        ("matrix", 0, np.nan, "matrix must hold proper rotations"),
        ("matrix", 0, np.diag([1, 1, -1]), "matrix must hold proper rotations"),
        ("matrix", 2, 1.01 * np.eye(3), "matrix must hold proper rotations"),
        ("phase", 0, 2, r"phase must lie in \[0, 2\)"),
        ("phase", 0, -1, r"phase must lie in \[0, 2\)"),
        ("phase", 2, -2, r"phase must lie in \[0, 2\)"),
        ("phase", 2, 70000, r"phase must lie in \[0, 2\)"),
        ("probability", 0, 1.5, r"probability \(confidence\) must lie in \[0, 1\]"),
        ("probability", 2, np.nan, r"probability \(confidence\) must lie in \[0, 1\]"),
        ("score", 0, -0.1, r"score must be NaN or lie in \[0, 1\]"),
    ],
)
def test_bad_answers_are_named_with_their_position(name, candidate, bad, message):
    arrays = random_arrays(3, (6, 4))
    arrays["valid"][3, 2], arrays["phase"][3, 2] = True, 0
    arrays[name][3, 2, candidate] = bad
    with pytest.raises(ValueError, match=message + r".*\(7, 2\)"):
        checked_arrays(arrays, 2, first_row=4)


def test_phases_and_scan_are_checked():
    with pytest.raises(ValueError, match="at least one crystal phase"):
        random_map(phases=())
    with pytest.raises(ValueError, match=r"scan must have the shape \(7, 5\) of the arrays, got \(5, 7\)"):
        random_map(scan=Scan((5, 7)))


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    candidates=st.integers(1, 6),
    block=st.integers(1, 9),
    step=st.floats(1e-3, 1e3),
    calibrated=st.booleans(),
)
@settings(max_examples=30)
def test_file_round_trip_in_any_blocks(tmp_path_factory, seed, shape, candidates, block, step, calibrated):
    folder = tmp_path_factory.mktemp("map")
    description = described(
        shape,
        scan=Scan(shape, step, "nm", calibrated),
        model_card={"name": "cu", "voltage": 300e3, "figures": {"median": 0.44}, "note": "µ"},
        version="0.0.7",
        dtype="bfloat16",
        warnings=("the scan was taken at 200 kV, µ",),
    )
    arrays = random_arrays(seed, shape, candidates)
    with MapWriter(folder / "map.h5", description, candidates) as writer:
        for start in np.random.default_rng(seed).permutation(np.arange(0, shape[0], block)):
            rows = slice(start, start + block)
            writer.write_rows(int(start), {name: values[rows] for name, values in arrays.items()})
    expected = OrientationMap.from_arrays(arrays, description)
    assert_same_maps(load_map(folder / "map.h5"), expected)
    expected.save(folder / "saved.h5")
    assert_same_maps(load_map(folder / "saved.h5"), expected)
    assert repr(expected).startswith(f"OrientationMap({shape[0]} x {shape[1]} positions, step {step:g} nm, ")
    assert len(repr(expected)) < 200


def write_old_layout(path, omap, version):
    """Write a map as microinfer did in versions 1 and 2 of the format, without its own writer."""
    ranked = omap.candidates
    arrays = {"valid": omap.valid, "matrix": omap.matrix, "phase": omap.phase, "confidence": omap.confidence}
    if version == 2:
        arrays["score"] = omap.score
        for name in ("matrix", "phase", "probability"):
            arrays[f"alternative_{name}"] = getattr(ranked, name)[:, :, 1:]
    with h5py.File(path, "w") as file:
        file.attrs.update(format="microinfer orientation map", format_version=version, scan_units="nm")
        file.attrs.update(scan_step=0.5, qr_calibrated=True, microinfer_version="0.0.1")
        if version == 2:
            file.attrs["dtype"] = "bfloat16"
        file["phases"] = json.dumps([phase.to_dict() for phase in omap.phases])
        file["model_card"] = json.dumps({"voltage": 200e3})
        for name, values in arrays.items():
            file[name] = values


@pytest.mark.parametrize(("version", "candidates", "dtype"), [(1, 1, "unknown"), (2, 3, "bfloat16")])
def test_files_of_older_versions_are_read(tmp_path, version, candidates, dtype):
    scan = Scan((7, 5), 0.5, "nm", True)
    omap = random_map(scan=scan, model_card={"voltage": 200e3}, version="0.0.1", dtype=dtype)
    write_old_layout(tmp_path / "map.h5", omap, version)
    kept = {name: values[:, :, :candidates] for name, values in omap.candidates._asdict().items()}
    kept["score"] = np.where(np.arange(candidates) < version - 1, kept["score"], np.nan)
    expected = OrientationMap.from_arrays({"valid": omap.valid, **kept}, omap)
    assert_same_maps(load_map(tmp_path / "map.h5"), expected)


def test_files_of_version_4_are_read(tmp_path):
    omap = random_map(scan=Scan((7, 5), 0.5, "nm", True))
    omap.save(tmp_path / "map.h5")
    with h5py.File(tmp_path / "map.h5", "r+") as file:  # as microinfer wrote it then
        del file["warnings"]
        about = {name: file.attrs[name] for name in ATTRIBUTES if name in file.attrs}
        about |= {name: file[name][()] for name in ("phases", "model_card")}
        file.attrs["checksum"] = _checksum(about)
        file.attrs["format_version"] = 4
    assert_same_maps(load_map(tmp_path / "map.h5"), omap)


def test_rows_never_written_are_blank(tmp_path):
    with MapWriter(tmp_path / "map.h5", described((300, 256)), 3) as writer:
        arrays = random_arrays(6, (10, 256))
        writer.write_rows(3, arrays)
    omap = load_map(tmp_path / "map.h5")
    np.testing.assert_array_equal(omap.valid[3:13], arrays["valid"])
    assert omap.valid.sum() == arrays["valid"].sum()
    with h5py.File(tmp_path / "map.h5") as file:  # other readers of the file see the same
        assert np.isnan(file["matrix"][0]).all()
        assert (file["phase"][0] == -1).all()
        assert (file["probability"][0] == 0).all()
        assert file["matrix"].chunks == (8, 256, 3, 3, 3)
        assert file["phase"].compression == "gzip"
        assert file["matrix"].compression is None  # noise: it would not pay
    assert (tmp_path / "map.h5").stat().st_size < 20 * 256 * 140  # rows without answers cost next to nothing


@pytest.mark.parametrize(
    ("start", "shape", "candidates"), [(5, (3, 4), 3), (-1, (2, 4), 3), (0, (2, 5), 3), (0, (2, 4), 1)]
)
def test_blocks_that_do_not_fit_are_refused(tmp_path, start, shape, candidates):
    with (
        pytest.raises(ValueError, match="does not fit a scan of 6 x 4 with 3"),
        MapWriter(tmp_path / "map.h5", described((6, 4)), 3) as writer,
    ):
        writer.write_rows(start, random_arrays(7, shape, candidates))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_map_leaves_the_old_one(tmp_path, error):
    path = tmp_path / "map.h5"
    old = random_map(seed=9)
    old.save(path)

    def fail():
        with MapWriter(path, described((6, 4)), 3) as writer:
            writer.write_rows(0, random_arrays(10, (3, 4)))
            raise error

    with pytest.raises(error):
        fail()
    assert_same_maps(load_map(path), old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.h5"]


def test_a_map_is_replaced_only_where_that_is_asked_for(tmp_path):
    old, new = random_map(seed=9), random_map(seed=10)
    old.save(tmp_path / "map.h5")
    with pytest.raises(
        FileExistsError, match=r"the map is there already; overwrite=True replaces it.*map\.h5"
    ):
        new.save(tmp_path / "map.h5")
    assert_same_maps(load_map(tmp_path / "map.h5"), old)
    new.save(tmp_path / "map.h5", overwrite=True)
    assert_same_maps(load_map(tmp_path / "map.h5"), new)
    with pytest.raises(
        ValueError, match=r"map\.ang: the name of the map must end in \.h5 or \.hdf5, got '\.ang'"
    ):
        new.save(tmp_path / "map.ang")
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.h5"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match="missing"):
        random_map().save(tmp_path / "missing" / "map.h5")


FULL_DISK = """
import resource, signal, sys
import numpy as np
from microinfer.crystals.phase import CrystalPhase
from microinfer.maps.map_file import MapWriter
from microinfer.maps.orientation_map import MapDescription
from microinfer.peaks import Scan

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
phase = CrystalPhase("P1", (3, 4, 5, 90, 90, 90), "", "1", np.eye(3)[None], np.zeros((0, 4)))
rng = np.random.default_rng(0)
shape = (16, 256)
matrix = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))[0]
matrix *= np.linalg.det(matrix)[..., None, None]
arrays = {"valid": np.ones(shape, bool), "matrix": matrix, "phase": np.zeros(shape, int), "probability": np.ones(shape)}
try:
    with MapWriter(sys.argv[1], MapDescription((phase,), Scan((160, 256))), 1) as writer:
        for start in range(0, 160, 16):
            writer.write_rows(start, arrays)
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
    writer = MapWriter(tmp_path / "map.h5", described((2, 2)), 3)
    with pytest.raises(RuntimeError, match="with statement"):
        writer.write_rows(0, random_arrays(11, (2, 2)))
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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("phi1 Phi phi2"), "cannot be opened"),
        (truncate, "cannot be opened"),
        (edit(lambda file: file.attrs.pop("format")), "not one that microinfer"),
        (edit(lambda file: file.attrs.modify("format", "EMD")), "not one that microinfer"),
        (edit(lambda file: file.attrs.modify("format_version", FORMAT_VERSION + 1)), "newer than"),
        (edit(lambda file: file.pop("phase")), "there is no dataset phase"),
        (edit(lambda file: file.attrs.pop("scan_step")), "its checksum says"),
        (edit(lambda file: file["phases"].__setitem__((), b"[{")), "its checksum says"),
        (edit(lambda file: file.attrs.modify("scan_step", -1.0)), "its checksum says"),
        (edit(lambda file: file.attrs.modify("checksum", 0)), "its checksum says"),
        (edit(lambda file: file.attrs.__setitem__("format_version", h5py.Empty("i"))), "cannot be opened"),
        (edit(lambda file: (file.pop("phases"), file.create_group("phases"))), "cannot be opened"),
        (edit(lambda file: (file.pop("valid"), file.create_group("valid"))), "cannot be opened"),
        (edit(lambda file: (file.pop("valid"), file.create_dataset("valid", data=True))), "cannot be opened"),
        (edit(lambda file: file.attrs.modify("format_version", 2)), "cannot be opened"),
        (edit(lambda file: file.attrs.modify("format_version", 1)), "cannot be opened"),
    ],
)
def test_foreign_damaged_and_newer_files_are_named(tmp_path, damage, message):
    path = tmp_path / "suspect.h5"
    random_map().save(path)
    damage(path)
    with pytest.raises(ValueError, match=r"suspect\.h5") as caught:
        load_map(path)
    assert message in str(caught.value)


def damages(content, rng, count):
    """Copies of a file with one bit flipped, a page zeroed, or an end missing."""
    for number in range(count):
        damaged = bytearray(content)
        at = int(rng.integers(len(content) if number % 2 else min(len(content), 8192)))
        if number % 3 == 0:
            damaged[at] ^= 1 << int(rng.integers(8))
        elif number % 3 == 1:
            page = at - at % 4096
            damaged[page : page + 4096] = bytes(len(damaged[page : page + 4096]))
        else:
            del damaged[at:]
        yield bytes(damaged)


@pytest.mark.parametrize("count", [240, pytest.param(5000, marks=pytest.mark.slow)])
def test_no_damage_changes_a_map_unnoticed(tmp_path, count):
    omap = random_map(scan=Scan((7, 5), 0.5, "nm", True))
    path = tmp_path / "map.h5"
    omap.save(path)
    refused = 0
    for content in damages(path.read_bytes(), np.random.default_rng(count), count):
        path.write_bytes(content)
        try:
            loaded = load_map(path)
        except ValueError as error:
            assert "map.h5 cannot be opened as an orientation map" in str(error)  # noqa: PT017
            refused += 1
        else:  # what the damage met is not in use
            assert_same_maps(loaded, omap)
    assert refused > 0.8 * count
