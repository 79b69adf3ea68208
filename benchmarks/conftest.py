"""What the benchmarks share: one scan, its file as py4DSTEM writes it, and the ratios at the end of a run.

    pytest benchmarks -o python_files='bench_*.py' -o addopts='' --benchmark-only

A benchmark's group holds microinfer's way and its peer's. Each states in ``extra_info`` who is measured
(``side``: "microinfer" or the peer's name) and how many patterns one round handles (``patterns``); the
ratio is that of the median times for each pattern, measured in this run.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from microinfer import _core
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import random_orientations
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation import PatternSimulator
from microinfer.simulation.settings import SimulationConfig

SEED = 8_128
SCAN_SHAPE = (128, 128)
PIXEL_SIZE = 0.02  # 1/Angstrom
CENTRE = 128.0  # detector pixels


@pytest.fixture
def one_thread():
    """Both sides on one thread."""
    core, plain = _core.num_threads(), torch.get_num_threads()
    _core.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    _core.set_num_threads(core)
    torch.set_num_threads(plain)


@pytest.fixture(scope="session")
def scan() -> BraggPeaks:
    """Kinematic patterns of Cu with their direct beam: 256 random zone axes, turned in-plane at random.

    The intensity cut leaves 13 peaks on average, as many as Bloch waves give over all thicknesses.
    """
    rng = np.random.default_rng(SEED)
    simulator = PatternSimulator(
        load_structure("Cu"), SimulationConfig(method="kinematic", intensity_min=0.1)
    )
    thickness = np.array([200.0])
    drawn = [simulator.patterns(matrix, thickness)[0] for matrix in random_orientations(256, rng)]
    patterns = []
    for index in range(np.prod(SCAN_SHAPE)):
        disks = drawn[index % len(drawn)].copy()
        angle = rng.uniform(0.0, 2.0 * np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        disks[:, :2] = disks[:, :2] @ turn
        direct = [[0.0, 0.0, 10.0 * disks[:, 2].max(initial=1.0)]]
        patterns.append(np.concatenate([direct, disks]).astype(np.float32))
    return BraggPeaks.from_patterns(patterns, SCAN_SHAPE)


@pytest.fixture(scope="session")
def scan_file(scan: BraggPeaks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scan as py4DSTEM writes it: detector pixels, centre per position, pixel size."""
    import py4DSTEM

    rng = np.random.default_rng(SEED + 1)
    centre = CENTRE + rng.uniform(-1.0, 1.0, (2, *SCAN_SHAPE))
    vectors = py4DSTEM.BraggVectors(SCAN_SHAPE, (256, 256))
    for index in range(len(scan)):
        position = divmod(index, SCAN_SHAPE[1])
        disks = scan.pattern(*position)
        points = np.zeros(len(disks), [(name, float) for name in ("qx", "qy", "intensity")])
        points["qx"] = disks[:, 0] / PIXEL_SIZE + centre[0][position]
        points["qy"] = disks[:, 1] / PIXEL_SIZE + centre[1][position]
        points["intensity"] = disks[:, 2]
        vectors._v_uncal[position].add(points)
    vectors.calibration.set_origin((centre[0], centre[1]))
    vectors.calibration.set_Q_pixel_size(PIXEL_SIZE)
    vectors.calibration.set_Q_pixel_units("A^-1")
    vectors.setcal()
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    py4DSTEM.save(str(path), vectors, mode="o")
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    groups = defaultdict(dict)
    for result in config._benchmarksession.benchmarks:
        if not result.has_error:
            patterns = result.extra_info["patterns"]
            groups[result.group][result.extra_info["side"]] = result.stats.median / patterns
    if not groups:
        return
    terminalreporter.section("microinfer against its peers, medians of this run")
    for group, seconds in groups.items():
        ours = seconds.pop("microinfer", None)
        for side, peer in seconds.items():
            line = f"{group:16s} {side:14s} {1 / peer:12,.0f} patterns/s"
            if ours is not None:
                line += f"   microinfer {1 / ours:12,.0f} patterns/s   ratio {peer / ours:8.1f}"
            terminalreporter.write_line(line)
