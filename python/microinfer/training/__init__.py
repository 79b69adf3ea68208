"""Training of models from a pattern library."""

from microinfer.training.estimate import Estimate, estimate
from microinfer.training.trainer import train

__all__ = ["Estimate", "estimate", "train"]
