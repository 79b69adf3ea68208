"""Checkpoints: safetensors weights with a JSON header that carries all that prediction needs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from microinfer.crystals.phase import CrystalPhase
from microinfer.files import atomic_output
from microinfer.models.base import OrientationModel
from microinfer.models.posterior import PosteriorModel
from microinfer.models.reference import ReferenceModel
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec

FORMAT = "microinfer model"
VERSION = 1
_KINDS: dict[str, type[OrientationModel]] = {"posterior": PosteriorModel, "reference": ReferenceModel}


def build_model(
    config: ModelConfig, phases: tuple[CrystalPhase, ...], spec: TokenSpec, card: dict[str, Any] | None = None
) -> OrientationModel:
    """Make an untrained model of the kind that the configuration names."""
    return _KINDS[config.kind](config, phases, spec, card)


def save_model(path: str | Path, model: OrientationModel) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path : str or Path
        The file, by custom ``*.safetensors``.
    model : OrientationModel
        The model.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "model": dataclasses.asdict(model.config),
        "tokens": model.spec.to_dict(),
        "phases": [phase.to_dict() for phase in model.phases],
        "card": model.card,
        "calibration": list(model.calibration),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_output(path) as temporary:
        save_file(weights, temporary, metadata={"microinfer": json.dumps(header)})


def load_model(name: str | Path, device: str | torch.device = "cpu") -> OrientationModel:
    """Load a shipped model or a checkpoint.

    Parameters
    ----------
    name : str or Path
        A shipped model's name (`shipped_models`) or a checkpoint's path.
    device : str or torch.device
        Where to put it.

    Returns
    -------
    OrientationModel
        In evaluation mode.

    Raises
    ------
    FileNotFoundError
        If there is neither such a model nor such a file.
    ValueError
        If the file is damaged, foreign, or from a newer version.
    """
    path = model_path(name)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("microinfer")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable checkpoint: {error}") from error
    if text is None:
        raise ValueError(f"{path}: a safetensors file, but not a microinfer checkpoint")
    try:
        header = json.loads(text)
        if header["format"] != FORMAT or header["version"] > VERSION:
            raise ValueError(f"checkpoint version {header['version']}, this microinfer reads up to {VERSION}")
        phases = tuple(CrystalPhase.from_dict(phase) for phase in header["phases"])
        config, spec = ModelConfig(**header["model"]), TokenSpec.from_dict(header["tokens"])
        model = build_model(config, phases, spec, header["card"])
        model.load_state_dict(weights)
        slope, offset = header.get("calibration", (1.0, 0.0))
        model.calibration = (float(slope), float(offset))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not a usable checkpoint: {error}") from error
    return model.to(device).eval()


def model_path(name: str | Path) -> Path:
    """File of a shipped model or a checkpoint; errors as of `load_model`."""
    shipped = shipped_models()
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        raise FileNotFoundError(
            f"{name}: neither a checkpoint file nor a shipped model ({', '.join(shipped) or 'none'})"
        )
    return path


def shipped_models() -> dict[str, Path]:
    """Names and files of the models inside the package."""
    folder = Path(__file__).parents[1] / "data" / "models"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"), key=lambda path: path.stem)}
