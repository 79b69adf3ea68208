"""Labelled patterns, the answers of models to them, and their scores: one function scores every method."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.errors import (
    RIGHT,
    answered,
    axis_misalignment,
    density_mode,
    orientation_errors,
)
from microinfer.crystals.phase import CrystalPhase
from microinfer.evaluation.agreement import central_answers
from microinfer.mapping import map_orientations
from microinfer.models import Model
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation import PatternLibrary, pattern_hash

WITHIN = (1, 2, 3, 5)
"""Degrees for which the share of answers is reported."""
_WARM_UP = 64


class LabelledSet(NamedTuple):
    """A test set, its phases numbered as the model numbers them."""

    name: str
    peaks: BraggPeaks
    """Scan shape (N, 1)."""
    orientation: NDArray[np.float32]
    """(N, 3, 3), the labels."""
    phase: NDArray[np.int64]
    """(N,), the labels, as indices into `phases`."""
    thickness: NDArray[np.float32]
    """(N,), in Angstrom."""
    phases: tuple[CrystalPhase, ...]
    """The model's."""
    hash: str
    """Of disk positions and orientations."""

    def first(self, count: int) -> "LabelledSet":
        """Return the first patterns; all, where there are fewer."""
        count = min(count, len(self.phase))
        return self._replace(
            peaks=self.peaks.read_rows(0, count),
            orientation=self.orientation[:count],
            phase=self.phase[:count],
            thickness=self.thickness[:count],
        )


def labelled_set(name: str, library: PatternLibrary, phases: tuple[CrystalPhase, ...]) -> LabelledSet:
    """Take a pattern library as a test set for a model.

    Parameters
    ----------
    name : str
        Name in reports.
    library : PatternLibrary
        Patterns and labels.
    phases : tuple of CrystalPhase
        The model's phases.

    Returns
    -------
    LabelledSet

    Raises
    ------
    ValueError
        If the library holds no patterns, or those of a phase that the model does not know.
    """
    if not len(library):
        raise ValueError(f"test set {name!r} holds no patterns")
    known = {phase.name: index for index, phase in enumerate(phases)}
    unknown = sorted({phase.name for phase in library.phases} - set(known))
    if unknown:
        raise ValueError(
            f"test set {name!r} holds patterns of {', '.join(unknown)}; the model knows {', '.join(known)}"
        )
    numbers = np.array([known[phase.name] for phase in library.phases])
    return LabelledSet(
        name,
        library.peaks,
        library.orientation,
        numbers[library.phase],
        library.thickness,
        phases,
        pattern_hash(library),
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """What one method says to the patterns of a test set, and how good that is.

    Attributes
    ----------
    method : str
        Name of the method.
    test : LabelledSet
        The patterns that were answered.
    matrix : ndarray, shape (N, 3, 3)
        Orientations, NaN where there is no answer.
    phase : ndarray of int, shape (N,)
        Indices into the model's phases, -1 where there is no answer.
    confidence : ndarray or None, shape (N,)
        None where the method gives none.
    seconds : float
        Time that the answers took.
    """

    method: str
    test: LabelledSet
    matrix: NDArray[np.floating[Any]]
    phase: NDArray[np.integer[Any]]
    confidence: NDArray[np.float32] | None
    seconds: float

    def first(self, count: int) -> "Answers":
        """Return the answers to the first patterns, at the same rate."""
        test = self.test.first(count)
        count = len(test.phase)
        return Answers(
            self.method,
            test,
            self.matrix[:count],
            self.phase[:count],
            None if self.confidence is None else self.confidence[:count],
            self.seconds * count / len(self.phase),
        )

    @cached_property
    def error(self) -> NDArray[np.float64]:
        """Misorientation in degrees, (N,); no answer or the wrong phase counts as 45."""
        test = self.test
        return orientation_errors(self.matrix, self.phase, test.orientation, test.phase, test.phases)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right, (N,)."""
        return self.error < RIGHT

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Which patterns have an answer of the right phase, (N,)."""
        return answered(self.matrix, self.phase, self.test.phase)

    @cached_property
    def misalignment(self) -> NDArray[np.float64]:
        """Misalignment of the symmetry-reduced axes x, y, z in radians, (n, 3), of the `answered` patterns."""
        parts = []
        for index, phase in enumerate(self.test.phases):
            rows = self.answered & (self.test.phase == index)
            parts.append(axis_misalignment(self.matrix[rows], self.test.orientation[rows], phase.operators))
        return np.concatenate(parts)

    def scores(self) -> dict[str, Any]:
        """Return the main figures as JSON-able values; errors in degrees, misalignments in radians."""
        count = len(self.error)
        figures = {
            "patterns": count,
            "mean_error_deg": _rounded(self.error.mean()),
            "median_error_deg": _rounded(np.median(self.error)),
            "mode_error_deg": _rounded(density_mode(self.error)),
            **{f"within_{limit}_deg": _rounded(np.mean(self.error < limit)) for limit in WITHIN},
            "axis_misalignment_rad": [_rounded(value) for value in self.misalignment.mean(axis=0)]
            if self.answered.any()
            else None,
            "patterns_per_second": float(f"{count / self.seconds:.3g}"),
        }
        if len(self.test.phases) > 1:
            share = float(np.mean(self.phase == self.test.phase))
            figures["phase_accuracy"] = _rounded(share)
            figures["phase_accuracy_error"] = _rounded(np.sqrt(share * (1.0 - share) / count))  # paper, eq. 5
        return figures


def model_answers(
    method: str, model: Model, test: LabelledSet, *, refine: str | None, device: str
) -> Answers:
    """Map a test set as a scan; the time is that of mapping it from memory, once warm."""
    map_orientations(test.first(_WARM_UP).peaks, model, device=device, refine=refine, check=False)
    began = time.perf_counter()
    omap = map_orientations(test.peaks, model, device=device, refine=refine, check=False)
    seconds = time.perf_counter() - began
    confidence = None if model.config.kind == "reference" else omap.confidence[:, 0]
    return Answers(method, test, omap.matrix[:, 0], omap.phase[:, 0], confidence, seconds)


def untrained(model: Model, seed: int = 0) -> Model:
    """Return a model of the same architecture with random weights: the paper's baseline."""
    import torch

    from microinfer.models.network import build_network

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Model.of(build_network(model.config, model.phases, model.spec), model.card)


def ensemble_answers(members: list[Answers]) -> Answers:
    """For each pattern the member's answer that lies nearest to those of all others; the time is that of all."""
    first = members[0]
    best = central_answers(
        [member.matrix for member in members], [member.phase for member in members], first.test.phases
    )
    rows = np.arange(len(best))
    return Answers(
        f"ensemble of {len(members)}",
        first.test,
        np.stack([member.matrix for member in members])[best, rows],
        np.stack([member.phase for member in members])[best, rows],
        None,
        sum(member.seconds for member in members),
    )


def _rounded(value: Any) -> float:
    return round(float(value), 4)
