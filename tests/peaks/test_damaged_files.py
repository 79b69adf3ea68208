"""Bad input and outputs that cannot be written: clear errors, and nothing half-written stays."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import numpy as np
import pytest

import microinfer as mi
from helpers.scans import CALIBRATION, PEAK, bragg_vectors, calibrated_vectors, random_points, save_vectors
from microinfer.files import atomic_hdf5, atomic_output
from microinfer.peaks.bragg_peaks import BraggPeaks

ROOT = "braggvectors_root"


@pytest.fixture
def py4dstem_file(tmp_path: Path) -> Path:
    return save_vectors(tmp_path / "scan.h5", calibrated_vectors())


@pytest.fixture
def peaks() -> BraggPeaks:
    values = np.linspace(-1, 1, 20_000)
    return BraggPeaks([0, 15_000, 20_000], values, -values, values + 2, (1, 2))


# --- what cannot be read ------------------------------------------------------------------------------------


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.h5"):
        mi.read_peaks(tmp_path / "missing.h5")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        mi.read_peaks(tmp_path)


@pytest.mark.parametrize("content", [b"\x89HDF", b"qx qy intensity\n" * 1000])
def test_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.h5"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"table\.h5 is not an HDF5 file of microinfer.*, nor an HDF5 file of py4DSTEM"
    ):
        mi.read_peaks(path)


@pytest.mark.parametrize("writer", ["py4DSTEM", "microinfer"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0])
def test_truncated_files(
    tmp_path: Path, py4dstem_file: Path, peaks: BraggPeaks, writer: str, share: float
) -> None:
    path = tmp_path / "cut.h5"
    if writer == "py4DSTEM":
        content = py4dstem_file.read_bytes()
    else:
        peaks.save(path)
        content = path.read_bytes()
    path.write_bytes(content[: int(share * (len(content) - 1))])
    with pytest.raises(OSError, match=r"cut\.h5 is truncated"):
        mi.read_peaks(path)


def test_a_damaged_file(tmp_path: Path) -> None:
    points = random_points(np.random.default_rng(4), 12, most=1000)
    vectors = bragg_vectors((3, 4), points, origin=(32, 32), Q_pixel_units="A^-1")
    path = save_vectors(tmp_path / "scan.h5", vectors)
    # Lists of peaks lie in global heaps; texts of attributes and calibration in the first or last of them.
    begin, *heaps = path.read_bytes().split(b"GCOL")
    middle = len(heaps) // 2
    assert middle > 0
    path.write_bytes(b"GCOL".join([begin, *heaps[:middle]]) + b"LOST" + b"GCOL".join(heaps[middle:]))
    with pytest.raises(OSError, match=r"scan\.h5 is damaged: /braggvectors_root/.*/_v_uncal/data: the heap"):
        mi.read_peaks(path)
    path.write_bytes(b"LOST".join([begin, *heaps]))
    with pytest.raises(OSError, match=r"scan\.h5 is damaged"):
        mi.read_peaks(path)


def test_no_bragg_peaks(tmp_path: Path) -> None:
    path = tmp_path / "image.h5"
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"image\.h5 has no Bragg peaks.*It holds: image"):
        mi.read_peaks(path)


def set_item(key: str, value: object) -> Callable[[h5py.Group], None]:
    def edit(calibration: h5py.Group) -> None:
        if key in calibration:
            del calibration[key]
        calibration[key] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            set_item("Q_pixel_units", b"pixels"),
            "Q_pixel_units must be 'A.-1' or 'mrad', got 'pixels': give pixel_size=",
        ),
        (set_item("Q_pixel_units", b"_None"), "Q_pixel_units must be 'A.-1' or 'mrad', got None"),
        (
            lambda group: group.__delitem__("Q_pixel_units"),
            "Q_pixel_units must be 'A.-1' or 'mrad', got None",
        ),
        (lambda group: group.__delitem__("Q_pixel_size"), "Q_pixel_size must be a positive number, got None"),
        (set_item("Q_pixel_size", -0.1), "Q_pixel_size must be a positive number, got -0.1"),
        (set_item("Q_pixel_size", np.nan), "Q_pixel_size must be finite, got nan"),
        (
            set_item("Q_pixel_size", np.ones(3)),
            r"Q_pixel_size must be a number, got an array of shape \(3,\)",
        ),
        (lambda group: group.__delitem__("qx0"), r"no origin \(qx0\): find the origin in py4DSTEM"),
        (set_item("qy0", b"_None"), r"no origin \(qy0\)"),
        (set_item("qx0", np.ones((4, 3))), r"qx0 must be a number or a map of shape \(3, 4\).* \(4, 3\)"),
        (set_item("qx0", np.ones(2)), r"qx0 must be a number or a map .* got an array of shape \(2,\)"),
        (set_item("qx0", b"middle"), "qx0 must be a number, got 'middle'"),
        (
            set_item("qy0", np.where(np.arange(12).reshape(3, 4) == 6, np.nan, 32.0)),
            r"qy0 must be finite, got nan at scan position \(1, 2\)",
        ),
        (set_item("QR_rotation", np.inf), "QR_rotation must be finite, got inf"),
        (set_item("R_pixel_size", 0.0), "R_pixel_size must be positive, got 0.0"),
        (
            lambda group: group.update({"a": 0.0, "b": 1.0, "theta": 0.0}),
            "a and b, the semi-axes of the ellipse, must be positive",
        ),
    ],
)
def test_calibration_that_does_not_lead_to_inverse_angstrom(
    py4dstem_file: Path, edit: Callable[[h5py.Group], None], message: str
) -> None:
    with h5py.File(py4dstem_file, "r+") as file:
        edit(file[ROOT][CALIBRATION])
    with pytest.raises(ValueError, match=message) as caught:
        mi.read_peaks(py4dstem_file)
    assert f"{py4dstem_file}: /{ROOT}/{CALIBRATION}" in str(caught.value)


def test_no_calibration_at_all(py4dstem_file: Path) -> None:
    with h5py.File(py4dstem_file, "r+") as file:
        del file[ROOT][CALIBRATION]
    with pytest.raises(ValueError, match=f"no calibration of .*, neither at /{ROOT}/{CALIBRATION}"):
        mi.read_peaks(py4dstem_file)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "there is no dataset"),
        (np.zeros((3, 4)), "must hold lists of qx, qy, intensity, got float64"),
        (
            np.empty((3, 4), h5py.vlen_dtype(np.dtype([("qx", float), ("qy", float)]))),
            "must hold lists of qx, qy, intensity",
        ),
        (np.empty((3, 4), h5py.string_dtype()), "must hold lists of qx, qy, intensity, got <class 'str'>"),
        (np.empty(12, h5py.vlen_dtype(PEAK)), r"its shape must be the scan's \(Rx, Ry\), got \(12,\)"),
    ],
)
def test_peaks_of_another_form(py4dstem_file: Path, values: np.ndarray | None, message: str) -> None:
    with h5py.File(py4dstem_file, "r+") as file:
        group = file[ROOT]["braggvectors/_v_uncal"]
        del group["data"]
        if values is not None:
            group.create_dataset("data", values.shape, values.dtype)
    with pytest.raises(ValueError, match=message) as caught:
        mi.read_peaks(py4dstem_file)
    assert f"/{ROOT}/braggvectors/_v_uncal/data" in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("qx", np.nan), ("qy", np.inf), ("intensity", -np.inf)])
def test_peaks_that_are_not_finite(tmp_path: Path, field: str, value: float) -> None:
    points = random_points(np.random.default_rng(5), 12)
    points[6][field][-1] = value
    path = save_vectors(
        tmp_path / "scan.h5", bragg_vectors((3, 4), points, origin=(32, 32), Q_pixel_units="A^-1")
    )
    message = rf"scan\.h5: .*_v_uncal/data: {field} must be finite, got {value} at scan position \(1, 2\)"
    with pytest.raises(ValueError, match=message):
        mi.read_peaks(path)
    with mi.open_peaks(path) as reader:
        assert reader.read_rows(0, 1).n_peaks > 0
        with pytest.raises(ValueError, match=message):
            reader.read_rows(1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixel_size": 0.0}, r"pixel_size \(--pixel-size\) must be a positive number"),
        ({"pixel_size": np.nan}, r"pixel_size \(--pixel-size\) must be a positive number"),
        ({"pixel_size": 0.1, "calibrated": True}, "pixel_size must not be given"),
        ({"calibrated": True}, "holds BraggVectors, which are raw detector pixels"),
    ],
)
def test_arguments_that_do_not_fit(py4dstem_file: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mi.open_peaks(py4dstem_file, **arguments)


# --- what cannot be written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [atomic_output, atomic_hdf5])
def test_the_old_file_stays_until_the_new_one_is_complete(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[object]]
) -> None:
    path = tmp_path / "out.h5"
    path.write_text("old")

    def interrupted() -> None:
        with make(path):
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.h5"]


def test_an_error_of_the_block_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), atomic_hdf5(tmp_path / "out.h5"):
        raise OSError(errno.EIO, "elsewhere")
    assert os.listdir(tmp_path) == []


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    with atomic_output(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert sorted(os.listdir(tmp_path)) == ["link.txt", "target.txt"]


def test_a_folder_in_the_way(tmp_path: Path, peaks: BraggPeaks) -> None:
    (tmp_path / "out.h5").mkdir()
    with pytest.raises(IsADirectoryError, match=r"cannot write the file: it is a folder: '.*/out\.h5'"):
        peaks.save(tmp_path / "out.h5")
    assert os.listdir(tmp_path) == ["out.h5"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, peaks: BraggPeaks, kind: str) -> None:
    path = tmp_path / "out.h5"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(path))
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(OSError, match=r"cannot write the file: it is no regular file: '.*/out\.h5'"):
        peaks.save(path)
    assert not path.is_file()
    assert os.listdir(tmp_path) == ["out.h5"]


def test_a_missing_folder(tmp_path: Path, peaks: BraggPeaks) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*/none does not exist: '.*/none/out\.h5'"):
        peaks.save(tmp_path / "none" / "out.h5")


def run(script: str) -> str:
    """Run a script in a process of its own; it must end well and print nothing but its answer."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_read_only_folder_and_file() -> None:
    script = """
import os, tempfile
import microinfer.peaks.open
from microinfer.peaks.bragg_peaks import BraggPeaks

peaks = BraggPeaks([0, 1], [1.0], [1.0], [1.0], (1, 1))
with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o777)
    closed = os.path.join(folder, "closed")
    os.mkdir(closed)
    os.chmod(closed, 0o555)
    old = os.path.join(folder, "old.h5")
    open(old, "w").close()
    os.chmod(old, 0o444)
    if os.getuid() == 0:
        os.seteuid(65534)  # for the superuser nothing is read-only
    if os.geteuid() != os.getuid():
        os.access = lambda path, mode, access=os.access: access(path, mode, effective_ids=True)
    for path in (os.path.join(closed, "new.h5"), old):
        try:
            peaks.save(path)
        except PermissionError as error:
            print(error.filename == path, error.strerror.replace(folder, ""))
    print(os.listdir(closed), sorted(os.listdir(folder)))
    if os.getuid() == 0:
        os.seteuid(0)
"""
    assert run(script).splitlines() == [
        "True cannot write the file: the folder /closed is read-only",
        "True cannot write the file: the file is read-only",
        "[] ['closed', 'old.h5']",
    ]


