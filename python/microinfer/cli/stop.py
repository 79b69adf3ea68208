"""How commands end when they are asked to."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from microinfer.interruption import stoppable


@contextmanager
def terminable() -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM as batch systems send it, raise `microinfer.interruption.Stopped` inside."""
    if threading.current_thread() is not threading.main_thread():  # Python's signals are the main thread's
        yield
        return
    last_word: typer.Exit | None = None
    with stoppable():
        try:
            yield
        except typer.Exit as said:  # by who has heard it
            last_word = said
    if last_word is not None:
        raise last_word


def exit_status(stopped: KeyboardInterrupt) -> int:
    """What shells give for the signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + int(getattr(stopped, "number", signal.SIGINT))
