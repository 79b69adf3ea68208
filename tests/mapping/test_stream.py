"""Stages in threads: all items go through, errors come out, nothing is left running."""

import threading
import time
from contextlib import closing

import pytest

from microinfer.stream import AHEAD, relay, spread


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("microinfer-")]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_item_goes_through_one_stage(count):
    stages = [lambda item, number=number: (number, item) for number in range(count)]
    answers = list(spread(stages, iter(range(50)), "test"))
    assert sorted(item for _, item in answers) == list(range(50))
    assert not running()


def test_one_stage_keeps_the_order():
    assert list(relay(lambda item: -item, range(50), "test")) == [-item for item in range(50)]


def test_stages_work_side_by_side():
    both = threading.Barrier(2, timeout=20)  # breaks where one waits for the other to end
    assert sorted(spread([lambda item: both.wait() + 2 * item] * 2, range(2), "test")) in ([0, 3], [1, 2])


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_of_a_stage_comes_out_and_ends_all(count):
    def stage(item):
        if item == 7:
            raise KeyError("item 7")
        return item

    with pytest.raises(KeyError, match="item 7"):
        list(spread([stage] * count, iter(range(10**9)), "test"))
    assert not running()


def test_an_error_is_not_lost_while_another_stage_goes_on():
    begun = []

    def stage(item):
        begun.append(item)
        time.sleep(0.1 * item)
        if item == 1:
            raise KeyError("item 1")
        return item

    answers = spread([stage] * 2, range(6), "test")
    assert next(answers) == 0
    time.sleep(1.0)  # by now both stages have ended, one of them well
    with pytest.raises(KeyError, match="item 1"):
        list(answers)
    assert sorted(begun) == [0, 1, 2]
    assert not running()


def test_closing_waits_for_the_stages_in_spite_of_another_interruption(monkeypatch):
    interruptions = [KeyboardInterrupt("again")]
    join = threading.Thread.join

    def interrupted(thread, timeout=None):
        if interruptions:
            raise interruptions.pop()
        join(thread, timeout)

    answers = relay(lambda item: item, iter(range(10**9)), "test")
    next(answers)
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt, match="again"):
        answers.close()
    assert not running()


def test_an_error_of_the_items_comes_out():
    def items():
        yield from range(3)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(spread([lambda item: item] * 2, relay(lambda item: item, items(), "source"), "test"))
    assert not running()


def test_closing_ends_chained_stages_and_their_source():
    closed, made = threading.Event(), []

    def items():
        try:
            while True:
                made.append(None)
                yield len(made)
        finally:
            closed.set()

    with closing(
        spread([lambda item: item] * 2, relay(lambda item: item, items(), "source"), "test")
    ) as answers:
        next(answers)
        time.sleep(0.1)
        # one answer taken; two queues full, and one item in every hand
        assert len(made) <= 1 + 2 * AHEAD + 2 + 2
    assert closed.is_set()
    assert not running()
