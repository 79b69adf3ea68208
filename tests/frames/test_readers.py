"""Every format gives back the frames that were written, and what its file says of the scan."""

import gc
import importlib
import os
import pickle
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers import camera_files as files
from helpers.camera_files import PIXEL, SHAPE, STEP, VOLTAGE, counts
from helpers.optional import import_py4dstem, needs_py4dstem
from microinfer.crystals.diffraction import electron_wavelength
from microinfer.frames import is_frames, open_frames
from microinfer.frames.reader import FrameReader
from microinfer.frames.stated import Axis, nanometres, per_angstrom

pytest.importorskip("rsciio", reason="needs RosettaSciIO")
hdf5plugin = pytest.importorskip("hdf5plugin", reason="needs hdf5plugin")

BYTES = counts("u1", (3, 4, 8, 8))
EMPAD = counts("f4", (2, 3, 128, 128))
STATED = ("scan", "step", "pixel", "voltage")

CASES = {  # name of the file: how it is written, what is written, and what it says of the scan
    "a.npy": (files.write_npy, counts(), ("scan",)),
    "fortran.npy": (files.write_npy, np.asfortranarray(counts()), ("scan",)),
    "big.npy": (files.write_npy, counts(">u2"), ("scan",)),
    "signed.npy": (files.write_npy, counts(">i4"), ("scan",)),
    "float64.npy": (files.write_npy, counts(np.float64), ("scan",)),
    "flat.npy": (files.write_npy, counts().reshape(12, 8, 10), ()),
    "a.hspy": (files.write_hspy, counts(), STATED),
    "plain.hspy": (partial(files.write_hspy, compression=None), counts("f4"), STATED),
    "chunks.hspy": (partial(files.write_hspy, chunks=(2, 2, 8, 5)), counts("i2"), STATED),
    "flat.hspy": (files.write_hspy, counts().reshape(12, 8, 10), ("pixel", "voltage")),
    "a.zspy": (files.write_zspy, counts(), STATED),
    "a.blo": (files.write_blo, BYTES, STATED),
    "a_000.tvips": (files.write_tvips, counts(), ("voltage",)),
    "bytes_000.tvips": (files.write_tvips, counts("u1"), ("voltage",)),
    "extra_000.tvips": (partial(files.write_tvips, frame_header_extra_bytes=20), counts(), ("voltage",)),
    "split_000.tvips": (partial(files.write_tvips, max_file_size=1200), counts(), ("voltage",)),
    "a.tif": (files.write_tiff, counts(), ("pixel",)),
    "ncem.emd": (files.write_ncem, counts(), ("scan", "step", "pixel")),
    "p14.h5": (files.write_py4dstem, counts(), ("scan", "step", "pixel")),
    "p14_f4.h5": (files.write_py4dstem, counts("f4"), ("scan", "step", "pixel")),
    "p13.h5": (files.write_py4dstem_13, counts(), ("scan", "step", "pixel")),
    "p12.h5": (files.write_py4dstem_12, counts(), ("scan", "step", "pixel")),
    "u1.mib": (files.write_mib, counts("u1"), ("scan",)),
    "u2.mib": (files.write_mib, counts("u2"), ("scan",)),
    "u4.mib": (files.write_mib, counts("u4"), ("scan",)),
    "quad.mib": (partial(files.write_mib, chips=4), counts("u2"), ("scan",)),
    "alone.mib": (partial(files.write_mib, hdr=False), counts("u2"), ()),
    "u1.mrc": (files.write_mrc, counts("u1"), ()),
    "i2.mrc": (files.write_mrc, counts("i2"), ()),
    "f4.mrc": (partial(files.write_mrc, order=">"), counts("f4"), ()),
    "u2.mrc": (partial(files.write_mrc, extended=b"." * 768), counts("u2"), ()),
    "old.xml": (files.write_empad, EMPAD, STATED),
    "new.xml": (partial(files.write_empad, old=False), EMPAD, ("scan", "step", "voltage")),
    "a_master.h5": (files.write_dectris, counts("u4"), ("scan", "step", "voltage")),
    "one_master.h5": (partial(files.write_dectris, files=1, beside=False), counts("u2"), ("voltage",)),
    "a.dm3": (files.write_dm, counts(), STATED),
    "a.dm4": (files.write_dm, counts("f4"), STATED),
    "flat.dm4": (files.write_dm, counts("i2").reshape(12, 8, 10), ("pixel", "voltage")),
    "last.dm4": (
        partial(files.write_dm, units=("1/nm", "1/nm", "nm", "nm")),
        counts("u1"),
        ("step", "pixel", "voltage"),
    ),
}
NEEDS = {"p14": needs_py4dstem, "p14_f4": needs_py4dstem}


