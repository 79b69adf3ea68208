"""Worker processes: results in turn, errors as they are, and no process that outlives what started it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from microinfer.simulation.workers import spread


def square(value):
    if value == 3:
        time.sleep(0.2)  # later ones are finished first
    return value * value, os.getpid()


def refuse(value):
    if value == 2:
        raise ValueError(f"not {value}")
    return value


def die(value):
    os.kill(os.getpid(), signal.SIGKILL)


class OfItsOwnKindError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def raise_what_cannot_be_sent(value):
    raise OfItsOwnKindError("a", "b")


@pytest.fixture
def workers():
    """How many processes this one has beside those that it had before, such as a notebook's."""
    before = set(psutil.Process().children())
    return lambda: len(set(psutil.Process().children()) - before)


def test_results_come_in_turn_from_several_processes(workers):
    results = list(spread(square, range(12), 2))
    assert [value for value, _ in results] == [value * value for value in range(12)]
    assert len({process for _, process in results} - {os.getpid()}) == 2
    assert list(spread(square, [], 2)) == []
    assert workers() == 0


def test_a_workers_error_is_raised_here(workers):
    with pytest.raises(ValueError, match="not 2"):
        list(spread(refuse, range(6), 2))
    with pytest.raises(RuntimeError, match="OfItsOwnKindError: a b"):
        next(spread(raise_what_cannot_be_sent, range(2), 1))
    with pytest.raises(RuntimeError, match="a worker process died"):
        next(spread(die, range(2), 1))
    assert workers() == 0


def test_closing_ends_the_workers(workers):
    with closing(spread(square, range(1000), 2)) as results:
        next(results)
        assert workers() == 2
    assert workers() == 0


# no `if __name__ == "__main__"`: the workers do not run the script
SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_workers import wait
from microinfer.simulation.workers import spread
for done in spread(wait, range(100), 2):
    print(*done, flush=True)
"""


def wait(value):
    time.sleep(0.01 if value == 0 else 60.0)
    return value, os.getppid(), os.getpid()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_script(stop):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline().split()[:2] == ["0", str(process.pid)]
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 2
        os.killpg(process.pid, stop)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -stop
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert errors.count("Traceback") == (1 if stop == signal.SIGINT else 0)  # none of a worker's
