"""Training of models from a pattern library."""

from microinfer.training.trainer import train

__all__ = ["train"]
