"""Files of records: what stands there whole is found, nothing else is."""

import fcntl
from itertools import accumulate

import pytest

from helpers.damage import attempt, damages
from microinfer.record_file import RecordFile

KIND, ABOUT = "thing 1", {"of": "this test"}
RECORDS = [bytes([number]) * (300 * number) for number in range(8)]


@pytest.fixture
def path(tmp_path):
    records = RecordFile(tmp_path / "thing.part", KIND)
    records.begin(ABOUT)
    for content in RECORDS:
        records.append(content)
    records.close()
    return records.path


def read(path):
    """What a file of records says of itself, and its records."""
    records = RecordFile(path, KIND)
    found = records.about, list(records)
    records.close()
    return found


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_of_a_damaged_file_the_records_before_the_damage_are_found(path, count):
    whole = path.read_bytes()
    ends = list(accumulate((12 + len(content) for content in RECORDS), initial=whole.index(b"\n") + 1))
    for data in damages(whole, count):
        path.write_bytes(data)
        found = attempt(read, path)
        if isinstance(found, str):
            assert found.startswith(f"{path} is not an thing 1")
            continue
        differing = (n for n, pair in enumerate(zip(data, whole, strict=False)) if pair[0] != pair[1])
        untouched = next(differing, len(data))
        assert found[1] == RECORDS[: len(found[1])]
        assert len(found[1]) >= sum(end <= untouched for end in ends[1:])


def test_file_systems_without_locks_do(path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert read(path) == (ABOUT, RECORDS)
