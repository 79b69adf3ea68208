"""How commands end when they are asked to."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer


class Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems send it: whatever Ctrl-C cleans up, this does."""

    number = signal.SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside."""
    if threading.current_thread() is not threading.main_thread():  # Python's signals are the main thread's
        yield
        return
    heard = False

    def stop(*_: object) -> None:
        nonlocal heard
        heard = True
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except typer.Exit:  # who has heard it, and has had the last word
        raise
    except Exception as error:  # some libraries answer an interruption by an error of their own
        if heard:
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_status(stopped: KeyboardInterrupt) -> int:
    """What shells give for the signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + int(getattr(stopped, "number", signal.SIGINT))
