"""Training of models from a pattern library."""

from microinfer.training.duration import Estimate, estimate
from microinfer.training.start import train

__all__ = ["Estimate", "estimate", "train"]
