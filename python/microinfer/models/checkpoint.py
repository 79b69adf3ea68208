"""Checkpoints: safetensors weights with a JSON header that carries all that prediction needs.

Python and C++ (``cpp/src/mapper/model_file.cpp``) read the same file. Neither needs torch for that.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from microinfer import _core
from microinfer.crystals.phase import CrystalPhase, phase_names
from microinfer.file_kinds import FileKind, require_kind
from microinfer.files import atomic_output
from microinfer.models.cells import zone_axis_cells
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec

if TYPE_CHECKING:
    import torch

    from microinfer.models.network import OrientationNetwork

FORMAT = "microinfer model"
VERSION = 2
"""Version 1 lacked the arrays of `zone_axis_cells`."""


UNCALIBRATED = (1.0, 1.0, 0.0)
"""`Model.calibration` that changes nothing."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model: what it knows, and the weights of its network. It needs no torch.

    Attributes
    ----------
    config : ModelConfig
        Kind and size of the network.
    phases : tuple of CrystalPhase
        The phases that it tells apart.
    spec : TokenSpec
        Ranges of the tokens.
    weights : dict of str to ndarray
        The network's arrays by name, float32 but for indices, which are int64.
    card : dict
        JSON-able facts about the model: name, voltage, k_max, recipe, figures.
    calibration : tuple of float
        a, b, c of beta calibration: an answer of probability p is right with the log-odds ``a ln p - b ln(1 - p) + c``,
        as a validation set showed them.
    """

    config: ModelConfig
    phases: tuple[CrystalPhase, ...]
    spec: TokenSpec
    weights: dict[str, NDArray[Any]]
    card: dict[str, Any] = field(default_factory=dict)
    calibration: tuple[float, float, float] = UNCALIBRATED

    def __repr__(self) -> str:
        voltage = "unknown voltage" if self.voltage is None else f"{self.voltage / 1e3:g} kV"
        return (
            f"Model({self.name!r}: {phase_names(self.phases)}, {voltage}, disks to {self.k_max:.4g} 1/Å, "
            f"{self.config.kind} of width {self.config.width})"
        )

    @property
    def name(self) -> str:
        """Its name, ``"unnamed"`` where the card gives none."""
        return str(self.card.get("name", "unnamed"))

    @property
    def voltage(self) -> float | None:
        """Accelerating voltage in V, where the card states it."""
        return float(self.card["voltage"]) if self.card.get("voltage") is not None else None

    @property
    def k_max(self) -> float:
        """Largest scattering vector that it was trained on, in 1/Angstrom."""
        return float(self.card.get("k_max", self.spec.radius_max))

    @cached_property
    def header(self) -> str:
        """All but the weights, as JSON."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "model": dataclasses.asdict(self.config),
            "tokens": self.spec.to_dict(),
            "phases": [phase.to_dict() for phase in self.phases],
            "card": self.card,
            "calibration": list(self.calibration),
        }
        try:
            return json.dumps(header, allow_nan=False)
        except ValueError as error:
            raise ValueError(
                f"the card of the model {self.name!r} cannot be written as JSON: {error}"
            ) from error

    @cached_property
    def digest(self) -> str:
        """Hash of all that the model's answers depend on."""
        digest = hashlib.sha256(json.dumps(json.loads(self.header), sort_keys=True).encode())
        for name, values in sorted(self.weights.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write a checkpoint.

        Parameters
        ----------
        path : str or Path
            The file, by custom ``*.safetensors``.

        Raises
        ------
        ValueError
            For a card that JSON cannot hold.
        OSError
            If the file cannot be written; nothing half-written stays.
        """
        checksum = _core.checksum(self.header, self.weights)
        content = save(self.weights, metadata={"microinfer": self.header, "crc32": checksum})
        with atomic_output(path) as temporary:
            temporary.write_bytes(content)

    def core(self, *, bfloat16: bool = False, instructions: str = "auto") -> _core.Model:
        """Return the model in the C++ core, which goes from Bragg peaks to ranked answers.

        Parameters
        ----------
        bfloat16 : bool, default: False
            Multiply bfloat16 numbers, where the CPU has instructions for it.
        instructions : str, default: "auto"
            One of `_core.instruction_sets()`; the fastest by default.
        """
        return _core.Model(self.header, self.weights, bfloat16=bfloat16, instructions=instructions)

    def network(self, device: "str | torch.device" = "cpu") -> "OrientationNetwork":
        """Return the network in torch, in evaluation mode: for training, GPUs and TorchScript."""
        from microinfer.models.network import build_network

        network = build_network(self.config, self.phases, self.spec, self.weights)
        network.load_weights(self.weights)
        return network.to(device).eval()

    @classmethod
    def of(cls, network: "OrientationNetwork", card: dict[str, Any] | None = None) -> Self:
        """Return a network's model, with copies of its weights as they are."""
        weights = {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}
        return cls(network.config, network.phases, network.spec, weights, dict(card or {}))


def load_model(name: str | Path) -> Model:
    """Load a shipped model or a checkpoint.

    Parameters
    ----------
    name : str or Path
        A shipped model's name (`shipped_models`) or a checkpoint's path.

    Returns
    -------
    Model

    Raises
    ------
    FileNotFoundError
        If there is neither such a model nor such a file.
    ValueError
        If the file is damaged, foreign, or from a newer version.
    """
    path = model_path(name)
    require_kind(path, FileKind.MODEL)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:  # a TypeError for numbers that NumPy does not have
        raise ValueError(f"{path}: not a readable checkpoint: {error}") from error
    text = metadata.get("microinfer")
    if text is None:
        raise ValueError(f"{path}: a safetensors file, but not a microinfer checkpoint")
    try:
        if metadata.get("crc32", checksum := _core.checksum(text, weights)) != checksum:  # none until 0.3.0
            raise ValueError("it is damaged: its checksum does not hold")
        header = json.loads(text)
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}, expected {FORMAT!r}")
        version = header["version"]
        if type(version) is not int or not 1 <= version <= VERSION:
            raise ValueError(f"checkpoint version {version}, this microinfer reads 1 to {VERSION}")
        if not isinstance(header["card"], dict):
            raise ValueError(f"its card must be a table, got {header['card']!r}")
        phases = tuple(CrystalPhase.from_dict(phase) for phase in header["phases"])
        config = ModelConfig(**header["model"])
        if version < 2 and config.kind == "posterior":
            weights |= zone_axis_cells(phases, config.zone_axis_spacing)
        calibration = header.get("calibration", UNCALIBRATED)
        if len(calibration) == 2:  # slope and offset of the log-odds, as until 0.3.0
            calibration = (calibration[0], *calibration)
        a, b, c = (float(number) for number in calibration)
        spec = TokenSpec.from_dict(header["tokens"])
        model = Model(config, phases, spec, weights, header["card"], (a, b, c))
        model.core()  # checks header and weights against each other
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a usable checkpoint: {error}") from error
    return model


def model_path(name: str | PathLike[str]) -> Path:
    """File of a shipped model or a checkpoint; errors as of `load_model`."""
    shipped = shipped_models()
    path = shipped.get(str(name), Path(name))
    if path.is_dir():
        require_kind(path, FileKind.MODEL)
    if not path.is_file():
        raise FileNotFoundError(
            f"{name}: neither a checkpoint file nor a shipped model ({', '.join(shipped) or 'none'}); "
            "microinfer train makes one of a CIF file"
        )
    return path


def shipped_models() -> dict[str, Path]:
    """Names and files of the models inside the package."""
    folder = Path(__file__).parents[1] / "data" / "models"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"), key=lambda path: path.stem)}
