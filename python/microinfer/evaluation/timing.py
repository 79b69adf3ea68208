"""How long mapping takes on this machine: synthetic scans, timed runs, and template matching beside them."""

import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import diffracted_beams
from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import random_orientations
from microinfer.mapping import MapReport, map_to_file
from microinfer.models import Model
from microinfer.peaks import PeakWriter, Scan
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation.settings import SimulationConfig

INTENSITY_MIN = 0.1  # of the strongest: leaves about as many disks as Bloch waves give over all thicknesses


@dataclass
class Seconds:
    """Time that a piece of work took, as the shell's ``time`` tells it, threads included."""

    elapsed: float = 0.0
    user: float = 0.0
    system: float = 0.0


@contextmanager
def timed() -> Generator[Seconds, None, None]:
    """Measure the block; the result is filled in when it ends."""
    result = Seconds()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    yield result
    after = resource.getrusage(resource.RUSAGE_SELF)
    result.elapsed = time.perf_counter() - began
    result.user = after.ru_utime - before.ru_utime
    result.system = after.ru_stime - before.ru_stime


@dataclass
class Runs:
    """Repeated runs of one way to map one scan.

    Attributes
    ----------
    positions : int
        Scan positions of the map.
    measured : int
        Scan positions that each run really handled; where they are fewer, times are extrapolated from their rate.
    total : list of Seconds
        One for each run.
    stages : list of dict of str to float
        Seconds in each stage, for each run.
    """

    positions: int
    measured: int
    total: list[Seconds] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)

    @property
    def extrapolated(self) -> bool:
        """Whether the runs handled only a part of the scan."""
        return self.measured < self.positions

    def times(self, name: str) -> NDArray[np.float64]:
        """Seconds of every run for the whole scan: ``"elapsed"``, ``"user"``, ``"system"`` or a stage's."""
        if name in ("elapsed", "user", "system"):
            values = [getattr(total, name) for total in self.total]
        else:
            values = [stages[name] for stages in self.stages]
        return np.array(values) * (self.positions / self.measured)

    def cell(self, name: str) -> str:
        """Mean and sample standard deviation as text, with ``~`` where extrapolated."""
        values = self.times(name)
        spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
        return f"{'~' if self.extrapolated else ''}{values.mean():.3g}{spread}"


def repeat(run: Callable[[], dict[str, float]], positions: int, measured: int, repeats: int) -> Runs:
    """Time a run once for warming up and then `repeats` times; it returns the seconds of its stages."""
    runs = Runs(positions, measured)
    run()
    for _ in range(repeats):
        with timed() as total:
            stages = run()
        runs.total.append(total)
        runs.stages.append(stages)
    return runs


def random_patterns(
    phases: Sequence[CrystalPhase], voltage: float, k_max: float, count: int, rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Draw kinematic patterns of random orientations, the phases in turn.

    Parameters
    ----------
    phases : sequence of CrystalPhase
        With reflections.
    voltage, k_max : float
        In V and 1/Angstrom.
    count : int
        Patterns to draw.
    rng : numpy.random.Generator

    Returns
    -------
    list of ndarray of float32, shape (n, 3)
        qx, qy in 1/Angstrom and intensity, the direct beam first.
    """
    patterns = []
    for index, matrix in enumerate(random_orientations(count, rng)):
        beams = diffracted_beams(
            phases[index % len(phases)], matrix, voltage, k_max=k_max, excitation_sigma=0.04
        )
        disks = np.column_stack([beams.q, beams.intensity])[np.hypot(*beams.q.T) > 1e-6]
        strongest = disks[:, 2].max(initial=0.0)
        direct = np.array([[0.0, 0.0, 10.0 * (strongest or 1.0)]])
        patterns.append(
            np.concatenate([direct, disks[disks[:, 2] >= INTENSITY_MIN * strongest]]).astype(np.float32)
        )
    return patterns


def random_scan(
    patterns: Sequence[NDArray[np.float32]], scan_shape: tuple[int, int], rng: np.random.Generator
) -> Iterator[BraggPeaks]:
    """Draw a scan from patterns, each turned in the detector's plane at random, block by block of its rows."""
    (rows, columns), step = scan_shape, Scan(scan_shape).block_rows
    counts = np.array([len(pattern) for pattern in patterns])
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table = np.concatenate(patterns)
    for start in range(0, rows, step):
        shape = (min(step, rows - start), columns)
        drawn = rng.integers(0, len(patterns), shape[0] * shape[1])
        offsets = np.concatenate([[0], np.cumsum(counts[drawn])])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts[drawn])
        qx, qy, intensity = table[np.repeat(firsts[drawn], counts[drawn]) + within].T
        angle = np.repeat(rng.uniform(0.0, 2.0 * np.pi, len(drawn)).astype(np.float32), counts[drawn])
        cos, sin = np.cos(angle), np.sin(angle)
        yield BraggPeaks(offsets, cos * qx - sin * qy, sin * qx + cos * qy, intensity, shape)


def write_random_scan(
    path: Path,
    patterns: Sequence[NDArray[np.float32]],
    scan_shape: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """Write a scan of `random_scan` to a native file."""
    with PeakWriter(path, scan_shape) as writer:
        for block in random_scan(patterns, scan_shape, rng):
            writer.write_rows(block)


def time_mapping(
    scan: Path, model: Model, positions: int, repeats: int, **options: Any
) -> tuple[Runs, MapReport]:
    """Time `microinfer.mapping.map_to_file` on a file, stages apart, and return the last report too."""
    reports = []
    with tempfile.TemporaryDirectory(prefix="microinfer-") as folder:

        def run() -> dict[str, float]:
            reports.append(
                map_to_file(scan, model, Path(folder) / "map.h5", check=False, overwrite=True, **options)
            )
            return reports[-1].seconds

        return repeat(run, positions, positions, repeats), reports[-1]


def template_matcher(structure: str, voltage: float, k_max: float) -> Callable[[BraggPeaks], int]:
    """Prepare py4DSTEM's template matching (ACOM) with its defaults: 2 degree steps, one match for each pattern.

    Parameters
    ----------
    structure : str
        Built-in name or CIF file.
    voltage, k_max : float
        In V and 1/Angstrom.

    Returns
    -------
    callable
        Matches all positions of a scan and returns how many have a match.

    Raises
    ------
    ImportError
        Where py4DSTEM is not installed.
    """
    from microinfer.crystals.structure import load_structure
    from microinfer.evaluation.template_matching import MatchParameters, TemplateMatcher

    simulation = SimulationConfig(voltage=voltage, k_max=k_max)
    matcher = TemplateMatcher([load_structure(structure)], simulation, MatchParameters())

    def match(peaks: BraggPeaks) -> int:
        phases = [matcher.match(peaks.pattern(*position))[1] for position in np.ndindex(peaks.scan_shape)]
        return sum(phase >= 0 for phase in phases)

    return match


def time_template_matching(
    match: Callable[[BraggPeaks], int], peaks: BraggPeaks, positions: int, repeats: int
) -> Runs:
    """Time a matcher on `peaks`, for a scan of `positions`; its reading is not counted."""

    def run() -> dict[str, float]:
        match(peaks)
        return {}

    return repeat(run, positions, len(peaks), repeats)


def machine() -> str:
    """Name the processor and its usable cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
