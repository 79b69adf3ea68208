"""Programs in C++, built against the installed package as a user would build them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


def run(*command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program and expect an exit status."""
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # small tensors: torch's threads would wait for each other
    done = subprocess.run(
        command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == code, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr}"
    return done


def installed_package() -> Path:
    """Folder of the CMake package; skips where the extension was built in place."""
    package = Path(run(sys.executable, "-m", "microinfer", "--cmake-dir").stdout.strip())
    if not (package / "microinferConfig.cmake").exists():
        pytest.skip("the C++ package is not installed beside the Python package: pip install .")
    return package


def configure(source: Path, folder: Path, *prefixes: str | Path, options: tuple[str, ...] = ()) -> str:
    """Configure a project and return what CMake complains of."""
    path = ";".join(map(str, prefixes))
    command = ["cmake", "-S", source, "-B", folder, f"-DCMAKE_PREFIX_PATH={path}", *options]
    return " ".join(subprocess.run(command, capture_output=True, text=True, timeout=300).stderr.split())


def build(source: Path, folder: Path, *prefixes: str | Path, options: tuple[str, ...] = ()) -> Path:
    """Build a project, warnings being errors, and return its folder."""
    complaints = configure(
        source, folder, *prefixes, options=("-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror", *options)
    )
    assert complaints == ""
    run("cmake", "--build", folder, "--parallel", str(os.cpu_count()))
    return folder
