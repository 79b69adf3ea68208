"""Damages of files, and what reading them comes to; run as a script, in a process of its own.

The script reads a file that it damages anew for each seed and writes a line of JSON for each. It ends itself where a
read takes longer than `PATIENCE`, and with it whatever is deaf to signals.
"""

import faulthandler
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

PATIENCE = 10.0  # seconds
PAGE = 4096


def damaged(content: bytes, seed: int) -> bytes:
    """The content with the page of that number zeroed; seeds beyond flip one to three bits, or cut the end off."""
    begin = seed * PAGE
    if begin < len(content):
        return content[:begin] + bytes(len(content[begin : begin + PAGE])) + content[begin + PAGE :]
    rng = np.random.default_rng(seed)
    if rng.random() < 0.1:
        return content[: int(rng.integers(len(content)))]
    changed = bytearray(content)
    # Most of a file is values: every other bit is one near the beginning, where there is more structure.
    for _ in range(int(rng.integers(1, 4))):
        end = len(content) if rng.random() < 0.5 else min(len(content), 20_000)
        changed[int(rng.integers(end))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def read_scan(path: Path, **options: Any) -> list[Any]:
    """All that a file of peaks says."""
    import microinfer as mi

    with mi.open_peaks(path, **options) as reader:
        said = [reader.scan, reader.description]
        for peaks in reader.blocks():
            said += [getattr(peaks, name).tobytes() for name in ("offsets", "qx", "qy", "intensity")]
    return said


def read_lists(path: Path) -> list[Any]:
    """All that a file of calibrated point lists says."""
    return read_scan(path, calibrated=True)


def read_library(path: Path) -> list[Any]:
    """All that a pattern library says."""
    from microinfer.simulation.library import load_library

    library = load_library(path)
    arrays = [getattr(library.peaks, name) for name in ("offsets", "qx", "qy", "intensity")]
    arrays += [getattr(library, name) for name in ("orientation", "phase", "zone", "thickness")]
    phases = [phase.to_dict() for phase in library.phases]
    bound = library.in_plane_bound
    return [
        phases,
        library.simulation,
        *(a.tobytes() for a in arrays),
        None if bound is None else bound.tobytes(),
    ]


READERS: dict[str, Callable[[Path], list[Any]]] = {
    "scan": read_scan,
    "lists": read_lists,
    "library": read_library,
}


def outcome(read: Callable[[Path], list[Any]], path: Path, expected: list[Any]) -> str:
    """ "same", "refused", "changed", or the error that should not have come."""
    try:
        return "same" if read(path) == expected else "changed"
    except (OSError, ValueError) as error:
        return "refused" if str(path) in str(error) else f"nameless: {error!r}"
    except BaseException as error:
        return f"traceback: {error!r}"


def outcomes(reader: str, path: Path, folder: Path, seeds: Iterable[int]) -> Counter[str]:
    """Read a file after each of many damages, in processes of their own.

    Returns
    -------
    Counter of str
        How often what came out; see `outcome`, and "ended" with the seed where the process did.
    """
    left, found = list(seeds), Counter[str]()
    while left:
        command = [sys.executable, __file__, reader, str(path), str(folder), json.dumps(left)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found.update(line["outcome"] for line in lines)
        left = left[len(lines) :]
        if done.returncode != 0:
            hung = "Timeout" in done.stderr
            assert lines or hung or done.returncode < 0, done.stderr
            found[f"{'hung' if hung else f'ended by {done.returncode}'} at seed {left.pop(0)}"] += 1
    return found


def damages(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged versions of a file, in turns: a bit or a byte changed, a run zeroed or overwritten, cut, repeated."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        data = bytearray(content)
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
        match index % 6:
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = (data[at] + int(rng.integers(1, 256))) % 256
            case 2:
                data[at : at + length] = bytes(len(data[at : at + length]))
            case 3:
                data[at : at + length] = rng.bytes(len(data[at : at + length]))
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[at : at + length]
        yield bytes(data)


def attempt(read: Callable[[Path], T], path: Path) -> T | str:
    """What reading a file gives, or the text of the ValueError by which it is refused."""
    try:
        return read(path)
    except ValueError as error:
        return str(error)


def main(reader: str, original: str, folder: str, seeds: str) -> None:
    read, path, content = READERS[reader], Path(folder) / "damaged.h5", Path(original).read_bytes()
    path.write_bytes(content)
    expected = read(path)
    for seed in json.loads(seeds):
        path.write_bytes(damaged(content, seed))
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        result = outcome(read, path, expected)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"seed": seed, "outcome": result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
