"""The number of torch's threads follows what steps take."""

import pytest
import torch

from microinfer.training import threads
from microinfer.training.threads import LAST, Threads

WORK = 100.0


@pytest.fixture
def machine(monkeypatch):
    """A clock on which a step takes as long as `machine` says for torch's number of threads."""
    seconds, now, counts = {}, [0.0], []
    before = torch.get_num_threads()
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])

    def run(chooser, steps):
        counts.clear()
        for _ in range(steps):
            with chooser.step(WORK):
                counts.append(torch.get_num_threads())
                now[0] += seconds[counts[-1]]
        return counts

    yield seconds, run
    torch.set_num_threads(before)


@pytest.mark.parametrize(("one", "two", "better"), [(1.0, 0.6, 2), (1.0, 9.0, 1)])
def test_the_faster_number_is_found_and_the_other_hardly_tried(machine, one, two, better):
    seconds, run = machine
    seconds |= {1: one, 2: two}
    torch.set_num_threads(2)
    counts = run(Threads("cpu"), 2000)
    assert counts.count(better) > 1980
    assert counts[:3] == [1, 1, 1]  # what is never bad


def test_a_machine_that_gets_busy_or_free_is_noticed(machine):
    seconds, run = machine
    torch.set_num_threads(2)
    chooser = Threads("cpu")
    for busy in (False, True, False):
        seconds |= {1: 1.0, 2: 9.0 if busy else 0.6}
        run(chooser, LAST + 10)
        assert set(run(chooser, 100)[-50:]) <= {1, 2}
        assert run(chooser, 60).count(1 if busy else 2) > 55


def test_a_gpu_leaves_torchs_threads_alone(machine):
    seconds, run = machine
    seconds |= {2: 1.0}
    torch.set_num_threads(2)
    assert set(run(Threads("cuda:0"), 20)) == {2}
