"""What every network in torch offers: phases, token ranges, a loss to train with and candidates."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from microinfer.crystals.phase import CrystalPhase, phase_names
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens

NO_CRYSTAL = -1
"""Phase label of a pattern without a crystal."""


class Candidates(NamedTuple):
    """Ranked candidate answers, K for each of B patterns, as the network has them: neither refined nor calibrated."""

    matrix: Tensor
    """(B, K, 3, 3) float32, orientations in py4DSTEM's convention."""
    phase: Tensor
    """(B, K) int64, index into the model's phases."""
    probability: Tensor
    """(B, K) float32, that phase and orientation (to 3 degrees) are right; 0 where there are fewer than K."""
    valid: Tensor
    """(B,) bool, False where there is no answer."""


class OrientationNetwork(nn.Module):
    """Base of the networks.

    Parameters
    ----------
    config : ModelConfig
        The network's size.
    phases : tuple of CrystalPhase
        The phases it tells apart.
    spec : TokenSpec
        Ranges of the tokens.
    """

    operators: Tensor

    def __init__(self, config: ModelConfig, phases: tuple[CrystalPhase, ...], spec: TokenSpec) -> None:
        super().__init__()
        self.config, self.phases, self.spec = config, phases, spec
        order = max(len(phase.operators) for phase in phases)
        # Groups of unlike order are filled up with the identity, which changes no minimum.
        operators = torch.eye(3).repeat(len(phases), order, 1, 1)
        for index, phase in enumerate(phases):
            operators[index, : len(phase.operators)] = torch.tensor(phase.operators)
        self.register_buffer("operators", operators, persistent=False)

    def __repr__(self) -> str:
        """Say in a line what torch says on a page of layers."""
        parameters = sum(values.numel() for values in self.parameters())
        return (
            f"{type(self).__name__}({phase_names(self.phases)}, {parameters:,} parameters, on {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.operators.device

    def load_weights(self, weights: dict[str, NDArray[Any]]) -> None:
        """Take over the weights of a `Model`."""
        self.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in weights.items()})

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

    def decode(self, output: Any) -> Candidates:
        """Ranked answers from an output of `forward`, in float32."""
        raise NotImplementedError

    def candidates(self, tokens: Tokens) -> Candidates:
        """Ranked answers for tokenized patterns, as `microinfer.tokenize` makes them with this network's ``spec``."""
        return self.decode(self(tokens))


def build_network(
    config: ModelConfig,
    phases: tuple[CrystalPhase, ...],
    spec: TokenSpec,
    cells: Mapping[str, NDArray[Any]] | None = None,
) -> OrientationNetwork:
    """Make an untrained network of the kind that the configuration names; `cells` as of `PosteriorNetwork`."""
    from microinfer.models.posterior import PosteriorNetwork
    from microinfer.models.reference import ReferenceNetwork

    if config.kind == "reference":
        return ReferenceNetwork(config, phases, spec)
    return PosteriorNetwork(config, phases, spec, cells)
