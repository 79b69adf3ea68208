"""README and docs: length, links, commands that exist, Python that runs on the demo scan."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import microinfer
from microinfer.cli import app
from microinfer.simulation.scan import ScanSettings
from microinfer.training.config import Config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEMO = Path(microinfer.__file__).parent / "data" / "demo" / "polycrystal.h5"
CLI = get_command(app)
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNNABLE = re.compile(r"^<!-- run -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _options(command) -> set[str]:
    return {name for entry in command.params for name in (*entry.opts, *entry.secondary_opts)}


def _all_options(command) -> set[str]:
    """A command's options, with those of the commands in a group."""
    return _options(command).union(*map(_options, getattr(command, "commands", {}).values()))


def _commands(text: str) -> list[list[str]]:
    """What stands behind each `microinfer` of the shell blocks and of inline code, word by word."""
    shell = [body.replace("\\\n", " ") for language, body in FENCED.findall(text) if language == "sh"]
    lines = "\n".join(shell).splitlines() + re.findall(r"`(microinfer [^`\n]+)`", FENCED.sub("", text))
    calls = [match for line in lines for match in re.findall(r"(?:^|&& |-m )microinfer ([^&|)#]+)", line)]
    return [words for call in calls if (words := shlex.split(call)) and words[0] != "COMMAND"]


def test_readme_is_short():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    for name, *words in _commands(page.read_text(encoding="utf-8")):
        assert name in {*CLI.commands, *_options(CLI)}
        if name in CLI.commands:
            assert {word for word in words if word.startswith("--")} <= _all_options(CLI.commands[name]), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_exist(page):
    known = _options(CLI).union(*(_all_options(command) for command in CLI.commands.values()))
    examples = "".join(path.read_text() for path in (ROOT / "cpp" / "examples").rglob("*.cpp"))
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    for option in re.findall(r"`(--[a-z-]+)", prose):
        assert option in known or f'"{option}"' in examples, option


@pytest.mark.parametrize("name", CLI.commands)
def test_every_command_and_option_is_documented(name):
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert name in {command for command, *_ in _commands(page)}
    options = {option for option in _all_options(CLI.commands[name]) if option.startswith("--")} - {"--help"}
    assert [option for option in sorted(options) if not re.search(rf"{option}(?![a-z-])", page)] == []


def test_readme_links_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[0].read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_configurations_are_valid():
    for page in PAGES:
        for language, body in FENCED.findall(page.read_text(encoding="utf-8")):
            if language == "toml":
                kind = ScanSettings if page.name == "synthetic_scans.md" else Config
                kind.from_dict(tomllib.loads(body), page.name)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if RUNNABLE.search(page.read_text(encoding="utf-8"))],
    ids=lambda page: page.name,
)
def test_python_runs(page, tmp_path, monkeypatch):
    shutil.copy(DEMO, tmp_path / "scan.h5")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in RUNNABLE.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, page.name, "exec"), names)
