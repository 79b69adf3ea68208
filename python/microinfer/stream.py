"""Stages that overlap: each runs in a thread of its own, bounded queues between them."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

AHEAD = 2  # results that wait for the next stage

_T = TypeVar("_T")
_U = TypeVar("_U")


def relay(stage: Callable[[_T], _U], items: Iterable[_T], name: str) -> Generator[_U, None, None]:
    """Run a stage in a thread, ahead of whoever iterates over its results by at most `AHEAD`.

    Relays can be chained. Closing the last one ends them all: what a stage is just doing ends, the rest never
    begins. Ctrl-C meanwhile waits for that end too.

    Parameters
    ----------
    stage : callable
        Run on every item, in order.
    items : iterable
        Iterated over in the thread.
    name : str
        Of the thread, after ``microinfer-``.

    Yields
    ------
    object
        What `stage` returns, in order.

    Raises
    ------
    BaseException
        Whatever `stage` or `items` raised, after the results before it.
    """
    return spread([stage], items, name)


def spread(stages: Sequence[Callable[[_T], _U]], items: Iterable[_T], name: str) -> Generator[_U, None, None]:
    """Like `relay`, with several stages that share the items, each in a thread of its own.

    Parameters
    ----------
    stages : sequence of callable
        Every item goes through one of them, whichever is free.
    items, name
        As in `relay`.

    Yields
    ------
    object
        What the stages return, in the order in which it is done.

    Raises
    ------
    BaseException
        Whatever a stage or `items` raised first; the other stages begin with nothing more.
    """
    queue: _Queue[_U] = _Queue()
    source, next_item = iter(items), threading.Lock()
    working = len(stages)

    def work(stage: Callable[[_T], _U]) -> None:
        nonlocal working
        error = None
        try:
            while True:
                with next_item:
                    if queue.over:
                        break
                    try:
                        item = next(source)
                    except StopIteration:
                        break
                if queue.over:
                    break
                queue.put(stage(item))
                del item  # not kept while the next one is waited for
        except BaseException as raised:
            error = raised
        with next_item:
            working -= 1
            if working == 0 and isinstance(source, Generator):
                source.close()
            if error is not None or working == 0:
                queue.end(error)

    threads = [
        threading.Thread(target=work, args=(stage,), name=f"microinfer-{name}-{number}")
        for number, stage in enumerate(stages)
    ]
    try:
        for thread in threads:
            thread.start()
        yield from queue
    finally:
        queue.abandon()
        _join(threads)


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait for the end of threads; raise a Ctrl-C that comes meanwhile when they have ended."""
    interruption = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as error:
                interruption = error
    if interruption is not None:
        raise interruption


class Sink(Generic[_T]):
    """A last stage in a thread: takes items while the caller goes on; a context manager.

    The context ends when all items are worked off, after an error of the caller (Ctrl-C included) too.

    Parameters
    ----------
    stage : callable
        Run on every item, in order.
    name : str
        Of the thread, after ``microinfer-``.
    """

    def __init__(self, stage: Callable[[_T], Any], name: str) -> None:
        self._stage = stage
        self._queue: _Queue[_T] = _Queue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"microinfer-{name}")

    def put(self, item: _T) -> None:
        """Hand over an item; waits while `AHEAD` of them wait.

        Raises
        ------
        BaseException
            Whatever the stage raised on an earlier item.
        """
        self._queue.put(item)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            for item in self._queue:
                self._stage(item)
        except BaseException as error:
            self._error = error
            self._queue.abandon()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.end()
        _join([self._thread])
        if error is None and self._error is not None:
            raise self._error


class _Queue(Generic[_T]):
    """A bounded queue that either side can close."""

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._abandoned = False

    @property
    def over(self) -> bool:
        """Whether nothing more is wanted: nobody takes it, or there was an error."""
        return self._abandoned or self._error is not None

    def put(self, item: _T) -> None:
        """Wait for room and add an item; once the queue is abandoned, drop it."""
        with self._changed:
            self._wait(lambda: self._abandoned or len(self._items) < AHEAD)
            if not self._abandoned:
                self._items.append(item)
                self._changed.notify_all()

    def _wait(self, until: Callable[[], bool]) -> None:
        while not until():
            self._changed.wait(0.5)  # no longer: it cannot be told of a signal that came just before it began

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, because of an error where there was one; the first one counts."""
        with self._changed:
            self._ended, self._error = True, self._error or error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nobody takes anything more."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[_T]:
        while True:
            with self._changed:
                self._wait(lambda: bool(self._items) or self._ended)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # not kept while the next one is waited for
