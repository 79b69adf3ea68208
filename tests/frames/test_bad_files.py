"""Files that are cut short, empty, foreign or of another shape: a clear error, never a frame that was not there."""

import os
import re

import h5py
import numpy as np
import pytest

import microinfer as mi
from helpers import camera_files as files
from helpers.camera_files import counts
from helpers.example_maps import random_map
from microinfer.frames import Frames, is_frames, open_frames

pytest.importorskip("rsciio", reason="needs RosettaSciIO")
pytestmark = pytest.mark.filterwarnings(  # of files that RosettaSciIO leaves open
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

WRITERS = {
    "a.npy": (files.write_npy, counts()),
    "a.hspy": (files.write_hspy, counts()),
    "a.blo": (files.write_blo, counts("u1", (3, 4, 8, 8))),
    "a_000.tvips": (files.write_tvips, counts()),
    "a.tif": (files.write_tiff, counts()),
    "ncem.emd": (files.write_ncem, counts()),
    "p13.h5": (files.write_py4dstem_13, counts()),
    "a.mib": (files.write_mib, counts()),
    "a.mrc": (files.write_mrc, counts()),
    "a.xml": (files.write_empad, counts("f4", (3, 4, 128, 128))),
    "a_master.h5": (files.write_dectris, counts("u4")),
    "a.dm3": (files.write_dm, counts()),
    "a.dm4": (files.write_dm, counts()),
}
UNSHAPED = ("a_000.tvips", "a.tif", "a.mrc")


def made(name, folder):
    """A file, its frames, and the file that has them."""
    write, data = WRITERS[name]
    path = write(folder / name, data)
    frames = {"a.xml": folder / "scan_x4_y3.raw", "a_master.h5": folder / "a_data_000002.h5"}.get(name, path)
    return path, data, frames


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # files that RosettaSciIO leaves open
@pytest.mark.parametrize("name", WRITERS)
def test_cut_short(name, tmp_path):
    path, data, frames = made(name, tmp_path)
    content = frames.read_bytes()
    options = {"scan_shape": (3, 4)} if name in UNSHAPED else {}
    messages = []
    for length in [*np.linspace(1, len(content) - 1, 24).astype(int), len(content) - 1]:
        frames.write_bytes(content[:length])
        try:
            with open_frames(path, **options) as source:
                read = source.read_rows(0, 3)
        except (ValueError, OSError) as error:
            messages.append(str(error))
        else:  # what is missing was no frame's
            assert np.array_equal(read, data)
    assert len(messages) > 12
    assert all(path.name in message or frames.name in message for message in messages)


@pytest.mark.parametrize("name", WRITERS)
def test_empty(name, tmp_path):
    path, _, frames = made(name, tmp_path)
    frames.write_bytes(b"")
    with pytest.raises((ValueError, OSError), match=f"{re.escape(path.name)}|{re.escape(frames.name)}"):
        open_frames(path)


@pytest.mark.parametrize("name", [*WRITERS, "a.h5", "a.raw", "a.ser", "a.txt"])
def test_foreign(name, tmp_path):
    path = tmp_path / name
    for content in (b"It is a truth universally acknowledged" * 3, os.urandom(4000), bytes(5000)):
        path.write_bytes(content)
        with pytest.raises((ValueError, OSError), match=re.escape(path.name)):
            open_frames(path)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("shape", [(4, 4), (2, 4), (12, 13), (1, 1)])
def test_another_shape(name, shape, tmp_path):
    path, _, _ = made(name, tmp_path)
    with pytest.raises(
        ValueError, match=rf"{re.escape(path.name)}.*{shape[0]} x {shape[1]} scan.*it has 12 whole frames"
    ):
        open_frames(path, scan_shape=shape)


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in UNSHAPED])
def test_the_same_frames_in_another_shape(name, tmp_path):
    path, data, _ = made(name, tmp_path)
    with pytest.warns(UserWarning, match="3 x 4 positions; 2 x 6 was given"):
        source = open_frames(path, scan_shape=(2, 6))
    with source:
        assert np.array_equal(source.read_rows(0, 2).reshape(data.shape), data)
        assert np.array_equal(source.read_rows(1, 2)[0], data.reshape(12, *data.shape[2:])[6:])


@pytest.mark.parametrize("name", UNSHAPED)
def test_no_shape(name, tmp_path):
    path, _, _ = made(name, tmp_path)
    with pytest.raises(
        ValueError, match=r"12 whole frames.*scan_shape=\(rows, columns\) \(--scan-shape.*3x4 or 2x6"
    ):
        open_frames(path)


def test_announced_frames_are_missing(tmp_path):
    path = files.write_mib(tmp_path / "a.mib", counts(), frames=20)
    with pytest.raises(ValueError, match="frames are missing"):
        open_frames(path)
    path = files.write_dectris(tmp_path / "a_master.h5", counts("u2"))
    with h5py.File(path, "r+") as file:
        del file["entry/data/data_000002"]
    with pytest.raises(ValueError, match="12 frames, and it has 6 whole"):
        open_frames(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((3, 4, 8, 10), "c8", "complex numbers"),
        ((12,), "u2", "got uint16 of the shape"),
        ((2, 3, 4, 8, 10), "u2", "got uint16 of the shape"),
        ((3, 4, 8, 10), "O", "got object"),
        ((3, 4, 8, 10), [("R", "u1"), ("G", "u1"), ("B", "u1")], "of the shape"),
        ((3, 4, 8, 10), "U2", "not counts"),
    ],
)
def test_arrays_that_are_no_frames(shape, dtype, words, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype))
    with pytest.raises(ValueError, match=rf"a\.npy.*{words}"):
        open_frames(tmp_path / "a.npy")


