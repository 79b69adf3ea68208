"""The size of a network."""

from dataclasses import dataclass

from microinfer.ranges import POSITIVE, SPACING, at_least, one_of, require


@dataclass(frozen=True)
class ModelConfig:
    """The network's size.

    Attributes
    ----------
    kind : str
        ``"posterior"`` or ``"reference"``.
    width, blocks, heads : int
        Of the transformer encoder.
    zone_axis_spacing : float
        Distance of neighbouring cells in degrees (posterior).
    channels : int
        Complex channels of each in-plane order (posterior).
    label_sigma : float
        Width of the soft labels in degrees (posterior).
    """

    kind: str = "posterior"
    width: int = 128
    blocks: int = 3
    heads: int = 8
    zone_axis_spacing: float = 1.8
    channels: int = 64
    label_sigma: float = 1.5

    def __post_init__(self) -> None:
        require(self, "model", one_of("posterior", "reference"), "kind")
        require(self, "model", at_least(1), "width", "blocks", "heads", "channels")
        require(self, "model", SPACING, "zone_axis_spacing")
        require(self, "model", POSITIVE, "label_sigma")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"model.width ({self.width}) must be a multiple of twice the heads ({self.heads})"
            )
