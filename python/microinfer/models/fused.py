"""The models on the CPU, fused: the C++ core's loops in the place of torch's.

`microinfer.models.posterior` and `microinfer.models.reference` stay the reference: training, GPUs and the graphs of
exported files use those.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microinfer import _core
from microinfer.models import decode, inplane
from microinfer.models.base import Candidates, OrientationModel
from microinfer.models.posterior import CANDIDATES, PosteriorModel, as_candidates
from microinfer.models.reference import ReferenceModel
from microinfer.ops.tokens import Tokens


class FusedModel(Protocol):
    """A model in the C++ core."""

    def candidates(self, tokens: Tokens) -> Candidates:
        """Ranked answers for tokenized patterns of any lengths, as the model's `candidates` but for rounding."""


def fused_model(model: OrientationModel, dtype: torch.dtype) -> FusedModel | None:
    """Return the fused form of a model on the CPU, None for a kind that has none.

    Parameters
    ----------
    model : OrientationModel
        On the CPU; its weights are copied.
    dtype : torch.dtype
        What its linear maps multiply: float32, or bfloat16 where the CPU has instructions for it.
    """
    if isinstance(model, PosteriorModel):
        return FusedPosterior(model, dtype)
    return FusedReference(model, dtype) if isinstance(model, ReferenceModel) else None


class FusedPosterior:
    """A posterior model in the C++ core.

    Parameters
    ----------
    model, dtype
        As in `fused_model`.
    instructions : str, default: "auto"
        One of `_core.instruction_sets()`; the fastest by default.
    """

    def __init__(
        self, model: PosteriorModel, dtype: torch.dtype = torch.float32, instructions: str = "auto"
    ) -> None:
        arrays, settings = core_form(model)
        self._network = _core.PosteriorNetwork(
            arrays, **settings, bfloat16=dtype == torch.bfloat16, instructions=instructions
        )

    def candidates(self, tokens: Tokens) -> Candidates:
        """Ranked answers for tokenized patterns, see `FusedModel`."""
        modes, _ = self._find_modes(tokens)
        return as_candidates(decode.Modes(*map(torch.from_numpy, modes)), tokens)

    def seconds(self, tokens: Tokens) -> tuple[float, float]:
        """Time that the network and the decoding of its output take for some patterns, summed over threads."""
        _, seconds = self._find_modes(tokens)
        return seconds

    def _find_modes(self, tokens: Tokens) -> tuple[tuple[NDArray[Any], ...], tuple[float, float]]:
        arrays = map(_contiguous, (tokens.radius, tokens.angle, tokens.intensity, tokens.count))
        return self._network.find_modes(*arrays)


class FusedReference:
    """A reference model in the C++ core; the parameters are those of `FusedPosterior`."""

    def __init__(
        self, model: ReferenceModel, dtype: torch.dtype = torch.float32, instructions: str = "auto"
    ) -> None:
        arrays, settings = core_form(model)
        self._network = _core.ReferenceNetwork(
            arrays, **settings, bfloat16=dtype == torch.bfloat16, instructions=instructions
        )

    def candidates(self, tokens: Tokens) -> Candidates:
        """The one answer for each tokenized pattern, see `FusedModel`."""
        arrays = map(_contiguous, (tokens.radius_bin, tokens.angle_bin, tokens.intensity_bin, tokens.count))
        matrix, phase, determined = map(torch.from_numpy, self._network.answer(*arrays))
        return Candidates(
            matrix[:, None], phase[:, None], torch.zeros(len(phase), 1), tokens.valid & determined
        )


class CoreForm(NamedTuple):
    """A model as the C++ core takes it."""

    arrays: dict[str, NDArray[Any]]
    """Its weights and geometry, by the names that the core knows."""
    settings: dict[str, Any]
    """What is not in its arrays, by the names that the core knows."""


def core_form(model: PosteriorModel | ReferenceModel) -> CoreForm:
    """Return a model on the CPU as the C++ core takes it."""
    return _posterior_form(model) if isinstance(model, PosteriorModel) else _reference_form(model)


def _posterior_form(model: PosteriorModel) -> CoreForm:
    geometry = {
        "cells": _contiguous(model.cells),
        "operators": _contiguous(model.operators),
        "cell_phase": _contiguous(model.cell_phase),
        "harmonics": model.get_buffer("blocks.0.attention.harmonics").long().numpy(),
    }
    settings = {
        "heads": model.config.heads,
        "orders": list(inplane.ORDERS),
        "top_cells": decode.TOP_CELLS,
        "cells_edge": decode.CELLS_EDGE,
        "negligible": decode.NEGLIGIBLE,
        "angles": inplane.ANGLES,
        "peaks": inplane.PEAKS,
        "window": inplane.WINDOW,
        "modes": CANDIDATES,
        "mode_radius": decode.MODE_RADIUS,
        "leading": decode.LEADING,
        "confidence_radius": decode.CONFIDENCE_RADIUS,
        "confidence_edge": decode.CONFIDENCE_EDGE,
    }
    return CoreForm(_state(model) | geometry, settings)


def _reference_form(model: ReferenceModel) -> CoreForm:
    with torch.no_grad():
        tables = {
            "radius_table": _contiguous(model.radius_table),
            "angle_table": _contiguous(model.angle_table()),
            "intensity_table": _contiguous(model.intensity_table),
        }
    state = {name: array for name, array in _state(model).items() if "angle_embedding" not in name}
    return CoreForm(state | tables, {"heads": model.config.heads})


def _state(model: OrientationModel) -> dict[str, NDArray[Any]]:
    return {name: _contiguous(value.detach().float()) for name, value in model.state_dict().items()}


def _contiguous(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = np.ascontiguousarray(tensor.numpy())
    return array
