"""HDF5 files as input: other files that they point to, what is lost or cut off, the heap, values of odd types."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import microinfer as mi
from helpers.example_maps import random_map
from helpers.libraries import random_library
from helpers.scans import PEAK, equal, random_points, save_old_vectors
from microinfer._core import require_collection
from microinfer.hdf5 import InputFile
from microinfer.peaks import BraggPeaks, Scan
from microinfer.simulation.library import load_library

SHAPE = (4, 6)
ITEMS = {"qx0": 32.0, "qy0": np.full(SHAPE, 31.0), "Q_pixel_size": 0.02, "Q_pixel_units": "A^-1"}
GROUP = "4DSTEM/braggvectors"


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    points = random_points(np.random.default_rng(1), 24, most=400)
    return save_old_vectors(tmp_path / "scan.h5", SHAPE, points, ITEMS)


@pytest.fixture
def native(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    peaks = BraggPeaks.from_patterns(
        [rng.uniform(-1, 1, (9000, 3)) for _ in range(24)], Scan(SHAPE, 2.5, "nm")
    )
    peaks.save(tmp_path / "peaks.h5")
    return tmp_path / "peaks.h5"


# --- other files ----------------------------------------------------------------------------------------------


def external_link(group: h5py.Group, name: str, other: Path) -> None:
    path = f"{group.name}/{name}"
    with h5py.File(other, "w") as file:
        group.copy(name, file, name=path)
    del group[name]
    group[name] = h5py.ExternalLink(other, path)


def external_storage(group: h5py.Group, name: str, other: Path) -> None:
    values = group[name][()]
    del group[name]
    values.tofile(other)
    group.create_dataset(name, values.shape, values.dtype, external=[(str(other), 0, values.nbytes)])


def virtual(group: h5py.Group, name: str, other: Path) -> None:
    values = group[name][()]
    del group[name]
    with h5py.File(other, "w") as file:
        file["values"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource(other, "values", values.shape)
    group.create_virtual_dataset(name, layout)


def named(error: str, path: Path, name: str) -> None:
    assert str(path) in error
    assert name in error


@pytest.mark.parametrize("elsewhere", [external_link, external_storage, virtual])
def test_values_in_other_files_are_refused(
    tmp_path: Path, native: Path, vectors: Path, elsewhere: Callable[[h5py.Group, str, Path], None]
) -> None:
    random_map("Cu").save(tmp_path / "map.h5")
    random_library().save(tmp_path / "library.h5")
    for path, place, name, load in (
        (native, "/", "qx", mi.read_peaks),
        (vectors, f"{GROUP}/calibration", "qy0", mi.read_peaks),
        (tmp_path / "map.h5", "/", "valid", mi.load_map),
        (tmp_path / "library.h5", "/", "zone", load_library),
    ):
        load(path)
        with h5py.File(path, "r+") as file:
            elsewhere(file[place], name, tmp_path / "other.h5")
        with pytest.raises(ValueError, match="other file") as caught:
            load(path)
        named(str(caught.value), path, name)


def test_peaks_behind_an_external_link_are_refused(tmp_path: Path, vectors: Path) -> None:
    with h5py.File(vectors, "r+") as file:
        external_link(file[f"{GROUP}/_v_uncal"], "data", tmp_path / "other.h5")
    with pytest.raises(ValueError, match=r"scan\.h5: .*/_v_uncal/data is a link to another file"):
        mi.read_peaks(vectors)


@pytest.mark.parametrize("through", ["folder", "/folder"])
def test_a_link_through_a_link_to_another_file_is_refused(
    tmp_path: Path, vectors: Path, through: str
) -> None:
    group = f"{GROUP}/_v_uncal"
    with h5py.File(vectors, "r+") as file:
        file.copy(f"{group}/data", file, name="other")
        file[f"{group}/folder" if through == "folder" else through] = h5py.ExternalLink(vectors.name, "/")
        del file[f"{group}/data"]
        file[f"{group}/data"] = h5py.SoftLink(f"{through}/other")
    with pytest.raises(ValueError, match=r"scan\.h5: .*_v_uncal/data lies in another file"):
        mi.read_peaks(vectors)


def test_links_within_the_file_are_followed(vectors: Path) -> None:
    expected = mi.read_peaks(vectors)
    with h5py.File(vectors, "r+") as file:
        file.move(f"{GROUP}/_v_uncal/data", "elsewhere")
        file[f"{GROUP}/_v_uncal/data"] = h5py.SoftLink("/elsewhere")
    assert equal(mi.read_peaks(vectors), expected)


# --- what is lost ---------------------------------------------------------------------------------------------


def first_version(path: Path, peaks: BraggPeaks, lost: str | None = None) -> None:
    """Write version 1 of the native form; a dataset that is never written reads as one whose index is lost."""
    with h5py.File(path, "w") as file:
        file.attrs.update(format="microinfer-peaks", format_version=1, scan_shape=peaks.scan_shape)
        file.attrs.update(scan_step=peaks.scan_step, scan_units=peaks.scan_units, qr_calibrated=False)
        for name in ("offsets", "qx", "qy", "intensity"):
            values = getattr(peaks, name)
            dataset = file.create_dataset(name, values.shape, values.dtype, chunks=(65536,), maxshape=(None,))
            if name != lost:
                dataset[...] = values


def test_the_first_version_loads(tmp_path: Path, native: Path) -> None:
    peaks = mi.read_peaks(native)
    first_version(tmp_path / "old.h5", peaks)
    assert equal(mi.read_peaks(tmp_path / "old.h5"), peaks)
    for lost in ("offsets", "qy"):
        first_version(tmp_path / "old.h5", peaks, lost)
        with pytest.raises(OSError, match=rf"old\.h5 is damaged: /{lost} has 0 of its \d chunks"):
            mi.read_peaks(tmp_path / "old.h5")


def test_native_files_have_nothing_in_the_heap_and_no_zeros_for_what_is_lost(native: Path) -> None:
    assert b"GCOL" not in native.read_bytes()
    with h5py.File(native) as file:
        assert file["offsets"].fillvalue == -1
        assert all(np.isnan(file[name].fillvalue) for name in ("qx", "qy", "intensity"))


@pytest.mark.parametrize("kind", ["vectors", "native"])
def test_a_file_cut_short_while_it_is_open(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(kind)
    with mi.open_peaks(path) as reader:
        reader.read_rows(0, 1)
        os.truncate(path, path.stat().st_size // 3)
        with pytest.raises(OSError, match=rf"{path.name} is damaged: .*(cut short|not lie in the file)"):
            reader.read_rows(2, 4)


def test_vectors_that_were_never_written(vectors: Path) -> None:
    with h5py.File(vectors, "r+") as file:
        del file[f"{GROUP}/_v_uncal/data"]
        file.create_dataset(f"{GROUP}/_v_uncal/data", SHAPE, h5py.vlen_dtype(PEAK))
    with pytest.raises(OSError, match=r"scan\.h5 is damaged: .*_v_uncal/data has no values"):
        mi.read_peaks(vectors)


# --- the heap -------------------------------------------------------------------------------------------------


def change(content: bytearray, at: int, value: int, size: int = 8) -> None:
    content[at : at + size] = value.to_bytes(size, "little")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda heap, at: change(heap, at, 0, 4), "does not begin as one"),
        (lambda heap, at: change(heap, at + 4, 2, 1), "does not begin as one"),
        (lambda heap, at: change(heap, at + 8, 16), "has a size of 16 bytes"),
        (lambda heap, at: change(heap, at + 8, 1 << 40), "has a size of 1099511627776 bytes"),
        (lambda heap, at: change(heap, at + 16, 0, 16), "has an object of 0 bytes"),  # what HDF5 hangs in
        (lambda heap, at: change(heap, at + 24, 2**64 - 16), "has an object of 18446744073709551600 bytes"),
        (lambda heap, at: change(heap, at + 24, 8), "has "),
        (lambda heap, at: change(heap, at + 16, 500, 2), "has no object 1"),
        (lambda heap, at: change(heap, at + 16, 2, 2), "has the object 2 twice"),
    ],
)
def test_damage_of_the_heap_is_found(
    vectors: Path, edit: Callable[[bytearray, int], None], message: str
) -> None:
    content = bytearray(vectors.read_bytes())
    edit(content, content.index(b"GCOL", content.index(b"GCOL") + 4))
    vectors.write_bytes(content)
    with pytest.raises(OSError, match=rf"scan\.h5 is damaged: .*the heap collection at byte \d+ {message}"):
        mi.read_peaks(vectors)


def test_hdf5_reads_no_collection_that_it_would_hang_in(vectors: Path) -> None:
    content = bytearray(vectors.read_bytes())
    at = content.index(b"GCOL")  # that of the first text
    content[at + 16 : at + 4096] = bytes(4080)
    vectors.write_bytes(content)
    with vectors.open("rb") as file, pytest.raises(OSError, match=f"at byte {at} has an object of 0 bytes"):
        require_collection(file.fileno(), at)
    with pytest.raises(OSError, match=r"scan\.h5 is damaged: the heap collection"):
        mi.read_peaks(vectors)


# --- values of odd types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flip", "expected"), [(True, True), (0, False), (1.0, True), (np.bool_(False), False), (None, False)]
)
def test_flip_is_true_or_false(tmp_path: Path, flip: object, expected: bool) -> None:
    items = {**ITEMS, "QR_rotation": 0.0, **({} if flip is None else {"QR_flip": flip})}
    path = save_old_vectors(tmp_path / "scan.h5", SHAPE, random_points(np.random.default_rng(1), 24), items)
    with mi.open_peaks(path) as reader:
        assert ("swap" in reader.description["applied"][-1]) == expected


@pytest.mark.parametrize("flip", ["False", "True", 2, np.nan, np.ones(2, bool), np.zeros(0)])
def test_flip_of_another_kind_is_refused(tmp_path: Path, flip: object) -> None:
    items = {**ITEMS, "QR_rotation": 0.0, "QR_flip": flip}
    path = save_old_vectors(tmp_path / "scan.h5", SHAPE, random_points(np.random.default_rng(1), 24), items)
    with pytest.raises(
        ValueError, match=r"scan\.h5: .*calibration: calibration QR_flip must be True or False"
    ):
        mi.read_peaks(path)


ODD = [
    *("text", b"\xff\xfe", np.arange(3), np.float64(0.5), np.array(["a", "b"], object), np.zeros((2, 2))),
    *(np.array(1 + 2j), h5py.Empty("f8"), np.zeros(2, [("a", int)]), -7, np.array([[5]]), True),
]
FITS = {"scan_step": [3], "scan_units": [0], "qr_calibrated": [len(ODD) - 1]}


@pytest.mark.parametrize("name", ["format_version", "scan_shape", "scan_step", "scan_units", "qr_calibrated"])
def test_attributes_of_odd_types_are_named(native: Path, name: str) -> None:
    for value in (value for n, value in enumerate(ODD) if n not in FITS.get(name, [])):
        with h5py.File(native, "r+") as file:
            del file.attrs[name]
            file.attrs[name] = value
        with pytest.raises(ValueError, match=r"peaks\.h5: "):
            mi.read_peaks(native)


ODD_VALUES = [
    *(np.zeros(0), np.zeros(60, "S3"), np.full(60, np.nan), np.zeros((2, 3)), 5, "text"),
    *(np.zeros(3, [("a", int)]), h5py.Empty("f8"), np.frombuffer(b"[5]", np.uint8), np.full(60, 1j)),
    *(np.frombuffer(b'{"a": 1}', np.uint8), np.frombuffer(b"[[], {}]", np.uint8)),
]
LIBRARY = [
    "offsets",
    "qx",
    "orientation",
    "phase",
    "zone",
    "thickness",
    "phases",
    "simulation",
    "in_plane_bound",
]


@pytest.mark.parametrize("name", LIBRARY)
def test_libraries_of_odd_values_are_named(tmp_path: Path, name: str) -> None:
    random_library().save(tmp_path / "library.h5")
    for value in ODD_VALUES:
        with h5py.File(tmp_path / "library.h5", "r+") as file:
            del file[name]
            file[name] = value
        with pytest.raises((ValueError, OSError), match=r"library\.h5"):
            load_library(tmp_path / "library.h5")


def test_a_phase_that_a_library_does_not_have_is_refused(tmp_path: Path) -> None:
    random_library().save(tmp_path / "library.h5")
    with h5py.File(tmp_path / "library.h5", "r+") as file:
        file["phase"][7] = 1
    with pytest.raises(ValueError, match=r"library\.h5: phase must be an index into the 1 phases"):
        load_library(tmp_path / "library.h5")


def test_the_second_version_of_libraries_loads(tmp_path: Path) -> None:
    library = random_library()
    library.save(tmp_path / "new.h5")
    with h5py.File(tmp_path / "new.h5") as new, h5py.File(tmp_path / "old.h5", "w") as old:
        old.attrs.update(format="microinfer pattern library", version=2)
        for name, values in new.items():
            if name in ("phases", "simulation"):
                old.attrs[name] = values[()].tobytes().decode()
            else:
                old[name] = values[()]
    copy = load_library(tmp_path / "old.h5")
    assert equal(copy.peaks, library.peaks)
    assert copy.simulation == library.simulation
    assert copy.phases[0].to_dict() == library.phases[0].to_dict()
    for name in ("orientation", "phase", "zone", "thickness", "in_plane_bound"):
        np.testing.assert_array_equal(getattr(copy, name), getattr(library, name))


def run(script: str) -> str:
    """Run a script in a process of its own, which must end well."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_forked_process_reads_beside_its_parent(native: Path) -> None:
    script = f"""
import os
from microinfer.hdf5 import InputFile

file = InputFile({str(native)!r})
expected = file["qx"][:]
child = os.fork()
same = True
for _ in range(300):  # both read all the time
    file["qx"].id.refresh()
    same &= bool((file["qx"][:] == expected).all())
if child == 0:
    os._exit(0 if same else 1)
print(same, os.waitpid(child, 0)[1])
"""
    assert run(script) == "True 0\n"


def test_an_open_file_at_the_end_of_the_process(native: Path) -> None:
    script = f"""
import microinfer as mi
reader = mi.open_peaks({str(native)!r})
left = reader._offsets
"""
    assert run(script) == ""


def test_a_file_that_is_being_written_is_said_to_be(native: Path) -> None:
    with h5py.File(native, "r+"), pytest.raises(OSError, match=r"peaks\.h5 is .*(still open|already open)"):
        InputFile(native)
