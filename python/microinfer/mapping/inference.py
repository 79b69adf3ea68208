"""Inference on a block of scan positions: the model, then the refinement of its candidates.

On a CPU models run in the C++ core, which takes patterns of any lengths together. Elsewhere the patterns of a block are
sorted by their number of disks, so that a batch needs little padding. Either way an answer depends neither on the other
patterns nor on their order, but for rounding.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microinfer.maps.orientation_map import ALTERNATIVES, blank_arrays
from microinfer.models import Candidates, OrientationModel
from microinfer.models.device import product_dtype
from microinfer.models.fused import FusedModel, fused_model
from microinfer.models.refinement import Refinement
from microinfer.models.rounding import RoundedProducts
from microinfer.ops.tokens import Tokens

BATCH_ON_CPU, BATCH_ON_GPU = 1024, 4096


class Inference:
    """Answers blocks of tokenized patterns.

    Parameters
    ----------
    model : OrientationModel
        On its device, in evaluation mode.
    refine : str or None
        ``"kinematic"`` or None.
    batch_size : int or None
        Largest number of patterns that the model sees at once; None is `BATCH_ON_CPU` or `BATCH_ON_GPU`.
    dtype : str
        What the model's matrix products multiply: ``"auto"``, ``"float32"`` or ``"bfloat16"``, see
        `microinfer.models.device.product_dtype`.

    Raises
    ------
    ValueError
        For another kind of refinement or dtype, and where the model does not state what it needs.
    """

    def __init__(
        self, model: OrientationModel, refine: str | None, batch_size: int | None, dtype: str = "auto"
    ) -> None:
        self.model = model
        self.refinement = _refinement(model, refine)
        self.device = model.operators.device
        if batch_size is None:
            batch_size = BATCH_ON_CPU if self.device.type == "cpu" else BATCH_ON_GPU
        self.batch_size = batch_size
        self.dtype = product_dtype([self.device], dtype)
        self.products = nullcontext() if self.dtype == torch.float32 else RoundedProducts()
        self.fused: FusedModel | None = None
        if self.device.type == "cpu":
            self.fused = fused_model(model, self.dtype)

    def __call__(
        self, tokens: Tokens, selected: NDArray[np.bool_], advance: Callable[[int], None]
    ) -> dict[str, Any]:
        """Answer the selected patterns.

        Parameters
        ----------
        tokens : Tokens
            Of all positions of the block.
        selected : ndarray of bool, shape (rows, Ry)
            Positions to answer.
        advance : callable
            Told how many positions are done.

        Returns
        -------
        dict of str to ndarray
            The arrays of a map, blank where there is no answer.
        """
        run = tokens.valid.numpy() & selected.ravel()
        count = tokens.count.numpy()
        advance(int(selected.sum() - run.sum()))
        tokens = _to_device(tokens, self.device)
        arrays = blank_arrays((selected.size,))
        for batch in self._batches(np.flatnonzero(run), count):
            good, answers = self._answer(_pick(tokens, batch, int(count[batch].max())))
            for name, values in answers.items():
                arrays[name][batch[good]] = values
            advance(len(batch))
        shape = selected.shape
        return {name: values.reshape(*shape, *values.shape[1:]) for name, values in arrays.items()}

    def _batches(self, patterns: NDArray[np.int64], count: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
        """Patterns that the model sees at once: of similar length, but for a fused model."""
        if self.fused is None:
            patterns = patterns[np.argsort(count[patterns], kind="stable")]
        for first in range(0, len(patterns), self.batch_size):
            yield patterns[first : first + self.batch_size]

    def _answer(self, tokens: Tokens) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Which patterns of a batch have an answer, and the arrays of a map for those."""
        if self.fused is not None:
            candidates = self.fused.candidates(tokens)
        else:
            with torch.inference_mode():
                with self.products:
                    output = self.model(tokens)
                candidates = self.model.decode(output, tokens)
        good = np.flatnonzero(candidates.valid.cpu().numpy())
        if len(good) < len(tokens.count):
            tokens = Tokens(*(_rows(values, good) for values in tokens))
            candidates = Candidates(*(_rows(values, good) for values in candidates))
        score = None
        if self.refinement is not None:
            candidates, score = self.refinement(tokens, candidates)
        return good, _arrays(self.model, candidates, score)


def _arrays(model: OrientationModel, candidates: Candidates, score: Tensor | None) -> dict[str, Any]:
    """The arrays of a map for answers."""
    probability = candidates.probability.cpu()
    confidence = model.calibrated(probability[:, 0])
    # what the best answer leaves is shared out as the model has it
    rest = (1.0 - confidence) / (1.0 - probability[:, 0]).clamp(min=1e-6)
    others = slice(1, 1 + ALTERNATIVES)
    arrays: dict[str, Any] = {
        "valid": np.ones(len(confidence), np.bool_),
        "matrix": candidates.matrix[:, 0].cpu().numpy(),
        "phase": candidates.phase[:, 0].cpu().numpy(),
        "confidence": confidence.numpy(),
    }
    if score is not None:
        arrays["score"] = score[:, 0].numpy()
    if candidates.matrix.shape[1] > ALTERNATIVES:
        exists = probability[:, others] > 0.0
        matrix, phase = candidates.matrix[:, others].cpu(), candidates.phase[:, others].cpu()
        arrays["alternative_matrix"] = matrix.where(exists[..., None, None], torch.nan).numpy()
        arrays["alternative_phase"] = phase.where(exists, -1).numpy()
        arrays["alternative_probability"] = (probability[:, others] * rest[:, None]).clamp(0.0, 1.0).numpy()
    return arrays


def _refinement(model: OrientationModel, refine: str | None) -> Refinement | None:
    if refine is None:
        return None
    if refine != "kinematic":
        raise ValueError(f"refine must be 'kinematic' or None, got {refine!r}")
    if "voltage" not in model.card:
        raise ValueError("refine='kinematic' needs the voltage, which the model's card does not give")
    return Refinement(model.phases, float(model.card["voltage"]))


def _to_device(tokens: Tokens, device: torch.device) -> Tokens:
    if device.type == "cpu":
        return tokens
    return Tokens(*(values.pin_memory().to(device, non_blocking=True) for values in tokens))


def _pick(tokens: Tokens, batch: NDArray[np.int64], length: int) -> Tokens:
    """Some patterns, without the padding that none of them needs."""
    return Tokens(*(_rows(values[:, :length] if values.ndim == 2 else values, batch) for values in tokens))


def _rows(values: Tensor, index: NDArray[np.int64]) -> Tensor:
    if values.device.type == "cpu":  # in NumPy, since torch's threads would spin beside the core's
        return torch.from_numpy(values.numpy()[index])
    return values[torch.from_numpy(index).to(values.device)]
