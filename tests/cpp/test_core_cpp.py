"""The C++ core: its unit tests, built without CUDA and with warnings as errors, and its package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import microinfer

ROOT = Path(__file__).parents[2]

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def has_googletest(folder: Path) -> bool:
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(probe LANGUAGES CXX)\n"
        "find_package(Threads REQUIRED)\nfind_package(GTest REQUIRED)\n"
    )
    command = ["cmake", "-S", folder, "-B", folder / "build"]
    return subprocess.run(command, capture_output=True, timeout=120).returncode == 0


@needs_cmake
def test_the_core_passes_its_unit_tests(tmp_path: Path) -> None:
    (tmp_path / "probe").mkdir()
    if not has_googletest(tmp_path / "probe"):
        pytest.skip("GoogleTest is not installed (Debian and Ubuntu: apt-get install libgtest-dev)")
    options = ("PYTHON=OFF", "TESTS=ON", "CUDA=OFF", "WERROR=ON")
    fast = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0")  # to compile
    run("cmake", "-S", ROOT, "-B", tmp_path, *fast, *(f"-DMICROINFER_{option}" for option in options))
    run("cmake", "--build", tmp_path, "--parallel", str(os.cpu_count()))
    report = run("ctest", "--test-dir", tmp_path, "--output-on-failure")
    assert "100% tests passed" in report
    assert "No tests were found" not in report


@needs_cmake
def test_an_unknown_cuda_setting_is_refused(tmp_path: Path) -> None:
    command = ["cmake", "-S", ROOT, "-B", tmp_path, "-DMICROINFER_CUDA=MAYBE"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "MICROINFER_CUDA must be AUTO, ON or OFF, got 'MAYBE'" in done.stderr


def configure_example(build: Path, torch_package: Path, *options: str) -> str:
    """Configure the example of the runtime and return what CMake complains of."""
    package = run(sys.executable, "-m", "microinfer", "--cmake-dir").strip()
    example, prefixes = ROOT / "cpp" / "examples" / "acquisition", f"{package};{torch_package.parent}"
    command = ["cmake", "-S", example, "-B", build, f"-DCMAKE_PREFIX_PATH={prefixes}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


@pytest.fixture
def torch_package(tmp_path: Path) -> Path:
    """The CMake package of a torch like the one here; to be filled with a TorchConfig.cmake."""
    here = Path(torch.utils.cmake_prefix_path).parents[1]
    package = tmp_path / "torch" / "share" / "cmake" / "Torch"
    package.mkdir(parents=True)
    for folder in ("include", "lib"):
        (tmp_path / "torch" / folder).symlink_to(here / folder)
    return package


@needs_cmake
def test_the_runtime_needs_no_cuda_toolkit(torch_package: Path, tmp_path: Path) -> None:
    needs_toolkit = "Your installed Caffe2 version uses CUDA but I cannot find the CUDA libraries"
    (torch_package / "TorchConfig.cmake").write_text(f'message(FATAL_ERROR "{needs_toolkit}")')
    assert configure_example(tmp_path / "build", torch_package) == ""


@needs_cmake
def test_a_torch_that_cannot_be_linked_is_refused(torch_package: Path, tmp_path: Path) -> None:
    message = configure_example(tmp_path / "none", torch_package)
    assert "microinfer's runtime needs libtorch" in message
    old = 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")'
    (torch_package / "TorchConfig.cmake").write_text(old)
    message = " ".join(configure_example(tmp_path / "old", torch_package).split())
    assert f"{torch_package.parents[2]} is built for the old C++ ABI" in message


@needs_cmake
@pytest.mark.skipif(sys.platform != "linux", reason="on Linux alone")
def test_a_static_standard_library_is_refused(tmp_path: Path) -> None:
    package = Path(torch.utils.cmake_prefix_path) / "Torch"
    message = configure_example(tmp_path, package, "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++")
    if "is not able to compile a simple test program" in message:
        pytest.skip("there is no static libstdc++")
    assert "do not link the shared libstdc++" in " ".join(message.split())


@needs_cmake
def test_components_of_the_package(tmp_path: Path) -> None:
    package = run(sys.executable, "-m", "microinfer", "--cmake-dir").strip()
    for component, complaint in (("core", ""), ("runtim", "the components core and runtime, not runtim")):
        folder = tmp_path / component
        folder.mkdir()
        (folder / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.24)\nproject(probe LANGUAGES CXX)\n"
            f"find_package(microinfer REQUIRED COMPONENTS {component})\n"
        )
        command = ["cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={package}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) == (complaint == "")
        assert complaint in " ".join(done.stderr.split())


def test_the_installed_package_has_the_version_of_the_core() -> None:
    from microinfer import _core

    header = Path(_core.__file__).parent / "include" / "microinfer" / "version.hpp"
    assert f'#define MICROINFER_VERSION "{microinfer.__version__}"' in header.read_text()


def check_consumer(package: str | Path, build: Path) -> None:
    """Build a program on an installed core, and run it."""
    strict = "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"
    run(
        "cmake",
        "-S",
        ROOT / "cpp" / "tests" / "consumer",
        "-B",
        build,
        strict,
        f"-DCMAKE_PREFIX_PATH={package}",
    )
    run("cmake", "--build", build, "--parallel", str(os.cpu_count()))
    assert run(build / "consumer") == f"{microinfer.__version__} 2 1.250 0.500 1.570796\n"


@needs_cmake
def test_a_program_uses_the_core_inside_the_wheel(tmp_path: Path) -> None:
    check_consumer(run(sys.executable, "-m", "microinfer", "--cmake-dir").strip(), tmp_path)


@pytest.mark.slow
@needs_cmake
def test_a_program_uses_the_core_that_cmake_installed(tmp_path: Path) -> None:
    options = ("-DMICROINFER_PYTHON=OFF", "-DMICROINFER_CUDA=OFF", "-DCMAKE_CXX_FLAGS_RELEASE=-O0")
    run("cmake", "-S", ROOT, "-B", tmp_path / "build", *options)
    run("cmake", "--build", tmp_path / "build", "--parallel", str(os.cpu_count()))
    run("cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "prefix")
    check_consumer(tmp_path / "prefix", tmp_path / "consumer")