def test_full_disk(tmp_path: Path) -> None:
    # The limit of a file's size stands for the end of the disk: writing stops within, before and after every
    # part of the file, and at its end by one byte.
    script = f"""
import os, resource
import numpy as np
import microinfer.peaks.open
from microinfer.files import atomic_hdf5
from microinfer.peaks.bragg_peaks import BraggPeaks

values = np.linspace(-1, 1, 20_000)
peaks = BraggPeaks([0, 15_000, 20_000], values, -values, values + 2, (1, 2))
path = {str(tmp_path / "out.h5")!r}
peaks.save(path)
size = os.path.getsize(path)
with open(path, "w") as file:
    file.write("old")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in (0, 90, 1000, 3000, size // 3, size // 2, size - 1000, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        peaks.save(path)
    except OSError as error:
        assert error.filename == path and "cannot write the file: File too large" in str(error), error
    else:
        raise AssertionError(limit)
    assert os.listdir(os.path.dirname(path)) == ["out.h5"]
    assert open(path).read() == "old"
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
try:
    with atomic_hdf5(path) as file:
        file["qx"] = values
        file.flush()
        file.require_written()
        raise AssertionError("the block goes on")
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
peaks.save(path)
print(microinfer.peaks.open.read_peaks(path))
"""
    assert run(script).startswith("BraggPeaks(1 x 2 positions, 20,000 peaks, ")
