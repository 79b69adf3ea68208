"""The training loop: from a configuration to a checkpoint, resumable."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from microinfer import __version__, _core
from microinfer.crystals.errors import RIGHT, orientation_errors
from microinfer.crystals.structure import load_structure
from microinfer.models import Model, load_model
from microinfer.models.device import first_device
from microinfer.models.network import NO_CRYSTAL, build_network
from microinfer.ops.tokens import Tokens
from microinfer.progress import ProgressBar
from microinfer.simulation.library import PatternLibrary, load_library
from microinfer.simulation.simulate import simulate_library
from microinfer.training.augmentation import Batch, training_batches, turned
from microinfer.training.calibration import calibrate, calibration_patterns
from microinfer.training.config import Config, TrainingConfig
from microinfer.training.state import read_state, write_state

VALIDATION_PATTERNS = 2048
VALIDATIONS = 20
"""Validations in a training."""
LIBRARY, STATE = "library.h5", "state.pt"
"""Files in the folder of a training."""


def train(
    config: Config,
    out: str | Path,
    *,
    library: PatternLibrary | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
) -> Path:
    """Train a model.

    Parameters
    ----------
    config : Config
        Phases, simulation, network and course of the training.
    out : str or Path
        Folder for the library (where none is given), the log, the state to resume from and the checkpoint
        ``<name>.safetensors``: the weights with the lowest validation loss so far.
    library : PatternLibrary, optional
        Patterns to train on; by default ``out/library.h5``, which is simulated where it is missing.
    resume : bool
        Go on from the state in `out`.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    progress : bool
        Show a progress bar with loss, error and remaining time.

    Returns
    -------
    Path
        The checkpoint.

    Raises
    ------
    ValueError
        If the library or the state in `out` belongs to another configuration, or hardly any pattern can be used.
    FileNotFoundError
        If there is nothing to resume.
    FileExistsError
        If there is, without `resume`.
    """
    folder, target = Path(out), first_device(device)
    if not resume:
        require_no_training(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if library is None:
        library = read_library(config, folder)
    if library is None:
        library = simulate_library(config, folder / LIBRARY, progress=progress)
    run = Run(config, folder, library, target)
    if resume:
        run.restore()
    run.go(progress)
    return run.checkpoint


class Run:
    """One training in progress; parameters as of `train`."""

    def __init__(self, config: Config, folder: Path, library: PatternLibrary, device: str) -> None:
        self.config, self.library, self.device = config, library, torch.device(device)
        torch.manual_seed(config.training.seed)
        self.network = build_network(config.model, library.phases, config.tokens).to(self.device)
        self.card = _card(config, library)
        self.checkpoint = folder / f"{config.name}.safetensors"
        self.state_file = folder / STATE
        self.log_file = folder / "log.jsonl"
        training = config.training
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self.members, self.held_out = split(library, training)
        self.validation = turned(library, self.held_out, config.tokens, training.seed)
        self._multiplies_bfloat16 = (
            _core.multiplies_bfloat16() if device == "cpu" else torch.cuda.is_bf16_supported()
        )
        self.samples = self.step = self.chunk = 0
        self.seconds = 0.0
        self.best = math.inf

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Augmented batches from where the run stands, without end."""
        training = self.config.training
        return training_batches(
            self.library,
            self.members,
            self.config.tokens,
            self.config.augmentation,
            training.batch_size,
            training.seed,
            self.chunk,
        )

    def go(self, progress: bool) -> None:
        """Train to the end."""
        training = self.config.training
        batches = self.batches()
        every = max(1, training.samples // VALIDATIONS)
        due = (self.samples // every + 1) * every
        started = time.monotonic() - self.seconds
        with ProgressBar(f"training {self.config.name}", training.samples, visible=progress) as bar:
            bar.advance(self.samples)
            while self.samples < training.samples:
                self.chunk, batch = next(batches)
                loss = self.update(batch)
                self.samples += len(batch.phase)
                self.step += 1
                self.seconds = time.monotonic() - started
                bar.advance(len(batch.phase), loss=f"{loss:.3f}")
                if self.samples >= min(due, training.samples):
                    due += every
                    figures = self.validate()
                    bar.advance(0, error=f"{figures['median_error_deg']:.2f} deg")
                    self._log(loss, figures)
                    self.save(figures)
        self.calibrate()

    def update(self, batch: Batch) -> float:
        """Take one step and return its loss."""
        training = self.config.training
        share = self.samples / training.samples
        warm = min(1.0, (self.step + 1) / training.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = training.learning_rate * warm * (0.01 + 0.495 * (1.0 + math.cos(math.pi * share)))
        self.network.train()
        tokens, orientation, phase = _to(batch, self.device)
        with self._autocast():
            output = self.network(tokens)
        loss: Tensor = self.network.loss(output, orientation, phase)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), training.clip_norm)
        self.optimizer.step()
        return loss.item()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._multiplies_bfloat16)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss on the held-out patterns, and errors as `orientation_errors` counts them."""
        self.network.eval()
        losses, errors, confidences = [], [], []
        for start in range(0, len(self.validation.phase), 256):
            part = slice(start, start + 256)
            rows = Tokens(*(value[part] for value in self.validation.tokens))
            batch = _to(
                Batch(rows, self.validation.orientation[part], self.validation.phase[part]), self.device
            )
            output = self.network(batch.tokens)
            loss = self.network.loss(output, batch.orientation, batch.phase)
            found = self.network.decode(output)
            phase = found.phase[:, 0].where(found.valid & batch.tokens.valid, NO_CRYSTAL)
            error = orientation_errors(
                found.matrix[:, 0].cpu().numpy(),
                phase.cpu().numpy(),
                self.validation.orientation[part].numpy(),
                self.validation.phase[part].numpy(),
                self.library.phases,
            )
            losses.append(float(loss) * len(error))
            errors.append(error)
            confidences.append(found.probability[:, 0].cpu().numpy())
        error = np.concatenate(errors)
        return {
            "validation_loss": sum(losses) / len(error),
            "mean_error_deg": float(error.mean()),
            "median_error_deg": float(np.median(error)),
            "within_3_deg": float((error < RIGHT).mean()),
            "mean_confidence": float(np.concatenate(confidences).mean()),
        }

    def calibrate(self) -> None:
        """Calibrate the confidence of the best checkpoint on held-out patterns."""
        patterns = calibration_patterns(self.library, self.held_out, self.config)
        model = load_model(self.checkpoint)
        replace(model, calibration=calibrate(model, patterns, str(self.device))).save(self.checkpoint)

    def _log(self, loss: float, figures: dict[str, float]) -> None:
        record = {"samples": self.samples, "seconds": round(self.seconds, 1), "loss": loss, **figures}
        with self.log_file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save(self, figures: dict[str, float]) -> None:
        """Write the checkpoint if it is the best so far, and the state to resume from."""
        if figures["validation_loss"] < self.best:
            self.best = figures["validation_loss"]
            self.card["validation"] = {"samples_seen": self.samples, **figures}
            Model.of(self.network, self.card).save(self.checkpoint)
        state = {
            "config": json.dumps(self.config.to_dict()),
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": [self.samples, self.step, self.chunk + 1],
            "seconds": self.seconds,
            "best": self.best,
        }
        write_state(self.state_file, state)

    def restore(self) -> None:
        """Take up the state that `save` wrote."""
        if not self.state_file.is_file():
            raise FileNotFoundError(f"{self.state_file}: nothing to resume; train without resume first")
        state = read_state(self.state_file, self.device)
        if state["config"] != json.dumps(self.config.to_dict()):
            raise ValueError(f"{self.state_file}: belongs to another configuration")
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.samples, self.step, self.chunk = state["progress"]
        self.seconds, self.best = state["seconds"], state["best"]
        if self.checkpoint.is_file():
            self.card.update(load_model(self.checkpoint).card)


def require_no_training(folder: Path) -> None:
    """Refuse a folder in which a training stands that a new one would overwrite."""
    if (folder / STATE).exists():
        raise FileExistsError(
            f"{folder}: holds a training; --resume goes on with it; move it away or use another folder"
        )


def read_library(config: Config, folder: Path) -> PatternLibrary | None:
    """Read the library of a training's folder; None where there is none, ValueError for that of other settings."""
    path = folder / LIBRARY
    if not path.is_file():
        return None
    library = load_library(path)
    if library.simulation != config.simulation:
        raise ValueError(f"{path}: was simulated with other settings; move it away or use another folder")
    _check_crystals(library, config, path)
    return library


