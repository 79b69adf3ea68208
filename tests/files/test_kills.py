"""SIGKILL at every write of a map, a pattern library and a training: at most the part under way is lost."""

import pytest

import microinfer as mi
from helpers.kills import kills
from helpers.libraries import random_library
from helpers.optional import needs_py4dstem


@pytest.fixture
def source(scan, small_model, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    mi.write_peaks(folder / "scan.h5", scan)
    small_model.save(folder / "small.safetensors")
    random_library().save(folder / "library.h5")
    return folder


@pytest.mark.parametrize(
    ("work", "every", "output"),
    [
        ("a_map", 1, "map.h5"),
        ("a_training", 29, "run"),
        pytest.param("a_library", 1, "library.h5", marks=[needs_py4dstem, pytest.mark.slow]),
        pytest.param("a_training", 1, "run", marks=pytest.mark.slow),
    ],
)
def test_nothing_that_was_done_is_lost(source, tmp_path, work, every, output):
    folder = tmp_path / "work"
    folder.mkdir()
    found = kills(work, source, folder, every)
    for kill in found:
        assert kill.right, kill
        assert kill.files == [output], kill
        assert kill.done <= kill.found <= kill.done + 1, kill
    assert len({kill.done for kill in found}) > 1
    assert {kill.at.endswith("torn") for kill in found} == {False, True}
