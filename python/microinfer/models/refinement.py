"""Kinematic refinement: candidate orientations are polished against the measured disks and ranked again.

The positions of the disks and the excitation errors of their reflections decide, not the intensities, which mean
little in thick crystals. The loops are the C++ core's (``cpp/include/microinfer/refinement.hpp``).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microinfer import _core
from microinfer.crystals.diffraction import electron_wavelength
from microinfer.crystals.phase import CrystalPhase
from microinfer.models import Candidates
from microinfer.ops.tokens import Tokens

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True)
class RefinementSettings:
    """What a refinement assumes.

    Attributes
    ----------
    match_radius : float
        A disk may belong to a reflection this near, in 1/Angstrom.
    position_error : float
        Smallest error of disk positions that is believed, in 1/Angstrom; the error itself is estimated from
        each pattern.
    excitation_error, excitation_slope : float
        Standard deviation of the excitation error of the strongest disk, and by how much it is larger for
        each factor e that a disk is weaker, in 1/Angstrom.
    tilt_error, in_plane_error : float
        Standard deviations of the starting tilt and in-plane angle, in degrees.
    false_share : float
        Probability that a disk belongs to no reflection.
    steps : int
        Most Gauss-Newton steps.
    least_probability : float
        Candidates less probable than this, the first one apart, are left as they are.
    evidence : float
        Weight of the disks' log-likelihood beside the model's log-probability; below 1, since the errors of
        disks of one pattern are not independent.
    margin : float
        By how much, in nats, another candidate must be better to take the first one's place.
    """

    match_radius: float = 0.04
    position_error: float = 3e-4
    excitation_error: float = 0.02
    excitation_slope: float = 0.014
    tilt_error: float = 0.8
    in_plane_error: float = 2.0
    false_share: float = 0.05
    steps: int = 6
    least_probability: float = 1e-4
    evidence: float = 0.3
    margin: float = 0.5


class Polished(NamedTuple):
    """Candidates after polishing, in the order in which they came."""

    matrix: NDArray[np.float64]
    """(B, K, 3, 3), orientations in py4DSTEM's convention."""
    log_likelihood: NDArray[np.float64]
    """(B, K), of the disks, in nats; comparable among one pattern's candidates."""
    score: NDArray[np.float64]
    """(B, K), correlation of measured and predicted amplitudes, in [0, 1]."""


class Refinement:
    """Refines the candidates of one model.

    Parameters
    ----------
    phases : sequence of CrystalPhase
        The model's phases, with their reflections.
    voltage : float
        Accelerating voltage in V.
    settings : RefinementSettings, optional
        What to assume.

    Raises
    ------
    ValueError
        If a phase has no reflections.
    """

    def __init__(
        self,
        phases: tuple[CrystalPhase, ...],
        voltage: float,
        settings: RefinementSettings = RefinementSettings(),
    ) -> None:
        for phase in phases:
            if not len(phase.reflections):
                raise ValueError(f"phase {phase.name!r} has no reflections to refine with")
        self._vectors = np.concatenate(
            [
                np.column_stack([phase.reflections[:, :3] @ phase.reciprocal, phase.reflections[:, 3]])
                for phase in phases
            ]
        )
        self._offsets = np.cumsum([0, *(len(phase.reflections) for phase in phases)])
        self._settings = settings
        self._spec = _core.RefinementSpec(
            wavelength=electron_wavelength(voltage),
            match_radius=settings.match_radius,
            position_error=settings.position_error,
            excitation_error=settings.excitation_error,
            excitation_slope=settings.excitation_slope,
            tilt_error=math.radians(settings.tilt_error),
            in_plane_error=math.radians(settings.in_plane_error),
            false_share=settings.false_share,
            steps=settings.steps,
        )

    def __call__(self, tokens: Tokens, candidates: Candidates) -> tuple[Candidates, Tensor]:
        """Polish candidates and rank them again.

        Parameters
        ----------
        tokens : Tokens
            The patterns.
        candidates : Candidates
            Of a model.

        Returns
        -------
        candidates : Candidates
            Polished; the most probable first. The sum of a pattern's probabilities is kept.
        score : Tensor of float32, shape (B, K)
            Correlation of measured and predicted amplitudes, in [0, 1], in the sense of py4DSTEM's template
            matching; NaN for candidates that were left as they are.
        """
        # In NumPy: torch would wake threads of its own, which then spin beside the core's.
        prior = candidates.probability.cpu().numpy().astype(np.float64)
        selected = prior >= self._settings.least_probability
        selected[:, 0] = True
        matrix, evidence, score = self.polish(tokens, candidates, torch.from_numpy(selected))
        weight = np.log(prior.clip(1e-6)) + self._settings.evidence * evidence
        weight[~selected] = -np.inf
        share = np.exp(weight - weight.max(-1, keepdims=True))
        shared = (prior * selected).sum(-1, keepdims=True) / share.sum(-1, keepdims=True)
        probability = np.where(selected, share * shared, prior)
        weight[:, 0] += self._settings.margin
        # behind the first, by probability
        key = -probability
        np.put_along_axis(key, weight.argmax(-1)[:, None], -np.inf, 1)
        order = key.argsort(-1, kind="stable")
        refined = Candidates(
            torch.from_numpy(np.take_along_axis(matrix, order[..., None, None], 1).astype(np.float32)),
            torch.from_numpy(np.take_along_axis(candidates.phase.cpu().numpy(), order, 1)),
            torch.from_numpy(np.take_along_axis(probability, order, 1).astype(np.float32)),
            candidates.valid.cpu(),
        )
        return refined, torch.from_numpy(np.take_along_axis(score, order, 1).astype(np.float32))

    def polish(self, tokens: Tokens, candidates: Candidates, selected: Tensor | None = None) -> Polished:
        """Polish candidates and leave their ranking as it is.

        Parameters
        ----------
        tokens : Tokens
            The patterns.
        candidates : Candidates
            Their ``matrix`` and ``phase`` are where polishing starts; probabilities are not looked at.
        selected : Tensor of bool, shape (B, K), optional
            The candidates to polish; all by default. The others keep their matrix and have NaN beside it.

        Returns
        -------
        Polished
        """
        matrix, log_likelihood, _, score, _ = _core.refine(
            _contiguous(tokens.radius, np.float32),
            _contiguous(tokens.angle, np.float32),
            _contiguous(tokens.intensity, np.float32),
            _contiguous(tokens.count, np.int32),
            _contiguous(candidates.matrix, np.float64),
            _contiguous(candidates.phase, np.int64),
            _contiguous(torch.ones_like(candidates.phase) if selected is None else selected, np.bool_),
            self._vectors,
            self._offsets,
            self._spec,
        )
        return Polished(matrix, log_likelihood, score)


def _contiguous(values: Tensor, dtype: type[_Number]) -> NDArray[_Number]:
    return np.ascontiguousarray(values.cpu().numpy(), dtype)
