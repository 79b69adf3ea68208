"""Inference on a block of scan positions, on one device.

On a CPU the C++ core goes the whole way from Bragg peaks to ranked answers. Elsewhere torch runs the network, on
patterns that are sorted by their number of disks so that a batch needs little padding, and the core refines and ranks.
Either way an answer depends neither on the other patterns nor on their order, but for rounding.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.maps.arrays import CANDIDATE_FIELDS, blank_arrays
from microinfer.models.checkpoint import Model
from microinfer.peaks.bragg_peaks import BraggPeaks

if TYPE_CHECKING:
    from microinfer.ops.tokens import Tokens

BATCH_ON_CPU, BATCH_ON_GPU = 1024, 4096


class Answered(NamedTuple):
    """The answers for a block of scan positions."""

    arrays: dict[str, Any]
    """The arrays of a map, for N positions."""
    disks: NDArray[np.int32]
    """Disks that were looked at, (N,)."""


class Inference:
    """Answers blocks of Bragg peaks.

    Parameters
    ----------
    model : Model
        The model.
    device : str
        ``"cpu"``, or a GPU's name in torch.
    refine : str or None
        ``"kinematic"`` or None.
    min_disks : int
        Positions with fewer disks have no answer.
    batch_size : int or None
        Patterns that are answered at a time; None is `BATCH_ON_CPU` or `BATCH_ON_GPU`.
    bfloat16 : bool
        Whether the core multiplies bfloat16 numbers.

    Raises
    ------
    ValueError
        For another kind of refinement, and where the model does not state what it needs.
    """

    def __init__(
        self,
        model: Model,
        device: str = "cpu",
        refine: str | None = "kinematic",
        min_disks: int = 1,
        batch_size: int | None = None,
        bfloat16: bool = False,
    ) -> None:
        if refine not in ("kinematic", None):
            raise ValueError(f"refine must be 'kinematic' or None, got {refine!r}")
        self.model, self.device, self.refine, self.min_disks = model, device, refine is not None, min_disks
        self.core = model.core(bfloat16=bfloat16)
        if self.refine and not self.core.can_refine:
            raise ValueError(
                f"refine='kinematic' needs a voltage and reflections, which the model {model.name!r} does not state"
            )
        self.batch_size = batch_size or (BATCH_ON_CPU if device == "cpu" else BATCH_ON_GPU)
        if device != "cpu":
            self.network = model.network(device)

    def __call__(
        self,
        peaks: BraggPeaks,
        selected: NDArray[np.bool_] | None = None,
        advance: Callable[[int], None] = lambda done: None,
    ) -> Answered:
        """Answer the selected patterns.

        Parameters
        ----------
        peaks : BraggPeaks
            Of N scan positions.
        selected : ndarray of bool, shape (N,), optional
            Positions to answer, all by default.
        advance : callable, optional
            Told how many of them are done.
        """
        answered = Answered(blank_arrays((len(peaks),), self.core.candidates), np.zeros(len(peaks), np.int32))
        wanted = np.ones(len(peaks), np.bool_) if selected is None else selected
        (self._in_core if self.device == "cpu" else self._in_torch)(peaks, wanted, advance, answered)
        return answered

    def _in_core(
        self,
        peaks: BraggPeaks,
        selected: NDArray[np.bool_],
        advance: Callable[[int], None],
        answered: Answered,
    ) -> None:
        for start in range(0, len(peaks), self.batch_size):
            rows = slice(start, start + self.batch_size)
            offsets = peaks.offsets[start : start + self.batch_size + 1]
            inside = slice(offsets[0], offsets[-1])
            candidates, valid, disks = self.core.answer(
                *(peaks.qx[inside], peaks.qy[inside], peaks.intensity[inside], offsets - offsets[0]),
                selected=selected[rows],
                min_disks=self.min_disks,
                refine=self.refine,
            )
            for name in CANDIDATE_FIELDS:
                answered.arrays[name][rows] = candidates[name]
            answered.arrays["valid"][rows] = valid
            answered.disks[rows] = disks
            advance(int(selected[rows].sum()))

    def _in_torch(
        self,
        peaks: BraggPeaks,
        selected: NDArray[np.bool_],
        advance: Callable[[int], None],
        answered: Answered,
    ) -> None:
        import torch

        from microinfer.ops.tokens import tokenize

        tokens = tokenize(peaks, replace(self.model.spec, min_disks=self.min_disks))
        count = tokens.count.numpy()
        answered.disks[:] = count
        run = np.flatnonzero(tokens.valid.numpy() & selected)
        advance(int(selected.sum()) - len(run))
        run = run[np.argsort(count[run], kind="stable")]
        for start in range(0, len(run), self.batch_size):
            batch = run[start : start + self.batch_size]
            part = _rows(tokens, batch, int(count[batch].max()))
            with torch.inference_mode():
                found = self.network.candidates(type(part)(*(values.to(self.device) for values in part)))
            matrix, phase, probability, valid = (values.cpu().numpy() for values in found)
            good = np.flatnonzero(valid)
            radius, angle, intensity = (values.numpy()[good] for values in part[:3])
            candidates = self.core.rank(
                *(radius, angle, intensity, part.count.numpy()[good]),
                *(matrix[good], phase[good], probability[good]),
                refine=self.refine,
            )
            for name in CANDIDATE_FIELDS:
                answered.arrays[name][batch[good]] = candidates[name]
            answered.arrays["valid"][batch[good]] = True
            advance(len(batch))


def _rows(tokens: "Tokens", index: NDArray[np.int64], length: int) -> "Tokens":
    """Some patterns, without the padding that none of them needs."""
    return type(tokens)(*(values[index, :length] if values.ndim == 2 else values[index] for values in tokens))
