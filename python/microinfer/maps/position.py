"""One scan position of a map: its answer and the alternatives, as ``omap[i, j]`` gives them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import ZoneAxis, nearest_zone_axis
from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import misorientation


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """An orientation of a phase that a pattern may have.

    Attributes
    ----------
    phase : CrystalPhase
    matrix : ndarray of float32, shape (3, 3)
        ``v_crystal = matrix @ v_lab``.
    confidence : float
        Probability that phase and orientation (to 3 degrees) are right.
    score : float
        Correlation of the measured disks with the predicted ones, in [0, 1]; NaN where it was not refined.
    """

    phase: CrystalPhase
    matrix: NDArray[np.float32]
    confidence: float
    score: float

    @property
    def zone_axis(self) -> ZoneAxis:
        """Lattice direction of small indices along the beam; see `nearest_zone_axis`."""
        return nearest_zone_axis(self.phase, self.matrix)

    def __repr__(self) -> str:
        axis = self.zone_axis
        indices = " ".join(map(str, axis.indices))
        score = "" if np.isnan(self.score) else f", score {self.score:.2f}"
        near = f"near [{indices}] ({axis.deviation:.1f}° off)"
        return f"{self.phase.name} {near}, confidence {self.confidence:.2f}{score}"


@dataclass(frozen=True, eq=False, repr=False)
class Position:
    """What a map says of one scan position.

    Attributes
    ----------
    index : tuple of int
        Row Rx and column Ry.
    answers : tuple of Answer
        The best first; empty where the position has no answer.
    """

    index: tuple[int, int]
    answers: tuple[Answer, ...]

    @property
    def valid(self) -> bool:
        """Whether there is an answer."""
        return bool(self.answers)

    @property
    def phase(self) -> CrystalPhase | None:
        """Of the answer; None where there is none."""
        return self.answers[0].phase if self.answers else None

    @property
    def matrix(self) -> NDArray[np.float32]:
        """Of the answer, (3, 3); NaN where there is none."""
        return self.answers[0].matrix if self.answers else np.full((3, 3), np.nan, np.float32)

    @property
    def confidence(self) -> float:
        """Of the answer; 0 where there is none."""
        return self.answers[0].confidence if self.answers else 0.0

    @property
    def score(self) -> float:
        """Of the answer; NaN where there is none."""
        return self.answers[0].score if self.answers else float("nan")

    @property
    def alternatives(self) -> tuple[Answer, ...]:
        """The answers after the best one."""
        return self.answers[1:]

    def __repr__(self) -> str:
        if not self.answers:
            return f"Position {self.index}: no answer"
        best, *others = self.answers
        lines = [f"Position {self.index}: {best}", *(f"  or {other}{_away(other, best)}" for other in others)]
        return "\n".join(lines)


def _away(answer: Answer, best: Answer) -> str:
    """How far an answer is from another one of its phase, in words."""
    if answer.phase is not best.phase:
        return ""
    angle = misorientation(answer.matrix[None], best.matrix[None], best.phase.operators)
    return f", {np.degrees(angle[0]):.1f}° from the first"
