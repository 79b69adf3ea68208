"""py4DSTEM's template matching (ACOM) as a method to compare with, and the tuning of its parameters."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.structure import Structure
from microinfer.evaluation.answers import Answers, LabelledSet, labelled_set
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.progress import ProgressBar
from microinfer.simulation import simulate_test_sets
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.simulate import CUBIC

TUNING_SEED = 2_026_112_500

_CUBIC_RANGE = np.array([[0, 1, 1], [1, 1, 1]])


@dataclass(frozen=True)
class MatchParameters:
    """Parameters of py4DSTEM's orientation plan; the defaults are py4DSTEM's.

    Attributes
    ----------
    corr_kernel_size : float
        In 1/Angstrom.
    power_radial : float
        Power of the radius.
    power_intensity : float
        Power of the simulated and of the measured intensities.
    angle_step : float
        Steps of zone axis and in-plane angle in degrees.
    """

    corr_kernel_size: float = 0.08
    power_radial: float = 1.0
    power_intensity: float = 0.25
    angle_step: float = 2.0

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in vars(self).items())


GRID: dict[str, tuple[float, ...]] = {
    "corr_kernel_size": (0.04, 0.12),
    "power_radial": (0.0, 2.0),
    "power_intensity": (0.125, 0.5),
    "angle_step": (1.0,),
}
"""What tuning tries beside the defaults, one parameter after the other."""


class TemplateMatcher:
    """Template matching with one orientation plan for each phase.

    The best of the direct and the mirrored matches counts, and the phase whose best match correlates most. Zone
    axes fill the standard triangle for crystals of the Laue class m-3m and the hemisphere for all others.

    Parameters
    ----------
    structures : sequence of Structure
        The crystals, in the order of the model's phases.
    simulation : SimulationConfig
        Its voltage and k_max.
    parameters : MatchParameters
        Of the plans.
    """

    def __init__(
        self, structures: Sequence[Structure], simulation: SimulationConfig, parameters: MatchParameters
    ) -> None:
        self._crystals = [self._plan(structure, simulation, parameters) for structure in structures]

    @staticmethod
    def _plan(structure: Structure, simulation: SimulationConfig, parameters: MatchParameters) -> Any:
        crystal = structure.to_py4dstem()
        crystal.calculate_structure_factors(simulation.k_max)
        crystal.orientation_plan(
            zone_axis_range=_CUBIC_RANGE if _is_cubic(structure) else "full",
            angle_step_zone_axis=parameters.angle_step,
            angle_step_in_plane=parameters.angle_step,
            accel_voltage=simulation.voltage,
            corr_kernel_size=parameters.corr_kernel_size,
            power_radial=parameters.power_radial,
            power_intensity=parameters.power_intensity,
            power_intensity_experiment=parameters.power_intensity,
            progress_bar=False,
        )
        return crystal

    def __call__(self, method: str, test: LabelledSet, *, progress: bool = False) -> Answers:
        """Match every pattern; the time is that of matching alone, without the plans."""
        count = len(test.phase)
        matrix = np.full((count, 3, 3), np.nan)
        phase = np.full(count, -1)
        began = time.perf_counter()
        with ProgressBar("template matching", count, visible=progress) as bar:
            for row in range(count):
                matrix[row], phase[row] = self.match(test.peaks.pattern(row, 0))
                bar.advance(1)
        return Answers(method, test, matrix, phase, None, time.perf_counter() - began)

    def match(self, disks: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
        """Match one pattern, (n, 3): orientation and index of the phase, NaN and -1 without a match."""
        from emdfile import PointList

        best = np.full((3, 3), np.nan), -1
        if not len(disks):
            return best
        table = np.array(
            [*map(tuple, disks.astype(np.float64))], [(name, float) for name in ("qx", "qy", "intensity")]
        )
        highest = 0.0
        for index, crystal in enumerate(self._crystals):
            with np.errstate(divide="ignore", invalid="ignore"):
                found = crystal.match_single_pattern(PointList(table), inversion_symmetry=True)
            # an all-zero matrix stands for too few peaks, and has a correlation of 0
            if found.corr[0] > highest and np.isfinite(found.matrix[0]).all():
                highest, best = float(found.corr[0]), (found.matrix[0], index)
        return best


def tune(
    structures: Sequence[Structure],
    simulation: SimulationConfig,
    test: LabelledSet,
    *,
    progress: bool = False,
) -> MatchParameters:
    """Choose the parameters with the smallest mean error, one after the other, beginning with the defaults.

    Parameters
    ----------
    structures : sequence of Structure
        The crystals, in the order of the model's phases.
    simulation : SimulationConfig
        Its voltage and k_max.
    test : LabelledSet
        Patterns to tune on, other ones than those to report.
    progress : bool
        Show progress bars.

    Returns
    -------
    MatchParameters
    """
    best = MatchParameters()
    lowest = TemplateMatcher(structures, simulation, best)("", test, progress=progress).error.mean()
    for name, values in GRID.items():
        if name == "angle_step" and not all(map(_is_cubic, structures)):
            continue  # a hemisphere in such steps takes tens of gigabytes
        start = best
        for value in values:
            tried = replace(start, **{name: value})
            error = TemplateMatcher(structures, simulation, tried)("", test, progress=progress).error.mean()
            if error < lowest:
                lowest, best = error, tried
    return best


def tuning_set(
    phases: tuple[PhaseConfig, ...],
    simulation: SimulationConfig,
    count: int,
    known: tuple[CrystalPhase, ...],
) -> LabelledSet:
    """Simulate patterns to tune on: half of them clean, half noisy, of other orientations than any test set.

    Parameters
    ----------
    phases : tuple of PhaseConfig
        The crystals.
    simulation : SimulationConfig
        How to simulate.
    count : int
        Patterns in all.
    known : tuple of CrystalPhase
        The model's phases.
    """
    sets = simulate_test_sets(phases, simulation, count, seed=TUNING_SEED)
    clean, noisy = (labelled_set("tuning", library, known) for library in sets)
    half = count // 2
    patterns = [(clean if row < half else noisy).peaks.pattern(row, 0) for row in range(count)]
    return clean._replace(peaks=BraggPeaks.from_patterns(patterns, (count, 1)))


def _is_cubic(structure: Structure) -> bool:
    return len(structure.operators()) == CUBIC
