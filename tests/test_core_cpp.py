"""The C++ unit tests, built and run without CUDA and with warnings as errors."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_the_core_passes_its_unit_tests(tmp_path: Path) -> None:
    options = ("PYTHON=OFF", "TESTS=ON", "CUDA=OFF", "WERROR=ON")
    run("cmake", "-S", ROOT, "-B", tmp_path, *(f"-DMICROINFER_{option}" for option in options))
    run("cmake", "--build", tmp_path, "--parallel", str(os.cpu_count()))
    assert " 0 failed" in run(tmp_path / "microinfer_tests")


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_an_unknown_cuda_setting_is_refused(tmp_path: Path) -> None:
    command = ["cmake", "-S", ROOT, "-B", tmp_path, "-DMICROINFER_CUDA=MAYBE"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "MICROINFER_CUDA must be AUTO, ON or OFF, got 'MAYBE'" in done.stderr
