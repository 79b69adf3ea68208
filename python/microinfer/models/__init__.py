"""Models that turn the tokens of a diffraction pattern into orientation, phase and confidence."""

from microinfer.models.base import Candidates, OrientationModel, Prediction
from microinfer.models.checkpoint import build_model, load_model, model_path, save_model, shipped_models
from microinfer.models.posterior import PosteriorModel
from microinfer.models.reference import ReferenceModel

__all__ = [
    "Candidates",
    "OrientationModel",
    "PosteriorModel",
    "Prediction",
    "ReferenceModel",
    "build_model",
    "load_model",
    "model_path",
    "save_model",
    "shipped_models",
]
