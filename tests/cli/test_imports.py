"""What a user waits for: commands that look at scans and map them on a CPU load none of the heavy packages."""

import subprocess
import sys

import pytest

import microinfer as mi

COMMANDS = {
    "map": ("map", "scan.h5", "--model", "cu", "--device", "cpu"),
    "info": ("info", "scan.h5", "--model", "cu"),
    "convert": ("convert", "scan.h5", "--out", "copy.h5"),
    "models": ("models",),
    "map_orientations": (),
}
SCRIPT = """
import sys
import microinfer as mi
if len(sys.argv) > 1:
    from typer.testing import CliRunner
    from microinfer.cli import app
    result = CliRunner().invoke(app, sys.argv[1:])
    assert result.exit_code == 0, result.output
else:
    mi.map_orientations("scan.h5", "cu", device="cpu")
print(sorted({"torch", "orix", "matplotlib", "scipy"}.intersection(sys.modules)))
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_heavy_is_loaded(name, scan, tmp_path):
    mi.write_peaks(tmp_path / "scan.h5", scan)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *COMMANDS[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
