"""Output files: who may read them."""

import os
import stat

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


def test_a_private_file_put_in_the_place_of_the_temporary_one(group_umask, tmp_path):
    with atomic_output(tmp_path / "out") as temporary:
        temporary.unlink()
        temporary.touch(0o600)
    assert permissions(tmp_path / "out") == 0o640
