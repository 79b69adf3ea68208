"""The posterior model on the CPU, fused: the C++ core's float32 loops in the place of torch's.

`microinfer.models.posterior` stays the reference: training, GPUs and the graphs of exported files use that one.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from microinfer import _core
from microinfer.models import decode, inplane
from microinfer.models.base import Candidates
from microinfer.models.posterior import CANDIDATES, PosteriorModel, as_candidates
from microinfer.tokens import Tokens


class FusedPosterior:
    """A posterior model's `candidates` for patterns of any lengths, in the C++ core.

    Parameters
    ----------
    model : PosteriorModel
        On the CPU; its weights are copied.
    instructions : str, default: "auto"
        One of `_core.instruction_sets()`; the fastest by default.
    """

    def __init__(self, model: PosteriorModel, instructions: str = "auto") -> None:
        self._network = _core.PosteriorNetwork(
            arrays_of(model), **settings_of(model), instructions=instructions
        )

    def candidates(self, tokens: Tokens) -> Candidates:
        """Ranked answers for tokenized patterns, as `PosteriorModel.candidates` gives them but for rounding."""
        found = self._network.find_modes(
            np.ascontiguousarray(tokens.radius.numpy()),
            np.ascontiguousarray(tokens.angle.numpy()),
            np.ascontiguousarray(tokens.intensity.numpy()),
            np.ascontiguousarray(tokens.count.numpy()),
        )
        return as_candidates(decode.Modes(*map(torch.from_numpy, found)), tokens)


def arrays_of(model: PosteriorModel) -> dict[str, NDArray[Any]]:
    """The model's weights and geometry by the names that the core knows."""
    arrays: dict[str, NDArray[Any]] = {
        name: value.detach().float().contiguous().numpy() for name, value in model.state_dict().items()
    }
    return arrays | {
        "cells": model.cells.contiguous().numpy(),
        "operators": model.operators.contiguous().numpy(),
        "cell_phase": model.cell_phase.contiguous().numpy(),
        "harmonics": model.get_buffer("blocks.0.attention.harmonics").long().numpy(),
    }


def settings_of(model: PosteriorModel) -> dict[str, Any]:
    """What of the model is not in its arrays, by the names that the core knows."""
    return {
        "heads": model.config.heads,
        "orders": list(inplane.ORDERS),
        "top_cells": decode.TOP_CELLS,
        "negligible": decode.NEGLIGIBLE,
        "angles": inplane.ANGLES,
        "peaks": inplane.PEAKS,
        "window": inplane.WINDOW,
        "modes": CANDIDATES,
        "mode_radius": decode.MODE_RADIUS,
        "confidence_radius": decode.CONFIDENCE_RADIUS,
        "confidence_edge": decode.CONFIDENCE_EDGE,
    }
