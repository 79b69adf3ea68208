"""Models: networks, their checkpoints, and the engines that run them."""

from microinfer.models.checkpoint import Model, load_model, model_path, shipped_models

__all__ = ["Model", "load_model", "model_path", "shipped_models"]
