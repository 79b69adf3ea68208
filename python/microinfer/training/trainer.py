"""The training loop: from a configuration to a checkpoint, resumable."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from microinfer import __version__, _core
from microinfer.crystals.errors import RIGHT, orientation_errors
from microinfer.interruption import unbroken
from microinfer.models import Model, load_model
from microinfer.models.network import NO_CRYSTAL, build_network
from microinfer.ops.tokens import Tokens
from microinfer.progress import ProgressBar
from microinfer.simulation.library import PatternLibrary
from microinfer.training.augmentation import Batch, training_batches, turned
from microinfer.training.calibration import calibrate, calibration_patterns
from microinfer.training.config import Config, TrainingConfig
from microinfer.training.folder import STATE
from microinfer.training.state import read_state, require_same_settings, write_state
from microinfer.training.threads import Threads
from microinfer.training.verdict import judge

VALIDATION_PATTERNS = 2048
VALIDATIONS = 20
"""Validations in a training."""


class Run:
    """One training in progress.

    Parameters
    ----------
    config : Config
        Network and course of the training.
    folder : Path
        Where log, state and checkpoint are written.
    library : PatternLibrary
        Patterns to train on.
    device : str
        ``"cpu"``, or a GPU's name in torch.
    """

    def __init__(self, config: Config, folder: Path, library: PatternLibrary, device: str) -> None:
        self.config, self.library, self.device = config, library, torch.device(device)
        torch.manual_seed(config.training.seed)
        self.network = build_network(config.model, library.phases, config.tokens).to(self.device)
        self.card = _card(config, library)
        self.checkpoint = folder / f"{config.name}.safetensors"
        self.state_file = folder / STATE
        self.log_file = folder / "log.jsonl"
        self.members, self.held_out = split(library, config.training)
        self._multiplies_bfloat16 = (
            _core.multiplies_bfloat16() if device == "cpu" else torch.cuda.is_bf16_supported()
        )
        self.threads = Threads(device)
        self.samples = self.step = self.chunk = self.validated = 0
        self.seconds = 0.0
        self.best = math.inf

    @cached_property
    def optimizer(self) -> torch.optim.AdamW:
        """AdamW over all weights; seconds go by until torch has it ready."""
        training = self.config.training
        return torch.optim.AdamW(
            self.network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )

    @cached_property
    def validation(self) -> Batch:
        """The held-out patterns."""
        return turned(self.library, self.held_out, self.config.tokens, self.config.training.seed)

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
        """Train to the end; an interruption, at any moment, leaves a state to resume from."""
        try:
            self._train(progress)
        except KeyboardInterrupt:
            if self.step:
                with unbroken():
                    self.save_state()
            raise
        self.finish(progress)

    def _train(self, progress: bool) -> None:
        training = self.config.training
        every = max(1, training.samples // VALIDATIONS)
        batches = self.batches()
        started = time.monotonic() - self.seconds
        loss = math.nan
        with ProgressBar(
            f"training {self.config.name}",
            training.samples,
            visible=progress,
            done=self.samples,
            unit="samples",
        ) as bar:
            while self.validated < training.samples:
                if self.samples >= min((self.validated // every + 1) * every, training.samples):
                    figures = self.validate()
                    bar.advance(0, error=f"{figures['median_error_deg']:.2f} deg")
                    with unbroken():
                        self.validated = self.samples
                        self._log(loss, figures)
                        self.save(figures)
                    continue
                self.chunk, batch = next(batches)
                loss = self.update(batch)
                self.seconds = time.monotonic() - started
                bar.advance(len(batch.phase), loss=f"{loss:.3f}")

    def update(self, batch: Batch) -> float:
        """Take one step and return its loss."""
        training = self.config.training
        share = self.samples / training.samples
        warm = min(1.0, (self.step + 1) / training.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = training.learning_rate * warm * (0.01 + 0.495 * (1.0 + math.cos(math.pi * share)))
        with self.threads.step(batch.tokens.mask.numel()):
            loss = self.gradients(batch)
            with unbroken():  # an interruption finds weights, optimizer and count of the same step
                self.optimizer.step()
                self.samples += len(batch.phase)
                self.step += 1
        return loss

    def gradients(self, batch: Batch) -> float:
        """Set the gradients of a batch's loss, and return the loss."""
        self.network.train()
        tokens, orientation, phase = _to(batch, self.device)
        with self._autocast():
            output = self.network(tokens)
        loss: Tensor = self.network.loss(output, orientation, phase)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.training.clip_norm)
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

    def finish(self, progress: bool) -> None:
        """Calibrate the confidence of the best checkpoint, and judge it, on held-out patterns."""
        patterns = calibration_patterns(self.library, self.held_out, self.config)
        model = load_model(self.checkpoint)
        total = len(patterns.phase) + 2 * len(self.held_out)
        with ProgressBar(f"calibrating {self.config.name}", total, visible=progress, unit="patterns") as bar:
            calibration = calibrate(model, patterns, str(self.device), bar.advance)
            verdict = judge(model, self.validation, str(self.device), bar.advance)
        card = {**self.card, "verdict": verdict.to_dict()}
        replace(model, calibration=calibration, card=card).save(self.checkpoint)

    def _log(self, loss: float, figures: dict[str, float]) -> None:
        record = {"samples": self.samples, "seconds": round(self.seconds, 1), "loss": loss, **figures}
        with self.log_file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save(self, figures: dict[str, float]) -> None:
        """Write the checkpoint if it is the best so far, and the state."""
        if figures["validation_loss"] < self.best:
            self.best = figures["validation_loss"]
            self.card["validation"] = {"samples_seen": self.samples, **figures}
            unfinished = f"{self.samples:,} of {self.config.training.samples:,} samples"
            Model.of(self.network, {**self.card, "unfinished": unfinished}).save(self.checkpoint)
        self.save_state()

    def save_state(self) -> None:
        """Write the state to resume from."""
        state = {
            "config": json.dumps(self.config.to_dict()),
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": [self.samples, self.step, self.chunk + 1, self.validated],
            "seconds": self.seconds,
            "best": self.best,
        }
        write_state(self.state_file, state)

    def restore(self) -> None:
        """Take up the state that `save_state` wrote."""
        state = read_state(self.state_file, self.device)
        require_same_settings(state, self.config.to_dict(), self.state_file)
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.samples, self.step, self.chunk, self.validated = state["progress"]
        self.seconds, self.best = state["seconds"], state["best"]
        if self.checkpoint.is_file():
            self.card["validation"] = load_model(self.checkpoint).card["validation"]


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