def cases(names=CASES):
    return [pytest.param(name, marks=NEEDS.get(name.split(".")[0], ())) for name in names]


@contextmanager
def left_open():
    """RosettaSciIO leaves some files open to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def written(name, folder):
    """A case's file, its frames as (Rx, Ry, Qx, Qy), and the options that it takes to open it."""
    write, data, stated = CASES[name]
    if name.endswith(".zspy"):
        pytest.importorskip("zarr", reason="needs zarr")
    path = write(folder / name, data)
    if name == "last.dm4":
        return path, data.transpose(2, 3, 0, 1), {}
    shape = (*data.shape[:2], *data.shape[-2:]) if data.ndim == 4 else SHAPE
    return path, data.reshape(shape), {} if "scan" in stated else {"scan_shape": shape[:2]}


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated:FutureWarning")
@pytest.mark.parametrize("name", cases())
def test_reads_what_was_written(name, tmp_path):
    path, data, options = written(name, tmp_path)
    assert is_frames(path)
    with open_frames(path, **options) as source:
        assert isinstance(source, FrameReader)
        assert (source.scan_shape, source.frame_shape) == (data.shape[:2], data.shape[2:])
        assert source.dtype == data.dtype.newbyteorder("=")
        whole = source.read_rows(0, data.shape[0])
        assert whole.dtype == source.dtype
        assert whole.flags.c_contiguous
        assert np.array_equal(whole, data)
        for row in range(data.shape[0]):
            assert np.array_equal(source.read_rows(row, row + 1)[0], data[row])
        assert np.array_equal(np.concatenate(list(source.blocks())), data)
        with pickle.loads(pickle.dumps(source)) as again:
            assert np.array_equal(again.read_rows(1, 2), data[1:2])


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated:FutureWarning")
@pytest.mark.parametrize("name", cases())
def test_takes_what_the_file_states(name, tmp_path):
    stated = CASES[name][2]
    path, _, options = written(name, tmp_path)
    with open_frames(path, **options) as source:
        assert (source.scan_step, source.scan_units) == (
            (pytest.approx(STEP), "nm") if "step" in stated else (1.0, "pixels")
        )
        assert source.pixel_size == (pytest.approx(PIXEL, rel=1e-4) if "pixel" in stated else None)
        assert source.voltage == (VOLTAGE if "voltage" in stated else None)


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated:FutureWarning")
@pytest.mark.parametrize("name", cases())
def test_what_is_given_wins(name, tmp_path):
    stated = CASES[name][2]
    path, _, options = written(name, tmp_path)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with open_frames(path, **options | {"pixel_size": 0.5, "step": "70 A", "voltage": 80}) as source:
            assert (source.pixel_size, source.scan_step, source.voltage) == (0.5, pytest.approx(7.0), 80e3)
    texts = [str(warning.message) for warning in warned]
    for word, fact in (("step", "the step"), ("pixel", "the pixel size"), ("voltage", "was taken at 200 kV")):
        assert any(fact in text for text in texts) is (word in stated)


