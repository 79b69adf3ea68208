"""The C++ core: its unit tests, built without CUDA and with warnings as errors, and its CMake package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import microinfer
from helpers.cmake import ROOT, build, configure, installed_package, needs_cmake, run

pytestmark = needs_cmake
CONSUMER = ROOT / "cpp" / "tests" / "consumer"


@pytest.fixture(scope="session")
def own_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core and its unit tests, as CMake alone builds them."""
    folder = tmp_path_factory.mktemp("core")
    options = [f"-DMICROINFER_{option}" for option in ("PYTHON=OFF", "TESTS=ON", "CUDA=OFF", "WERROR=ON")]
    fast = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0")  # to compile
    site = f"-DCMAKE_PREFIX_PATH={Path(torch.__file__).parents[1]}"  # nlohmann-json may be there
    done = subprocess.run(
        ["cmake", "-S", ROOT, "-B", folder, *fast, *options, site], capture_output=True, text=True
    )
    for library in ("GoogleTest", "nlohmann-json"):
        if f"need {library}" in done.stderr or f"needs {library}" in done.stderr:
            pytest.skip(f"{library} is not installed")
    assert done.returncode == 0, done.stderr
    run("cmake", "--build", folder, "--parallel", str(os.cpu_count()))
    return folder


@pytest.mark.slow
def test_the_core_passes_its_unit_tests(own_build: Path) -> None:
    report = run("ctest", "--test-dir", own_build, "--output-on-failure").stdout
    assert "100% tests passed" in report
    assert "No tests were found" not in report


@pytest.mark.slow
def test_a_program_uses_the_core_that_cmake_installed(own_build: Path, tmp_path: Path) -> None:
    run("cmake", "--install", own_build, "--prefix", tmp_path / "prefix")
    check_consumer(tmp_path / "prefix", tmp_path / "consumer")


def test_a_program_uses_the_core_inside_the_wheel(tmp_path: Path) -> None:
    check_consumer(installed_package(), tmp_path)


def check_consumer(package: Path, folder: Path) -> None:
    """Build a program on an installed core, and run it."""
    program = build(CONSUMER, folder, package) / "consumer"
    assert run(program).stdout == f"{microinfer.__version__} 2 1.250 0.500 1.570796\n"


def test_an_unknown_cuda_setting_is_refused(tmp_path: Path) -> None:
    message = configure(ROOT, tmp_path, options=("-DMICROINFER_CUDA=MAYBE",))
    assert "MICROINFER_CUDA must be AUTO, ON or OFF, got 'MAYBE'" in message


def test_what_the_package_lacks_is_said(tmp_path: Path) -> None:
    example, package = ROOT / "cpp" / "examples" / "torchscript", installed_package()
    assert "torchscript needs libtorch: add it to CMAKE_PREFIX_PATH" in configure(
        example, tmp_path / "libtorch", package
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(probe LANGUAGES CXX)\n"
        "find_package(microinfer REQUIRED COMPONENTS runtime)\n"
    )
    assert "microinfer has the component torchscript, not runtime" in configure(
        tmp_path, tmp_path / "runtime", package
    )


@pytest.mark.skipif(sys.platform != "linux", reason="on Linux alone")
def test_libtorch_beside_a_static_standard_library_is_refused(tmp_path: Path) -> None:
    message = configure(
        ROOT / "cpp" / "examples" / "torchscript",
        tmp_path,
        installed_package(),
        torch.utils.cmake_prefix_path,
        options=("-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++",),
    )
    if "is not able to compile a simple test program" in message:
        pytest.skip("there is no static libstdc++")
    assert "do not link the shared libstdc++" in message
