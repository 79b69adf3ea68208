"""What an exported file computes: from Bragg peaks in 1/Angstrom to orientation, phase, confidence and validity."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from microinfer.export.tokenizer import pad_ragged, tokenize_padded
from microinfer.models import OrientationModel
from microinfer.models.rounding import RoundedProducts
from microinfer.ops.tokens import Tokens


class Answers(NamedTuple):
    """The answers for B patterns, blank where invalid as in an `OrientationMap`."""

    matrix: Tensor
    """(B, 3, 3) float32, ``v_crystal = matrix @ v_lab``; NaN where invalid."""
    phase: Tensor
    """(B,) int64, index into the model's phases; -1 where invalid."""
    confidence: Tensor
    """(B,) float32, the probability that phase and orientation (to 3 degrees) are right; 0 where invalid."""
    valid: Tensor
    """(B,) bool."""


class Program(nn.Module):
    """A model with tokenization before it and the choice of an answer behind it, in torch's own operators.

    Parameters
    ----------
    model : OrientationModel
        On its device, in evaluation mode. It becomes part of the program, and in bfloat16 its weights are
        rounded, for which it runs once: within `portable_operators`, as for export.
    dtype : torch.dtype
        float32, or bfloat16 for the matrix products of the network.
    """

    def __init__(self, model: OrientationModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        if dtype != torch.float32:
            nothing = torch.zeros(0, 2, 3, device=model.operators.device)
            with RoundedProducts() as products:  # meets the weights
                model(self._tokens(nothing, nothing[:, 0, 0].long()))
            products.keep()
            model.forward = _rounding(model.forward)

    def forward(self, peaks: Tensor, count: Tensor) -> Answers:
        """Answer for padded patterns, as `tokenize_padded` takes them."""
        matrix, phase, confidence, valid = self._in_front(self.model.predict(self._tokens(peaks, count)))
        return Answers(
            torch.where(valid[:, None, None], matrix, torch.nan),
            torch.where(valid, phase, -1),
            torch.where(valid, confidence, 0.0),
            valid,
        )

    def ragged(self, values: Tensor, offsets: Tensor) -> Answers:
        """Answer for ragged patterns, as `pad_ragged` takes them."""
        return self.forward(*pad_ragged(values, offsets))

    def candidates(self, peaks: Tensor, count: Tensor) -> tuple[Tensor, ...]:
        """Ranked candidates (`microinfer.models.Candidates`) for padded patterns, for whoever refines them."""
        return self._in_front(self.model.candidates(self._tokens(peaks, count)))

    def _tokens(self, peaks: Tensor, count: Tensor) -> Tokens:
        """The patterns' tokens, and behind them those of an empty one: none or one are then no case of their own."""
        peaks, count = functional.pad(peaks, (0, 0, 0, 0, 0, 1)), functional.pad(count, (0, 1))
        return tokenize_padded(peaks, count, self.model.spec)

    @staticmethod
    def _in_front(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Leave the empty pattern out."""
        return tuple(part[:-1] for part in parts)


def _rounding(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A network whose products multiply bfloat16 as they do where Python maps."""

    def in_context(*inputs: Any) -> Any:
        with RoundedProducts():
            return forward(*inputs)

    return in_context
