"""One evaluation: every method and analysis on every test set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.structure import Structure
from microinfer.evaluation.agreement import zone_axis_deviation
from microinfer.evaluation.ambiguity import count_alternatives
from microinfer.evaluation.answers import (
    Answers,
    LabelledSet,
    ensemble_answers,
    model_answers,
    untrained,
)
from microinfer.evaluation.correlation import kinematic_disks, random_at_distance, sparse_correlation
from microinfer.evaluation.template_matching import MatchParameters, TemplateMatcher
from microinfer.models import Model
from microinfer.simulation.settings import SimulationConfig

HIGH_LOSS = 0.6
"""Radians above which an answer's loss is high (paper, Fig. S4)."""
HIGH_LOSS_ANSWERS = 500
_SEED = 4


class Matching(NamedTuple):
    """Template matching to compare with."""

    structures: Sequence[Structure]
    """In the order of the model's phases."""
    simulation: SimulationConfig
    parameters: dict[str, MatchParameters]
    """By the name of their row."""
    patterns: int
    """How many of each test set to match: the first ones."""


class HighLoss(NamedTuple):
    """Sparse correlations with the label's pattern, over that of the label's pattern with itself."""

    answers: NDArray[np.float64]
    """(n,) of the model's answers with a high loss."""
    random: NDArray[np.float64]
    """(n,) of random orientations with the same losses."""
    total: int
    """Answers with a high loss, looked at or not."""


@dataclass(eq=False)
class SetEvaluation:
    """What was found on one test set."""

    test: LabelledSet
    default: Answers
    """With refinement, as maps are made."""
    plain: Answers
    """Without."""
    untrained: Answers
    alternatives: NDArray[np.int64]
    """(n,) equally good orientations beside the true one, for the first n patterns; -1 for too few disks."""
    high_loss: HighLoss
    matched: list[Answers] = field(default_factory=list)
    """Template matching, on the first patterns."""
    members: list[Answers] = field(default_factory=list)
    """Of an ensemble."""
    ensemble: Answers | None = None
    """Of three members or more."""
    deviation: NDArray[np.float64] | None = None
    """(M, N) angle of each member's zone axis to their mean in radians, NaN where phases differ."""


@dataclass(eq=False)
class Evaluation:
    """What was found about one model."""

    name: str
    card: dict[str, Any]
    phases: tuple[str, ...]
    tests: list[SetEvaluation]
    matching: Matching | None


def evaluate(
    model: Model,
    tests: Sequence[LabelledSet],
    *,
    name: str,
    device: str = "auto",
    matching: Matching | None = None,
    ensemble: Sequence[Model] = (),
    ambiguity_patterns: int = 500,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a model.

    Parameters
    ----------
    model : Model
        The model.
    tests : sequence of LabelledSet
        Test sets, see `labelled_set`.
    name : str
        The model's name in the report.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    matching : Matching, optional
        Template matching to compare with.
    ensemble : sequence of Model
        Independently trained models of the same phases, which form an ensemble together with `model`.
    ambiguity_patterns : int
        First patterns of each test set for which equally good orientations are counted.
    progress : bool
        Show progress bars.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If a model of the ensemble knows other phases.
    """
    wanted = [(phase.name, phase.lattice) for phase in model.phases]
    for index, member in enumerate(ensemble, start=1):
        known = [(phase.name, phase.lattice) for phase in member.phases]
        if known != wanted:
            raise ValueError(f"model {index} of the ensemble knows the phases {known}, not {wanted}")
    found = [
        _evaluate_on(test, model, name, device, ensemble, ambiguity_patterns, progress) for test in tests
    ]
    if matching is not None:
        for row, parameters in matching.parameters.items():
            matcher = TemplateMatcher(matching.structures, matching.simulation, parameters)
            for result in found:
                few = result.test.first(matching.patterns)
                result.matched.append(matcher(row, few, progress=progress))
    return Evaluation(name, model.card, tuple(phase.name for phase in model.phases), found, matching)


def _evaluate_on(
    test: LabelledSet,
    model: Model,
    name: str,
    device: str,
    ensemble: Sequence[Model],
    ambiguity_patterns: int,
    progress: bool,
) -> SetEvaluation:
    default = model_answers(name, model, test, refine="kinematic", device=device)
    plain = model_answers(f"{name}, without refinement", model, test, refine=None, device=device)
    baseline = model_answers("untrained", untrained(model), test, refine=None, device=device)
    voltage = model.voltage
    if voltage is None:
        raise ValueError(f"the model {name!r} does not state its voltage")
    sample = test.first(ambiguity_patterns)
    result = SetEvaluation(
        test,
        default,
        plain,
        baseline,
        count_alternatives(
            sample.peaks,
            model.spec,
            sample.orientation,
            sample.phase,
            model.phases,
            voltage,
            progress=progress,
        ),
        high_loss(default, voltage, model.k_max),
    )
    if ensemble:
        result.members = [
            default,
            *(
                model_answers(f"member {index}", member, test, refine="kinematic", device=device)
                for index, member in enumerate(ensemble, start=2)
            ),
        ]
        if len(result.members) > 2:  # of two, neither is more central
            result.ensemble = ensemble_answers(result.members)
        result.deviation = spread(result.members)
    return result


def high_loss(answers: Answers, voltage: float, k_max: float) -> HighLoss:
    """Correlate the patterns of answers with a high loss with those of the labels (paper, Fig. S4).

    Parameters
    ----------
    answers : Answers
        A model's answers.
    voltage : float
        In V.
    k_max : float
        Largest scattering vector of the kinematic patterns in 1/Angstrom.

    Returns
    -------
    HighLoss
        Of at most `HIGH_LOSS_ANSWERS` answers, the first ones.
    """
    rng = np.random.default_rng(_SEED)
    rows = np.flatnonzero(answers.answered & (np.radians(answers.error) > HIGH_LOSS))
    found = []
    for row in rows[:HIGH_LOSS_ANSWERS]:
        phase = answers.test.phases[answers.test.phase[row]]
        label = answers.test.orientation[row]
        drawn = random_at_distance(label, float(np.radians(answers.error[row])), phase.operators, rng)
        if drawn is None:
            continue
        truth = kinematic_disks(phase, label, voltage, k_max)
        own = sparse_correlation(truth, truth)
        if own > 0.0:
            found.append(
                [
                    sparse_correlation(kinematic_disks(phase, other, voltage, k_max), truth) / own
                    for other in (answers.matrix[row], drawn)
                ]
            )
    pairs = np.array(found).reshape(-1, 2)
    return HighLoss(pairs[:, 0], pairs[:, 1], len(rows))


def spread(members: Sequence[Answers]) -> NDArray[np.float64]:
    """Angle of each member's zone axis to the mean of all, (M, N) in radians; NaN where their phases differ."""
    phase = np.stack([member.phase for member in members])
    axes = np.stack([np.asarray(member.matrix[..., 2], np.float64) for member in members])
    axes[:, (phase != phase[0]).any(axis=0)] = np.nan
    result = np.full(phase.shape, np.nan)
    for index, crystal in enumerate(members[0].test.phases):
        rows = (phase == index).all(axis=0)
        result[:, rows] = zone_axis_deviation(axes[:, rows], crystal.operators)
    return result