def test_complex_signals_of_hyperspy(tmp_path):
    path = files.write_hspy(tmp_path / "a.hspy", counts().astype("c8"))
    with pytest.raises(ValueError, match=r"a\.hspy.*complex numbers, not counts"):
        open_frames(path)


def test_raw_counters_of_merlin(tmp_path):
    path = files.write_mib(tmp_path / "a.mib", counts())
    path.write_bytes(path.read_bytes().replace(b",U16,", b",R64,"))
    with pytest.raises(ValueError, match=r"raw counters \(R64\).*processed"):
        open_frames(path)


def test_later_parts_of_a_stream(tmp_path):
    path = files.write_tvips(tmp_path / "a_000.tvips", counts(), max_file_size=1200)
    with pytest.raises(ValueError, match=r"later part.*begins in a_000\.tvips"):
        open_frames(path.with_name("a_001.tvips"))


@pytest.mark.parametrize("target", ["../secret.h5", "/etc/passwd", "sub/frames.h5"])
def test_links_that_lead_elsewhere(target, tmp_path):
    path = files.write_dectris(tmp_path / "a_master.h5", counts("u2"))
    with h5py.File(path, "r+") as file:
        del file["entry/data/data_000002"]
        file["entry/data/data_000002"] = h5py.ExternalLink(target, "/entry/data/data")
    with pytest.raises(ValueError, match="which is not followed"):
        open_frames(path)


def test_missing_neighbours(tmp_path):
    path = files.write_dectris(tmp_path / "a_master.h5", counts("u2"))
    (tmp_path / "a_data_000001.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"a_master\.h5 links a_data_000001\.h5"):
        open_frames(path)
    path = files.write_empad(tmp_path / "a.xml", counts("f4", (3, 4, 128, 128)))
    (tmp_path / "scan_x4_y3.raw").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml names scan_x4_y3\.raw"):
        open_frames(path)


def test_frames_stored_in_another_file(tmp_path):
    path = files.write_hspy(tmp_path / "a.hspy", counts())
    with h5py.File(path, "r+") as file:
        group = file["Experiments/scan"]
        del group["data"]
        group["data"] = h5py.ExternalLink("b.h5", "/data")
    with pytest.raises(ValueError, match="link to another file"):
        open_frames(path)


def test_files_of_other_kinds(tmp_path, scan, small_model):
    mi.write_peaks(tmp_path / "peaks.h5", scan)
    random_map("Cu").save(tmp_path / "map.h5")
    small_model.save(tmp_path / "m.safetensors")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("peaks.h5", "a scan of Bragg peaks"),
        ("map.h5", "an orientation map"),
        ("m.safetensors", "a model"),
        ("folder", "a folder"),
    ):
        assert not is_frames(tmp_path / name)
        with pytest.raises(ValueError, match=f"{words}, not a file of camera frames"):
            open_frames(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_frames(tmp_path / "nowhere.mib")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        is_frames(tmp_path / "nowhere.mib")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pixel_size": 0}, "pixel_size must be a positive number"),
        ({"pixel_size": np.nan}, "pixel_size must be a positive number"),
        ({"step": -1}, "step must be a length"),
        ({"step": "3 apples"}, "step must be a length"),
        ({"step": "three"}, "step must be a length"),
        ({"voltage": 5}, "accelerating voltage"),
        ({"scan_shape": (0, 12)}, "two numbers of at least 1"),
        ({"scan_shape": (-3, -4)}, "two numbers of at least 1"),
    ],
)
def test_options_that_make_no_sense(options, words, tmp_path):
    path = files.write_npy(tmp_path / "a.npy", counts())
    with pytest.raises(ValueError, match=rf"a\.npy.*{words}"):
        open_frames(path, **options)


def test_rows_outside_and_after_closing(tmp_path):
    source = open_frames(files.write_npy(tmp_path / "a.npy", counts()))
    for rows in ((0, 4), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match="rows must satisfy"):
            source.read_rows(*rows)
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.read_rows(0, 1)


def test_frames_that_vanish_while_they_are_read(tmp_path):
    path = files.write_npy(tmp_path / "a.npy", counts())
    with open_frames(path) as source:
        path.write_bytes(path.read_bytes()[:-10])
        assert np.array_equal(source.read_rows(0, 2), counts()[:2])
        with pytest.raises(OSError, match=r"a\.npy.*cut short"):
            source.read_rows(2, 3)


@pytest.mark.parametrize("missing", ["rsciio", "zarr"])
def test_what_is_not_installed_is_named(missing, tmp_path, monkeypatch):
    (tmp_path / "a.zspy").mkdir()
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(ImportError, match=missing):
        open_frames(tmp_path / "a.zspy")


def test_frames_in_memory_need_their_shape():
    with pytest.raises(ValueError, match="shape"):
        Frames(np.zeros((3, 4, 5)))
