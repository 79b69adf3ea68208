"""What reaches the terminal: names as they stand, unbroken, and no control characters."""

import re
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.example_maps import random_map
from microinfer.cli import app
from microinfer.cli.show import console, literal
from microinfer.extras import install_hint

HOSTILE = "a\x1b[31m[red]b[/red]\r\n\x9b:smile:\u202ec\\"
SHOWN = r"a\x1b[31m[red]b[/red]\r\n\x9b:smile:\u202ec" + "\\"


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_text_is_shown_literally(capsys):
    console.print(f"{literal(HOSTILE)}[bold]|[/]", soft_wrap=True)
    assert capsys.readouterr().out == f"{SHOWN}|\n"
    assert literal("Ångström α-Ti µm 晶") == "Ångström α-Ti µm 晶"


def test_names_in_a_model_are_shown_literally(small_model, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phase = replace(small_model.phases[0], name=HOSTILE, space_group=HOSTILE)
    replace(small_model, phases=(phase,), card=small_model.card | {"name": HOSTILE}).save("m.safetensors")
    mi.write_peaks("scan.h5", scan)
    for arguments in (
        ("info", "m.safetensors"),
        ("info", "scan.h5", "--model", "m.safetensors"),
        ("map", "scan.h5", "--model", "m.safetensors", "--out", "map.h5"),
        ("info", "map.h5"),
    ):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
        assert SHOWN in result.output
        assert not set("\x1b\x9b\u202e") & set(result.stdout)


def test_an_error_shows_text_of_a_file_literally(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[red]x\x1b.h5").touch()
    result = call("map", "[red]x\x1b.h5", "--model", "cu")
    assert result.exit_code == 1
    assert r"Error: [red]x\x1b.h5 is an empty file" in result.stderr


def test_long_paths_stay_on_one_line(small_model, scan, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    folder = tmp_path / "a long [bold] name with spaces" / ("x" * 120)
    folder.mkdir(parents=True)
    mi.write_peaks(folder / "scan.h5", scan)
    small_model.save(folder / "small.safetensors")
    model = ("--model", folder / "small.safetensors")
    outputs = ("--out", folder / "map.h5", "--plot", folder / "map.png")
    result = call("map", folder / "scan.h5", *model, *outputs)
    assert result.exit_code == 0, result.output
    assert f"Map of {folder / 'scan.h5'} written to {folder / 'map.h5'}\n" in result.stdout
    assert f"Wrote {folder / 'map.png'}\n" in result.stdout
    for name in ("scan.h5", "map.h5", "small.safetensors"):
        assert str(folder / name) in call("info", folder / name).stdout.splitlines()[0]
    refused = call("map", folder / "scan.h5", *model, *outputs)
    assert f"Error: {folder / 'map.h5'}: the map is there already" in refused.stderr


def test_wrong_usage_is_a_line_too(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    name = str(tmp_path / ("x" * 100))
    for arguments in (("plot", "a", name), ("info", "a", f"--{name}")):
        result = call(*arguments)
        assert result.exit_code == 2
        usage, error = result.stderr.splitlines()
        assert usage.startswith("Usage: ")
        assert error.startswith("Error: ")
        assert name in error


def test_ctrl_c_stops_any_command(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("microinfer.cli.make.model_table", interrupted)
    result = call("models")
    assert result.exit_code == 130
    assert result.stderr == "Stopped\n"


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("py4DSTEM", ("evaluate", "no such model"), '"py4DSTEM'),
        (
            "py4DSTEM",
            ("evaluate", "no such model", "--test", "a.h5", "--template-matching", "9"),
            '"py4DSTEM',
        ),
        ("py4DSTEM", ("benchmark", "--model", "no such model", "--structure", "Cu"), '"py4DSTEM'),
        ("torch", ("evaluate", "no such model"), "."),
        ("torch", ("export", "no such model", "--out", "a.pt"), "."),
    ],
)
def test_a_missing_package_is_named_at_once(monkeypatch, package, arguments, extra):
    monkeypatch.setitem(sys.modules, package, None)
    result = call(*arguments)
    assert result.exit_code == 1
    assert f"{package}: in the clone: pip install -c constraints.txt {extra}" in result.stderr


def test_the_packages_of_an_extra_are_named_for_pip():
    from packaging.requirements import Requirement

    hint = install_hint("py4DSTEM")
    assert hint.startswith("in the clone: pip install -c constraints.txt ")
    wanted = {one.name: one.specifier for one in map(Requirement, re.findall(r'"([^"]+)"', hint))}
    assert {"py4DSTEM", "threadpoolctl"} <= wanted.keys()
    assert wanted["py4DSTEM"].contains("0.14.18")
    assert not wanted["py4DSTEM"].contains("0.15")


def test_a_package_that_is_missing_later_is_named_too(monkeypatch, tmp_path):
    random_map("Cu").save(tmp_path / "map.h5")
    monkeypatch.setitem(sys.modules, "orix.io.plugins.ang", None)
    result = call("convert", tmp_path / "map.h5", "--out", tmp_path / "map.ang")
    assert result.exit_code == 1
    assert "Error: orix is not installed: in the clone: pip install -c constraints.txt ." in result.stderr
