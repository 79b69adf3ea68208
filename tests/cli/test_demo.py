"""The demo, and the README's commands on its scan."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import microinfer as mi
from microinfer.cli import app

ROOT = Path(__file__).parents[2]


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


def shell_commands(text):
    """The arguments of every `microinfer` in shell blocks that are marked to run."""
    blocks = re.findall(r"^<!-- run -->\n```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A folder in which the demo ran, and what it printed."""
    monkeypatch.chdir(tmp_path)
    result = call("demo", "--out", "my demo")
    assert result.exit_code == 0, result.output
    monkeypatch.chdir(tmp_path / "my demo")
    return result.stdout


def test_demo_leaves_its_scan_and_says_how_to_go_on(demo, tmp_path):
    assert sorted(path.name for path in Path().iterdir()) == [
        "demo.h5",
        "demo.png",
        "frames.h5",
        "frames_map.h5",
        "frames_map.png",
        "scan.h5",
    ]
    closing = [line.strip() for line in demo.splitlines()[-3:]]
    assert closing[0] == "cd 'my demo'"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in closing[1:]:
        assert line in readme
        result = call(*shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
    assert mi.load_map("map.h5").valid.sum() == mi.load_map("demo.h5").valid.sum()
    assert Path("map.png").exists()


def test_demo_maps_frames_too(demo):
    frames = demo[demo.index("From frames") :]
    right = float(re.search(r"Within 3 degrees +([0-9.]+)%", frames)[1])
    in_vacuum = float(re.search(r"Valid in vacuum +([0-9.]+)%", frames)[1])
    assert right > 90
    assert in_vacuum < 2


def test_demo_rewrites_its_own_files_alone(demo, scan):
    Path("demo.h5").write_text("old")
    assert call("demo", "--out", ".").exit_code == 0
    assert mi.load_map("demo.h5").valid.any()
    mi.write_peaks("scan.h5", scan)
    before = Path("scan.h5").read_bytes()
    result = call("demo", "--out", ".")
    assert result.exit_code == 1
    assert "scan.h5: is not the demo's scan: give another folder with --out" in result.stderr
    assert Path("scan.h5").read_bytes() == before


def test_examples_of_the_command_line_run(demo):
    commands = shell_commands((ROOT / "docs" / "command_line.md").read_text(encoding="utf-8"))
    assert {command[0] for command in commands} >= {"info", "map", "plot", "convert", "models", "export"}
    for command in commands:
        result = call(*command)
        assert result.exit_code == 0, (command, result.output)