AS_HYPERSPY = {
    "u1.mib": ("quantumdetector", {"navigation_shape": (4, 3)}),
    "u4.mib": ("quantumdetector", {"navigation_shape": (4, 3)}),
    "quad.mib": ("quantumdetector", {"navigation_shape": (4, 3)}),
    "u1.mrc": ("mrc", {"navigation_shape": (4, 3)}),
    "i2.mrc": ("mrc", {"navigation_shape": (4, 3)}),
    "f4.mrc": ("mrc", {"navigation_shape": (4, 3), "endianness": ">"}),
    "u2.mrc": ("mrc", {"navigation_shape": (4, 3)}),
    "old.xml": ("empad", {}),
    "new.xml": ("empad", {}),
    "a.dm3": ("digitalmicrograph", {}),
    "a.dm4": ("digitalmicrograph", {}),
    "a.blo": ("blockfile", {}),
    "split_000.tvips": ("tvips", {"scan_shape": (3, 4)}),
    "ncem.emd": ("emd", {}),
    "a.hspy": ("hspy", {}),
    "p14.h5": ("emd", {"stack_group": False}),
}


@pytest.mark.parametrize("name", cases(AS_HYPERSPY))
def test_frames_are_those_that_hyperspy_shows(name, tmp_path):
    plugin, hyperspys = AS_HYPERSPY[name]
    path, data, options = written(name, tmp_path)
    with left_open():
        (signal,) = importlib.import_module(f"rsciio.{plugin}").file_reader(str(path), **hyperspys)
    shown = signal["data"]
    if name == "f4.mrc":  # of which it reads the header alone in the byte order that it is told
        shown = shown.view(">f4")
    with open_frames(path, **options) as source:
        assert np.array_equal(source.read_rows(0, data.shape[0]), shown)


@needs_py4dstem
def test_frames_are_those_that_py4dstem_shows(tmp_path):
    py4dstem = import_py4dstem()
    path, _, _ = written("p14.h5", tmp_path)
    shown = py4dstem.read(str(path))
    with open_frames(path) as source:
        assert np.array_equal(source.read_rows(0, 3), shown.data)


@needs_py4dstem
def test_milliradians_take_the_voltage(tmp_path):
    path = files.write_py4dstem(tmp_path / "a.h5", counts(), Q_pixel_size=0.5, Q_pixel_units="mrad")
    with open_frames(path, voltage=200) as source:
        assert source.pixel_size == pytest.approx(0.5e-3 / electron_wavelength(200e3))
    with pytest.warns(UserWarning, match=r"pixels in mrad.*voltage=.*--voltage"), open_frames(path) as source:
        assert source.pixel_size is None