def _check_crystals(library: PatternLibrary, config: Config, path: Path) -> None:
    """Refuse a library of other crystals; but for their names only where the simulation's packages are here."""
    held, wanted = [phase.name for phase in library.phases], [phase.display_name for phase in config.phases]
    if held != wanted:
        raise ValueError(
            f"{path}: holds patterns of {', '.join(held)}, not of {', '.join(wanted)} as configured; "
            "move it away or use another folder"
        )
    try:
        crystals = [
            load_structure(phase.structure, phase.name).phase(config.simulation.k_max, phase.symmetry)
            for phase in config.phases
        ]
    except ImportError:
        return
    for phase, crystal in zip(library.phases, crystals, strict=True):
        for what in ("lattice", "operators", "reflections"):
            if not _alike(getattr(phase, what), getattr(crystal, what)):
                raise ValueError(
                    f"{path}: the {what} of {phase.name} are not those of the configured structure and symmetry; "
                    "move it away or use another folder"
                )


def _alike(first: ArrayLike, second: ArrayLike) -> bool:
    return np.shape(first) == np.shape(second) and np.allclose(first, second, rtol=1e-4, atol=1e-6)


def split(library: PatternLibrary, training: TrainingConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Patterns to train with and to validate with."""
    unit = library.zone if training.validation_split == "zone_axes" else np.arange(len(library))
    units = np.unique(unit)
    rng = np.random.default_rng([training.seed, 1])
    held_out = rng.permutation(units)[: max(1, round(training.validation_share * len(units)))]
    if len(held_out) == len(units):
        raise ValueError(
            f"training.validation_share {training.validation_share} leaves none of the library's {len(units)} "
            f"{training.validation_split.replace('_', ' ')} to train with"
        )
    is_held_out = np.isin(unit, held_out)
    validation = rng.permutation(np.flatnonzero(is_held_out))[:VALIDATION_PATTERNS]
    return np.flatnonzero(~is_held_out), np.sort(validation)


def _card(config: Config, library: PatternLibrary) -> dict[str, Any]:
    return {
        "name": config.name,
        "version": __version__,
        "voltage": config.simulation.voltage,
        "k_max": config.simulation.k_max,
        "recipe": config.to_dict(),
        "library_patterns": len(library),
    }


def _to(batch: Batch, device: torch.device) -> Batch:
    tokens = Tokens(*(part.to(device) for part in batch.tokens))
    return Batch(tokens, batch.orientation.to(device), batch.phase.to(device))
