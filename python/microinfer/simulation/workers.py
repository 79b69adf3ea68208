"""Worker processes that end with the process that started them, whatever ends it."""

import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""The matrices of a worker are small, and the other cores have workers of their own."""


def spread(
    work: Callable[[_Item], _Result], items: Sequence[_Item], processes: int
) -> Generator[_Result, None, None]:
    """Yield ``work(item)`` for each item in turn, computed by worker processes.

    The workers run neither the script that called for them (it needs no ``if __name__ == "__main__"``) nor in its
    session: Ctrl-C reaches this process alone. Closing the iterator, an error and an interruption end them at once,
    and so does the death of this process.

    Parameters
    ----------
    work : callable
        What a worker does; it and the items are pickled.
    items : sequence
        What it does it with.
    processes : int
        Most workers.

    Raises
    ------
    Exception
        The first that `work` raised.
    RuntimeError
        If a worker died.
    """
    with _workers(work, min(processes, len(items))) as idle:
        busy: dict[Connection, int] = {}
        finished: dict[int, _Result] = {}
        started = 0
        for number in range(len(items)):
            while number not in finished:
                while idle and started < len(items):
                    connection = idle.pop()
                    connection.send(items[started])
                    busy[connection] = started
                    started += 1
                for connection in _ready(busy):
                    finished[busy.pop(connection)] = _received(connection)
                    idle.append(connection)
            yield finished.pop(number)


def _ready(connections: Iterable[Connection]) -> list[Connection]:
    """Those from which something can be received, once there are any."""
    return [connection for connection in wait(list(connections)) if isinstance(connection, Connection)]


def _received(connection: Connection) -> Any:
    try:
        failed, result = connection.recv()
    except (EOFError, ConnectionResetError):
        raise RuntimeError(
            "a worker process died: it was killed, perhaps because the memory is full; fewer processes need less"
        ) from None
    if failed:
        raise result
    return result


@contextmanager
def _workers(work: Callable[[_Item], _Result], count: int) -> Iterator[list[Connection]]:
    """Connections to new workers, which are killed in the end."""
    processes: list[subprocess.Popen[bytes]] = []
    connections: list[Connection] = []
    command = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _serve; _serve({{}})"
    try:
        for _ in range(count):
            ours, theirs = socket.socketpair()
            with theirs:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", command.format(theirs.fileno())],
                        stdin=subprocess.PIPE,  # ends when this process does
                        stdout=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        env=os.environ | ONE_THREAD,
                        start_new_session=True,
                    )
                )
            connections.append(Connection(ours.detach()))
        for connection in connections:
            connection.send(work)
        yield list(connections)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
        for connection in connections:
            connection.close()


def _serve(descriptor: int) -> None:
    """Work in a worker process until the other end is gone."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with Connection(descriptor) as connection:
        work = connection.recv()
        while True:
            try:
                item = connection.recv()
            except EOFError:
                return
            try:
                answer = False, work(item)
            except Exception as error:
                answer = True, _sendable(error)
            connection.send(answer)


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception's class does
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