@needs_py4dstem
def test_a_file_of_frames_and_peaks(tmp_path):
    py4dstem = import_py4dstem()
    cube = py4dstem.DataCube(counts())
    vectors = py4dstem.BraggVectors((3, 4), (8, 10))
    for n in range(12):
        vectors._v_uncal[divmod(n, 4)].add(np.zeros(1, [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")]))
    py4dstem.save(str(tmp_path / "peaks.h5"), vectors, mode="o")
    cube.tree(graft=vectors)
    py4dstem.save(str(tmp_path / "both.h5"), cube, mode="o")
    assert not is_frames(tmp_path / "both.h5")
    assert not is_frames(tmp_path / "peaks.h5")
    with open_frames(tmp_path / "both.h5") as source:
        assert np.array_equal(source.read_rows(0, 3), counts())
    with pytest.raises(ValueError, match="has Bragg peaks, not frames"):
        open_frames(tmp_path / "peaks.h5")


def test_several_sets_take_a_name(tmp_path):
    path = files.write_hspy(tmp_path / "a.hspy", counts())
    with h5py.File(path, "r+") as file:
        file.copy("Experiments/scan", "Experiments/second")
        file["Experiments/second/data"][...] = counts(seed=1)
    with pytest.raises(ValueError, match=r"several arrays of frames.*--name.*/Experiments/scan/data"):
        open_frames(path)
    with open_frames(path, name="second") as source:
        assert np.array_equal(source.read_rows(0, 3), counts(seed=1))
    with pytest.raises(ValueError, match="no frames named 'third'"):
        open_frames(path, name="third")


@pytest.mark.parametrize("compression", [{"compression": "gzip"}, hdf5plugin.Bitshuffle(), hdf5plugin.LZ4()])
def test_dectris_compressions(compression, tmp_path):
    path = files.write_dectris(tmp_path / "a_master.h5", counts("u2"), **compression)
    with open_frames(path) as source:
        assert np.array_equal(source.read_rows(0, 3), counts("u2"))
        assert np.argwhere(source.mask).tolist() == [[2, 3]]


def test_blocks_are_whole_in_what_is_stored_together(tmp_path):
    data = np.zeros((64, 2, 32, 32), "u2")
    path = files.write_hspy(tmp_path / "a.hspy", data, chunks=(24, 2, 32, 32))
    with open_frames(path) as source:
        assert source.block_rows % 24 == 0


def test_a_scan_stopped_within_a_row(tmp_path):
    path = files.write_mib(tmp_path / "a.mib", counts())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"take 12 frames, and it has 11 whole.*scan_shape=\(2, 4\).*--scan-shape 2x4"
    ):
        open_frames(path)
    with pytest.warns(UserWarning, match="last 3 of 11"), open_frames(path, scan_shape=(2, 4)) as source:
        assert np.array_equal(source.read_rows(0, 2), counts()[:2])


def test_frames_before_and_after_the_scan(tmp_path):
    path = files.write_tvips(tmp_path / "a_000.tvips", counts().reshape(12, 8, 10))
    record = 60 + 2 * 80
    content = bytearray(path.read_bytes())
    for n in range(12):  # the number of the scan position: not yet, 1 to 6, no more
        content[256 + n * record + 48 : 256 + n * record + 52] = min(max(0, n - 2), 6).to_bytes(4, "little")
    path.write_bytes(content)
    with open_frames(path, scan_shape=(2, 3)) as source:
        assert np.array_equal(source.read_rows(0, 2), counts().reshape(12, 8, 10)[3:9].reshape(2, 3, 8, 10))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("$A^{-1}$", 1.0),
        ("1/A", 1.0),
        ("Å^-1", 1.0),
        ("nm^-1", 0.1),
        ("1 / nm", 0.1),
        ("[n_m^-1]", 0.1),
        ("1/pm", 100),
    ],
)
def test_units_of_a_pixel(unit, factor):
    assert per_angstrom(Axis(0.3, unit)) == pytest.approx(0.3 * factor)


@pytest.mark.parametrize(
    ("unit", "factor"), [("nm", 1), ("Å", 0.1), ("µm", 1e3), ("um", 1e3), ("pm", 1e-3), ("m", 1e9)]
)
def test_units_of_a_step(unit, factor):
    assert nanometres(Axis(0.3, unit)) == pytest.approx(0.3 * factor)


@pytest.mark.parametrize(
    "axis", [Axis(0.3, "px"), Axis(0.3, ""), Axis(0.0, "nm"), Axis(-1, "1/nm"), Axis(np.nan, "nm")]
)
def test_what_is_no_calibration(axis):
    assert nanometres(axis) is None
    assert per_angstrom(axis) is None


REAL = Path(os.environ.get("MICROINFER_REAL_DATA", Path(__file__).parents[3] / "shared" / "real"))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data")
def test_real_files():
    with open_frames(REAL / "austenite-raw/subset_data.hspy") as source:
        assert (source.scan_shape, source.frame_shape, source.pixel_size) == ((2, 2), (256, 256), 0.01261)
        assert (source.scan_step, source.scan_units, source.dtype) == (2.0, "nm", np.uint16)
    with open_frames(REAL / "ag-sped/SPED_Ag_labels_sum_signal.hspy", scan_shape=(1, 5)) as source:
        assert source.read_rows(0, 1).shape == (1, 5, 112, 112)
    for path in sorted((REAL / "calibration-patterns").glob("*.tif")):
        with left_open(), open_frames(path) as source:
            assert np.isfinite(source.read_rows(0, 1)).all()
            del source


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data")
def test_real_frames_of_a_series(tmp_path):
    frames = np.load(REAL / "si-tilt/si_tilt_frames.npz")["frames"]
    np.save(tmp_path / "a.npy", frames)
    with open_frames(tmp_path / "a.npy", scan_shape=(4, 4)) as source:
        assert np.array_equal(source.read_rows(1, 3).reshape(8, 512, 512), frames[4:12])
