"""What every model offers: phases, token ranges, a loss to train with and predictions."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from microinfer.crystals.phase import CrystalPhase
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens

NO_CRYSTAL = -1
"""Phase label of a pattern without a crystal."""
CERTAIN = 1e-6
"""Probabilities nearer to 0 or 1 than this have the log-odds of this one."""


class Candidates(NamedTuple):
    """Ranked candidate answers, K for each of B patterns."""

    matrix: Tensor
    """(B, K, 3, 3) float32, orientations in py4DSTEM's convention."""
    phase: Tensor
    """(B, K) int64, index into the model's phases."""
    probability: Tensor
    """(B, K) float32, that phase and orientation (to 3 degrees) are right; 0 where there are fewer than K."""
    valid: Tensor
    """(B,) bool, False where there is no answer."""


class Prediction(NamedTuple):
    """The answers for B patterns."""

    matrix: Tensor
    """(B, 3, 3) float32, orientation in py4DSTEM's convention."""
    phase: Tensor
    """(B,) int64, index into the model's phases."""
    confidence: Tensor
    """(B,) float32, the probability that phase and orientation (to 3 degrees) are right."""
    valid: Tensor
    """(B,) bool, False where there is no answer."""


class OrientationModel(nn.Module):
    """Base of the models.

    Parameters
    ----------
    config : ModelConfig
        The network's size.
    phases : tuple of CrystalPhase
        The phases it tells apart.
    spec : TokenSpec
        Ranges of the tokens.
    card : dict, optional
        JSON-able facts about the model: name, voltage, k_max, recipe, figures.

    Attributes
    ----------
    calibration : tuple of float
        Slope and offset that take a probability's log-odds to those of being right; see `calibrated`.
    """

    operators: Tensor

    def __init__(
        self,
        config: ModelConfig,
        phases: tuple[CrystalPhase, ...],
        spec: TokenSpec,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.phases = phases
        self.spec = spec
        self.card = dict(card or {})
        self.calibration = (1.0, 0.0)
        order = max(len(phase.operators) for phase in phases)
        # Groups of unlike order are filled up with the identity, which changes no minimum.
        operators = torch.eye(3).repeat(len(phases), order, 1, 1)
        for index, phase in enumerate(phases):
            operators[index, : len(phase.operators)] = torch.tensor(phase.operators)
        self.register_buffer("operators", operators, persistent=False)

    def loss(self, output: Any, orientation: Tensor, phase: Tensor) -> Tensor:
        """Mean training loss of an output of `forward`.

        Parameters
        ----------
        output
            What `forward` returned.
        orientation : Tensor, shape (B, 3, 3)
            Labels.
        phase : Tensor, shape (B,)
            Labels, `NO_CRYSTAL` for patterns of false disks alone.
        """
        raise NotImplementedError

    def decode(self, output: Any, tokens: Tokens) -> Candidates:
        """Ranked answers from an output of `forward`, in float32.

        Parameters
        ----------
        output
            What `forward` returned.
        tokens : Tokens
            What it was given.

        Returns
        -------
        Candidates
        """
        raise NotImplementedError

    def candidates(self, tokens: Tokens) -> Candidates:
        """Ranked answers for tokenized patterns.

        Parameters
        ----------
        tokens : Tokens
            As `microinfer.tokenize` makes them with this model's ``spec``.

        Returns
        -------
        Candidates
        """
        return self.decode(self(tokens), tokens)

    def predict(self, tokens: Tokens) -> Prediction:
        """Answer for tokenized patterns: the first of the `candidates`.

        Parameters
        ----------
        tokens : Tokens
            As `microinfer.tokenize` makes them with this model's ``spec``.

        Returns
        -------
        Prediction
        """
        matrix, phase, probability, valid = self.candidates(tokens)
        return Prediction(matrix[:, 0], phase[:, 0], self.calibrated(probability[:, 0]), valid)

    def calibrated(self, probability: Tensor) -> Tensor:
        """Confidence of answers: their probabilities as a validation set corrected them.

        Parameters
        ----------
        probability : Tensor
            Of the first candidates, refined or not.

        Returns
        -------
        Tensor
            Of the same shape; 0 stays 0.
        """
        slope, offset = self.calibration
        confidence = torch.sigmoid(slope * log_odds(probability) + offset).to(probability.dtype)
        return confidence.where(probability > 0.0, 0.0)


def log_odds(probability: Tensor) -> Tensor:
    """Log-odds of probabilities, of the same shape, in float64 and bounded by those of `CERTAIN`."""
    bounded = probability.double().clamp(CERTAIN, 1.0 - CERTAIN)
    return (bounded / (1.0 - bounded)).log()  # torch's logit wakes its threads for a handful of numbers
