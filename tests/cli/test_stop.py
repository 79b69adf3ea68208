"""Ctrl-C while a command is still being imported: a word, no traceback."""

import subprocess
import sys

import pytest

import microinfer as mi

# Ctrl-C comes as a module begins to be imported.
SCRIPT = """
import os, runpy, signal, sys

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            print("interrupted", flush=True)
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv.pop(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may have it ignored
sys.meta_path.insert(0, Interruption())
runpy.run_module("microinfer", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "module",
    [
        *(
            "microinfer.cli",
            "typer",
            "rich.console",
            "importlib.metadata",
            "numpy.linalg",
            "microinfer.cli.scan",
        ),
        *("microinfer.mapping.check", "h5py", "microinfer.peaks.radial"),  # of the command itself
    ],
)
def test_ctrl_c_during_imports_is_a_word(scan, tmp_path, module):
    mi.write_peaks(tmp_path / "scan.h5", scan)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, module, "info", "scan.h5", "--model", "cu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "Stopped\n")
    assert done.stdout == "interrupted\n"
