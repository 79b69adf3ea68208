"""The progress bar: what it says about rate and remaining time, and where."""

import io
import re
import subprocess
import sys

import pytest

from microinfer.progress import ProgressBar, track


@pytest.fixture
def clock(monkeypatch):
    """A clock of rich's that stands still unless it is set, and room for the whole line."""
    now = [100.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "200")
    return now


def test_rate_and_remaining_time_are_those_of_this_run(clock, capsys):
    with ProgressBar("mapping", 200_000, visible=True, done=50_000, unit="positions") as bar:
        bar.advance(10_000)
        for _ in range(2):
            clock[0] += 2.0
            bar.advance(10_000, loss="0.5")
    out, line = capsys.readouterr()
    assert out == ""
    assert "mapping" in line
    assert "40 %" in line
    # 20,000 in 4 seconds, 120,000 to go; the 50,000 that were done before do not count
    assert "0:00:04 0:00:24 5,000 positions/s" in line
    assert "loss 0.5" in line


def test_no_rate_before_there_is_one_and_none_without_a_unit(clock, capsys):
    with ProgressBar("mapping", 10, visible=True, unit="positions"):
        pass
    line = capsys.readouterr().err
    assert "positions/s" not in line
    assert "-:--:--" in line
    with ProgressBar("training", 10, visible=True) as bar:
        for _ in range(5):
            clock[0] += 1.0
            bar.advance(1)
    line = capsys.readouterr().err
    assert "0:00:05 0:00:05" in line
    assert "/s" not in line


def test_track_counts_what_it_yields(clock, capsys):
    assert list(track("abc", "letters", total=4, visible=True)) == ["a", "b", "c"]
    assert "75 %" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", ["80", "40"])
def test_a_bar_never_wraps(clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with ProgressBar("training my-crystal-and-another", 400_000, visible=True, unit="samples") as bar:
        for _ in range(3):
            clock[0] += 10.0
            bar.advance(20_000, loss="1.234", error="12.34 deg")
    states = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).strip("\n").split("\r")
    assert "loss 1.23" in states[-1] or columns == "40"
    assert "\n" not in "".join(states)
    assert max(map(len, states)) <= int(columns)


def test_a_file_gets_a_line_now_and_then(clock, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("microinfer.progress.time.monotonic", lambda: now[0])
    monkeypatch.setenv("FORCE_COLOR", "1")  # as machines that run tests have it
    for seconds, expected in (
        (0.01, [100]),
        (0.5, [20, 40, 60, 80, 100]),
        (60.0, list(range(10, 101, 10))),
    ):
        with ProgressBar("training", 100, visible=True) as bar:
            for _ in range(100):
                now[0] += seconds
                bar.advance(1)
        lines = capsys.readouterr().err.splitlines()
        assert [int(re.search(r"(\d+) %", line)[1]) for line in lines] == expected
        assert not any("\x1b" in line for line in lines)


def test_an_invisible_bar_shows_nothing_and_loads_nothing(capsys):
    with ProgressBar("mapping", 10, visible=False, unit="positions") as bar:
        bar.advance(3, loss="1")
    assert capsys.readouterr() == ("", "")
    code = (
        "import sys; from microinfer.progress import ProgressBar; ProgressBar('a', 1, visible=False).advance(1); "
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
