"""Models: networks, their checkpoints, and the engines that run them.

The package can be called: ``microinfer.models()`` lists the shipped models, as `list_models` says.
"""

import sys
from types import ModuleType

from microinfer.models.checkpoint import Model, load_model, model_path, shipped_models
from microinfer.models.shipped import ShippedModels, list_models

__all__ = ["Model", "ShippedModels", "list_models", "load_model", "model_path", "shipped_models"]


class _Models(ModuleType):
    """The package, whose name is that of a function for users too."""

    def __call__(self) -> ShippedModels:
        """List the shipped models; see `list_models`."""
        return list_models()


sys.modules[__name__].__class__ = _Models
