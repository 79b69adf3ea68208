"""TorchScript: a model as one file of torch's own operators, from Bragg peaks to answers."""

import io
import json
import warnings
from os import PathLike
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from microinfer.files import atomic_output, require_distinct
from microinfer.models.checkpoint import Model, load_model, model_path
from microinfer.models.graph_tokens import pad_ragged, tokenize_padded
from microinfer.models.network import OrientationNetwork

RECORD = "microinfer.json"
"""Name of the extra file that holds the model's header."""
CERTAIN = 1e-6
"""Probabilities nearer to 0 or 1 than this have the log-odds of this one."""


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


class AnswerGraph(nn.Module):
    """A network with tokenization before it and the calibrated answer behind it.

    Parameters
    ----------
    network : OrientationNetwork
        On its device, in evaluation mode.
    calibration : tuple of float
        Of the `Model`.
    """

    def __init__(self, network: OrientationNetwork, calibration: tuple[float, float, float]) -> None:
        super().__init__()
        self.network, self.calibration = network, calibration

    def forward(self, peaks: Tensor, count: Tensor) -> Answers:
        """Answer for padded patterns, as `tokenize_padded` takes them."""
        # an empty pattern behind the others: none or one are then no case of their own
        peaks, count = functional.pad(peaks, (0, 0, 0, 0, 0, 1)), functional.pad(count, (0, 1))
        tokens = tokenize_padded(peaks, count, self.network.spec)
        found = self.network.candidates(tokens)
        valid = (found.valid & tokens.valid)[:-1]
        matrix, phase, probability = (part[:-1, 0] for part in found[:3])
        return Answers(
            torch.where(valid[:, None, None], matrix, torch.nan),
            torch.where(valid, phase, -1),
            torch.where(valid, self._calibrated(probability), 0.0),
            valid,
        )

    def ragged(self, values: Tensor, offsets: Tensor) -> Answers:
        """Answer for ragged patterns, as `pad_ragged` takes them."""
        return self.forward(*pad_ragged(values, offsets))

    def _calibrated(self, probability: Tensor) -> Tensor:
        """Probabilities as a validation set corrected them; 0 stays 0."""
        a, b, c = self.calibration
        bounded = probability.double().clamp(CERTAIN, 1.0 - CERTAIN)
        odds = a * bounded.log() - b * (1.0 - bounded).log() + c
        return torch.where(probability > 0.0, torch.sigmoid(odds).float(), 0.0)


def export_model(
    model: Model | str | PathLike[str], path: str | PathLike[str], *, device: str = "cpu"
) -> None:
    """Write a model as a TorchScript file that turns Bragg peaks into orientations without this package.

    Tokenization, network, decoding and calibration are inside, in float32 and in torch's own operators. Refinement is
    not: the answers are those of ``map_orientations(..., refine=None)``. The file offers two methods; the numbers of
    patterns and of peaks are free, and may be 0:

    - ``forward(peaks, count)``: padded peaks (B, N, 3) float32, that is qx and qy in 1/Angstrom and intensity,
      and how many peaks each pattern has, (B,) int64;
    - ``ragged(values, offsets)``: peaks (P, 3) float32, pattern i being ``values[offsets[i]:offsets[i + 1]]``.

    Both return matrix (B, 3, 3) float32, phase (B,) int64, confidence (B,) float32 and valid (B,) bool. The extra file
    ``microinfer.json`` holds the checkpoint's header: phases, ranges, card.

    Parameters
    ----------
    model : Model, str or path
        A model, a shipped model's name, or a checkpoint's path.
    path : str or path
        The file to write.
    device : str, default: "cpu"
        Where the graph is traced, ``"cpu"`` or ``"cuda"``; it runs on either. On a GPU call it within
        ``torch.jit.optimized_execution(False)``, or TorchScript compiles it first.

    Raises
    ------
    ValueError
        For a device that is not there, a model whose card holds NaN or infinity, and where the file would replace
        the model.
    OSError
        If the file cannot be written.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': torch finds no CUDA GPU here")
    if not isinstance(model, Model):
        require_distinct({"the graph": path}, {"the model": model_path(model)})
        model = load_model(str(model))
    graph = AnswerGraph(model.network(device).requires_grad_(False), model.calibration)
    angle = torch.arange(15, device=device)
    values = torch.stack(
        [angle.cos(), angle.sin(), 1.0 / (1.0 + angle)], -1
    )  # three patterns of unlike length
    examples = {
        "forward": (values.view(3, 5, 3), torch.tensor([5, 4, 3], device=device)),
        "ragged": (values, torch.tensor([0, 4, 9, 15], device=device)),
    }
    with atomic_output(path) as temporary, torch.no_grad(), warnings.catch_warnings():
        # torch calls TorchScript deprecated; and the sizes that it warns of are those of the model's own tables
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace_module(graph, examples, check_trace=False)  # type: ignore[no-untyped-call]
        # into memory first: torch ends the process where it writes to a full disk itself
        content = io.BytesIO()
        torch.jit.save(traced, content, _extra_files={RECORD: json.dumps(json.loads(model.header))})
        temporary.write_bytes(content.getvalue())
