"""Ctrl-C and termination: asked for at any moment, heard where nothing is left half done."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def unbroken() -> Iterator[None]:
    """Run short work to its end: a signal that asks this process to stop is heard right after it."""
    if threading.current_thread() is not threading.main_thread():  # signals interrupt the main thread alone
        yield
        return
    heard: list[int] = []
    try:
        with _handled(lambda number, frame: heard.append(number)):
            yield
    finally:
        if heard:
            signal.raise_signal(heard[0])


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, whose number it carries."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise `Stopped` inside, so that what an interruption saves and ends is saved and ended."""
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        raise Stopped(number)

    try:
        with _handled(stop):
            yield
    except Exception as error:  # some libraries answer an interruption by an error of their own
        if heard:
            raise Stopped(heard[0]) from error
        raise


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: not Python's to bring back; what is ignored, as by a shell for jobs in the background, stays so
    ours = [number for number, old in before.items() if old is not None and old is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
