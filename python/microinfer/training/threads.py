"""How many threads torch should have on a CPU that others use, too."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST, LAST = 4, 512
"""Steps until the other number of threads is tried: at first, and at most, as long as it loses."""


def let_threads_sleep() -> None:
    """Have threads without work sleep instead of spinning, where torch is not loaded yet; a user's choice stays.

    Spinning threads keep the cores from each other where others use them, too: two were eight times slower than one.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class Threads:
    """One thread, or all of torch's, whichever is faster by what steps took: one to begin with.

    Parameters
    ----------
    device : str
        Where the steps run; nothing is changed but for ``"cpu"``.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._set = torch.set_num_threads
        most = torch.get_num_threads() if device == "cpu" else 1
        self._choice, self._other = 1, most
        self._rates = {1: 0.0, most: 0.0}
        self._until = self._interval = FIRST

    @contextmanager
    def step(self, work: float) -> Iterator[None]:
        """Run one step of some amount of work with the number of threads whose turn it is."""
        if self._choice == self._other:
            yield
            return
        self._until -= 1
        number = self._choice if self._until else self._other
        self._set(number)
        start = time.perf_counter()
        yield
        self._learn(number, work / (time.perf_counter() - start))

    def _learn(self, number: int, rate: float) -> None:
        old = self._rates[number]
        if number == self._choice:
            self._rates[number] = rate if not old else 0.8 * old + 0.2 * rate
            return
        if rate > self._rates[self._choice]:
            self._choice, self._other = self._other, self._choice
            self._rates[number], self._interval = rate, FIRST
        else:
            self._interval = min(2 * self._interval, LAST)
        self._until = self._interval
