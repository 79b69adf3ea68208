"""Work that is killed at each of its writes in turn, and goes on; run as a script, in a process of its own.

The script does a piece of work once to count its writes. Then a forked child does it again for each of them, and once
more for each that can be torn, and is killed there by SIGKILL or, in the middle of a write, by the limit of a file's
size. What is left is gone on with. The script writes a line of JSON for each kill.
"""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import BuiltinFunctionType, FrameType
from typing import Any, NamedTuple

IN_FOLDERS = {
    "open",
    "replace",
    "rename",
    "unlink",
    "remove",
    "link",
    "truncate",
    "ftruncate",
    "fsync",
}  # of os
IN_FILES = {"write", "writelines", "truncate", "flush", "close", "__exit__"}  # of open files
TEAR = 20  # bytes of a write that are there when it is torn


class Work(NamedTuple):
    """What is done in the working directory.

    `begin` calls its argument after each part that is done and kept; `go_on` does what is left, and returns the parts
    that it found. `result` is what came out.
    """

    begin: Callable[[Callable[[], None]], None]
    go_on: Callable[[], int]
    result: Callable[[], Any]


class Kill(NamedTuple):
    """What came of a kill: parts that were done and found again, and whether the result and the files are right."""

    at: str
    done: int
    found: int
    right: bool
    files: list[str]


def kills(work: str, source: Path, folder: Path, every: int = 1) -> list[Kill]:
    """Kill some work at every so many of its writes, in a process of its own."""
    command = [sys.executable, __file__, work, str(source), str(folder), str(every)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [Kill(**json.loads(line)) for line in done.stdout.splitlines()]


class Writes:
    """A profiler that sees each call that writes, in all threads, and can make one the last."""

    def __init__(self, last: int = -1, *, torn: bool = False) -> None:
        self.seen: list[str] = []
        self._last, self._torn = last, torn

    def __call__(self, frame: FrameType, event: str, function: BuiltinFunctionType) -> None:
        if event != "c_call":
            return
        owner, name = getattr(function, "__self__", None), function.__name__
        if isinstance(owner, io.FileIO | io.BufferedWriter | io.TextIOWrapper):
            if name not in IN_FILES or owner in (sys.stdout, sys.stderr):
                return
        elif name not in IN_FOLDERS or function.__module__ not in ("posix", "io", "_io"):
            return
        if len(self.seen) == self._last:
            if not self._torn:
                os.kill(os.getpid(), signal.SIGKILL)
            end = owner.tell() + TEAR  # the next write, of the rest or another, is a signal that kills
            resource.setrlimit(resource.RLIMIT_FSIZE, (end, resource.RLIM_INFINITY))
        self.seen.append(name)


def _forked(work: Callable[[], None]) -> int:
    """The signal by which a child ended, 0 where it ended itself."""
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(process, 0)[1])


def main(work: str, source: str, folder: str, every: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from helpers import killed_work

    begin, go_on, result = getattr(killed_work, work)(Path(source))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores

    def anew() -> None:
        for file in Path(folder).iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    def watched(writes: Writes) -> None:
        threading.setprofile(writes)
        sys.setprofile(writes)
        begin(lambda: os.write(told, b"."))
        sys.setprofile(None)
        threading.setprofile(None)

    telling, told = os.pipe()
    for writes in (Writes(), Writes()):  # the first time there is more to be opened, such as modules
        anew()
        watched(writes)
    whole = result()
    points = [(n, False) for n in range(len(writes.seen))]
    points += [(n, True) for n, name in enumerate(writes.seen) if name == "write"]
    for last, torn in points[:: int(every)]:
        anew()
        os.write(told, b"|")
        ended = _forked(lambda last=last, torn=torn: watched(Writes(last, torn=torn)))
        assert ended == (signal.SIGXFSZ if torn else signal.SIGKILL), (last, torn, ended)
        done = len(os.read(telling, 1 << 16).rpartition(b"|")[2])
        found = go_on()
        files = sorted(file.name for file in Path(folder).iterdir())
        at = f"{last} {writes.seen[last]}{' torn' if torn else ''}"
        print(json.dumps(Kill(at, done, found, result() == whole, files)._asdict()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
