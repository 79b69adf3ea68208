"""Output files: who may read them, and what is left of them."""

import os
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

from helpers.example_maps import random_map
from microinfer.files import atomic_output


@pytest.fixture
def group_umask():
    """A umask that lets the group read, and nobody else."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def permissions(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_colleagues_read_what_the_umask_says(group_umask, small_model, scan, tmp_path):
    small_model.save(tmp_path / "model.safetensors")
    omap = random_map("Cu")
    omap.save(tmp_path / "map.h5")
    omap.to_ang(tmp_path / "map.ang")
    for path in tmp_path.iterdir():
        assert permissions(path) == 0o640, path.name


LEFT = """
import os, signal, sys
from microinfer.files import atomic_hdf5, atomic_output
with {"hdf5": atomic_hdf5, "any": atomic_output}[sys.argv[1]](sys.argv[2]):
    print("open", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_writing(path, kind="any"):
    """A process that has begun to write a file, and waits to be killed."""
    with subprocess.Popen(
        [sys.executable, "-c", LEFT, kind, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"open\n"
        yield
        process.kill()


@pytest.mark.parametrize("kind", ["any", "hdf5"])
def test_what_a_killed_process_left_goes_with_the_next_of_its_output(tmp_path, kind):
    path, others = tmp_path / "a[1].out", {".a1.out.0123456789ab.tmp", ".a[1].out.backup.tmp", "b.out"}
    for name in others:
        (tmp_path / name).touch()
    with another_process_writing(path, kind):
        with atomic_output(path) as temporary:
            temporary.write_text("ours")
        living = {file.name for file in tmp_path.iterdir()} - others - {path.name}
        assert len(living) == 1  # that of the process that lives
    assert path.read_text() == "ours"
    assert {file.name for file in tmp_path.iterdir()} == {path.name} | others | living
    with atomic_output(path) as temporary:
        temporary.write_text("next")
    assert {file.name for file in tmp_path.iterdir()} == {path.name} | others


def test_names_as_long_as_a_file_system_takes(tmp_path):
    path = tmp_path / ("\u00e9" * 127)  # 254 bytes
    with atomic_output(path) as temporary:
        temporary.write_text("long")
    assert os.listdir(tmp_path) == [path.name]
