"""One progress bar for all long work: on standard error, in a notebook below the cell."""

import sys
import time
from collections.abc import Iterable, Iterator
from io import StringIO
from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T")

NOTEBOOK_WIDTH = 110  # characters
NOTEBOOK_PAUSE = 0.25  # seconds from one state of the bar to the next
BAR = 40  # characters at most: it gives way to what stands beside it
LOG_SHARE, LOG_PAUSE = (
    10.0,
    10.0,
)  # per cent and seconds from one line to the next where no terminal shows the bar


class ProgressBar:
    """A bar with elapsed and remaining time, rate and named values beside it; a context manager.

    Parameters
    ----------
    description : str
        Shown before the bar.
    total : int
        Steps in all.
    visible : bool
        Without it nothing is shown, and rich is not imported.
    done : int, default: 0
        Steps that were done before.
    unit : str, default: ""
        What a step is, in the plural: shows their rate.
    """

    def __init__(self, description: str, total: int, *, visible: bool, done: int = 0, unit: str = "") -> None:
        self._bar: Any = None
        self._lines: _NotebookLine | _LogLines | None = None
        if visible:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.table import Column

            console = Console(stderr=True)
            in_notebook, at_a_terminal = console.is_jupyter, console.is_terminal and sys.stderr.isatty()
            if in_notebook or not at_a_terminal:
                console = Console(
                    file=StringIO(), force_jupyter=False, color_system=None, width=NOTEBOOK_WIDTH
                )
                self._lines = _NotebookLine(console) if in_notebook else _LogLines(console)
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(None, table_column=Column(max_width=BAR)),
                TextColumn("{task.percentage:3.0f} %"),
                TimeElapsedColumn(table_column=Column(no_wrap=True)),
                TimeRemainingColumn(table_column=Column(no_wrap=True)),
                *([_rate_column(unit)] if unit else []),
                TextColumn("{task.fields[notes]}"),
                console=console,
            )
            self._task = self._bar.add_task(description, total=total, completed=done, notes="")
        self._notes: dict[str, str] = {}

    def advance(self, steps: int, **notes: str) -> None:
        """Go on by some steps; notes such as ``loss="0.1"`` stay until they are given anew."""
        if self._bar is not None:
            self._notes.update(notes)
            text = "  ".join(f"{name} {value}" for name, value in self._notes.items())
            self._bar.update(self._task, advance=steps, notes=text)
            if self._lines is not None:
                self._lines.show(self._bar)

    def __enter__(self) -> "ProgressBar":
        if self._lines is not None:
            self._lines.show(self._bar)
        elif self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.show(self._bar, last=True)
        elif self._bar is not None:
            self._bar.stop()


class _NotebookLine:
    """A line below a notebook's cell that is written anew as it changes; rich itself needs ipywidgets for that."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._handle: Any = None
        self._due = 0.0

    def show(self, bar: Any, *, last: bool = False) -> None:
        """Show how far a bar of rich's is, a few times a second at most but the last time."""
        if time.monotonic() < self._due and not last:
            return
        self._due = time.monotonic() + NOTEBOOK_PAUSE
        content = {"text/plain": _line(self._console, bar)}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(content, raw=True)


class _LogLines:
    """Lines on standard error where it is a file or a pipe: one at the end, in long work now and then one before."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._due = time.monotonic() + LOG_PAUSE
        self._next = LOG_SHARE

    def show(self, bar: Any, *, last: bool = False) -> None:
        """Write how far a bar of rich's is, if it is far enough since the last time, and at the end."""
        share = bar.tasks[0].percentage
        if not last and (share < self._next or share >= 100.0 or time.monotonic() < self._due):
            return
        self._due = time.monotonic() + LOG_PAUSE
        self._next = share + LOG_SHARE
        print(_line(self._console, bar), file=sys.stderr, flush=True)


def _line(console: Any, bar: Any) -> str:
    """How far a bar of rich's is, as a line of text."""
    with console.capture() as line:
        console.print(bar.make_tasks_table(bar.tasks))
    text: str = line.get().rstrip()
    return text


def track(items: Iterable[_T], description: str, *, total: int, visible: bool) -> Iterator[_T]:
    """Yield items and show how many of them are done."""
    with ProgressBar(description, total, visible=visible) as bar:
        for item in items:
            yield item
            bar.advance(1)


def _rate_column(unit: str) -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Steps per second, over the last half minute."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} {unit}/s")

    return RateColumn(table_column=Column(no_wrap=True))
