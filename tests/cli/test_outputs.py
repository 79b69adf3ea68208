"""What commands write: nothing is replaced unasked, names are checked before the work."""

import pytest
from typer.testing import CliRunner

import microinfer as mi
from helpers.example_maps import random_map
from helpers.optional import needs_py4dstem
from microinfer.cli import app
from microinfer.cli.outputs import PICTURES

MODEL = ("--model", "small.safetensors")


@pytest.fixture
def files(scan, small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mi.write_peaks("scan.h5", scan)
    small_model.save("small.safetensors")
    random_map("Cu").save("other.h5")
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


COMMANDS = [
    (("map", "scan.h5", *MODEL, "--out", "new.h5"), "new.h5: the map is there already"),
    (("map", "scan.h5", *MODEL, "--plot", "new.png"), "new.png: the plot is there already"),
    (("map", "scan.h5", *MODEL, "--ang", "new.ang"), "new.ang: the .ang file is there already"),
    (("map", "scan.h5", *MODEL, "--ctf", "new.ctf"), "new.ctf: the .ctf file is there already"),
    (("plot", "other.h5", "--out", "new.svg"), "new.svg: the picture is there already"),
    (("convert", "other.h5", "--out", "new.ang"), "new.ang: the export is there already"),
    (("convert", "scan.h5", "--out", "new.h5"), "new.h5: the copy is there already"),
    (("export", "small.safetensors", "--out", "new.pt"), "new.pt: the graph is there already"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS)
def test_nothing_is_replaced_without_overwrite(files, arguments, message):
    target = files / message.split(":")[0]
    target.write_text("precious")
    before = {path: path.read_bytes() for path in files.iterdir()}
    result = call(*arguments)
    assert result.exit_code == 1
    assert f"Error: {message}; --overwrite replaces it" in result.stderr
    assert {path: path.read_bytes() for path in files.iterdir()} == before  # and no map was made
    result = call(*arguments, "--overwrite")
    assert result.exit_code == 0, result.output
    assert target.read_bytes() != b"precious"


@needs_py4dstem
@pytest.mark.parametrize("report", ["report.md", "report_noisy.h5"])
def test_a_report_and_its_test_sets_are_not_replaced(files, report):
    (files / report).write_text("precious")
    result = call("evaluate", "small.safetensors", "--out", "report.md")
    assert result.exit_code == 1
    assert f"{report}: the " in result.stderr
    assert "--overwrite replaces it" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("map", "scan.h5", *MODEL, "--out", "a"),
            "a: the name of the map must end in .h5 or .hdf5, got no suffix",
        ),
        (
            ("map", "scan.h5", *MODEL, "--out", "a.ang"),
            "got '.ang'; microinfer convert gives a map that form",
        ),
        (("map", "scan.h5", *MODEL, "--plot", "a.xyz"), "a.xyz: the name of the plot must end in .png, .svg"),
        (
            ("map", "scan.h5", *MODEL, "--ang", "a.txt"),
            "a.txt: the name of the .ang file must end in .ang, got '.txt'",
        ),
        (("map", "scan.h5", *MODEL, "--ctf", "no/a.ctf"), "no/a.ctf: cannot write the file: the folder"),
        (("map", "scan.h5", *MODEL, "--plot", "no/a.png"), "no/a.png: cannot write the file: the folder"),
        (("plot", "other.h5", "--out", "a.doc"), "a.doc: the name of the picture must end in .png"),
        (("plot", "other.h5", "--out", "other.h5"), "other.h5: the picture would replace the map"),
        (("convert", "other.h5", "--out", "a.xyz"), "a.xyz: the name of the export must end in .ang or .ctf"),
        (
            ("convert", "scan.h5", "--out", "a.ang"),
            "scan.h5 is a scan of Bragg peaks, not an orientation map: map it",
        ),
        pytest.param(
            ("evaluate", "small.safetensors", "--out", "no/a.md"),
            "no/a.md: cannot write the file: the folder",
            marks=needs_py4dstem,
        ),
    ],
)
def test_names_are_checked_before_the_work(files, arguments, message):
    before = sorted(files.iterdir())
    result = call(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert sorted(files.iterdir()) == before


def test_resume_with_a_finished_map_says_so(files):
    arguments = ("map", "scan.h5", *MODEL, "--out", "new.h5")
    assert call(*arguments).exit_code == 0
    before = (files / "new.h5").read_bytes()
    for further in (["--resume"], ["--resume", "--overwrite"]):
        result = call(*arguments, *further)
        assert result.exit_code == 1
        assert (
            "new.h5: is there already, no unfinished work beside it: nothing is left to resume"
            in result.stderr
        )
    assert (files / "new.h5").read_bytes() == before


def test_matplotlib_draws_every_picture_format():
    from matplotlib.figure import Figure

    assert {suffix.lstrip(".") for suffix in PICTURES} <= set(Figure().canvas.get_supported_filetypes())
