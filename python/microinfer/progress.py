"""One progress bar for all long work, on standard error."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T")


class ProgressBar:
    """A bar with elapsed and remaining time and named values beside it; a context manager.

    Parameters
    ----------
    description : str
        Shown before the bar.
    total : int
        Steps in all.
    visible : bool
        Without it nothing is shown, and rich is not imported.
    """

    def __init__(self, description: str, total: int, *, visible: bool) -> None:
        self._bar: Any = None
        if visible:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[notes]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(description, total=total, notes="")
        self._notes: dict[str, str] = {}

    def advance(self, steps: int, **notes: str) -> None:
        """Go on by some steps; notes such as ``loss="0.1"`` stay until they are given anew."""
        if self._bar is not None:
            self._notes.update(notes)
            text = "  ".join(f"{name} {value}" for name, value in self._notes.items())
            self._bar.update(self._task, advance=steps, notes=text)

    def __enter__(self) -> "ProgressBar":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def track(items: Iterable[_T], description: str, *, total: int, visible: bool) -> Iterator[_T]:
    """Yield items and show how many of them are done."""
    with ProgressBar(description, total, visible=visible) as bar:
        for item in items:
            yield item
            bar.advance(1)
