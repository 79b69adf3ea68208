"""What is to be mapped and how: checked arguments, the blocks of scan rows, and the stages that each goes through."""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from microinfer import __version__
from microinfer.mapping.inference import Inference
from microinfer.models import OrientationModel, load_model
from microinfer.models.device import product_dtype, torch_devices
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens, tokenize
from microinfer.peaks.bragg_peaks import BraggPeaks

BLOCK_POSITIONS = 16384  # scan positions read at a time, unless block_rows says otherwise
K_MAX_EXCESS = 1.05  # disks beyond this many k_max were not in the model's library


class PeakSource(Protocol):
    """What the mapper reads from: `BraggPeaks`, or a reader from `microinfer.open_peaks`."""

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Scan rows and columns (Rx, Ry)."""

    @property
    def scan_step(self) -> float:
        """Distance of neighbouring scan positions."""

    @property
    def scan_units(self) -> str:
        """Unit of the scan step."""

    @property
    def qr_calibrated(self) -> bool:
        """Whether the detector's axes were turned to those of the scan."""

    def read_rows(self, start: int, stop: int) -> BraggPeaks:
        """Peaks of the scan rows [start, stop)."""


class RowBlock(NamedTuple):
    """Scan rows that go through the stages together."""

    start: int
    stop: int


class ReadBlock(NamedTuple):
    """A block with its peaks."""

    rows: RowBlock
    peaks: BraggPeaks
    checksum: int
    seconds: dict[str, float]


class TokenBlock(NamedTuple):
    """A block, tokenized."""

    rows: RowBlock
    tokens: Tokens
    checksum: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class AnsweredBlock:
    """A block with its answers, and what was seen on the way.

    Attributes
    ----------
    rows : RowBlock
    arrays : dict of str to ndarray
        The arrays of a map for these rows.
    checksum : int
        CRC-32 of the peaks, see `checksum_peaks`.
    disks, far_disks : int
        Disks, and how many of them lie beyond what the model has seen.
    largest_radius : float
        Of the disks, in 1/Angstrom.
    enough_disks : bool
        Whether any position has the disks that an answer needs.
    seconds : dict of str to float
        Time in each stage.
    """

    rows: RowBlock
    arrays: dict[str, Any]
    checksum: int
    disks: int
    far_disks: int
    largest_radius: float
    enough_disks: bool
    seconds: dict[str, float]


class MapJob:
    """One mapping of one scan; the parameters are those of `microinfer.map_orientations`.

    With `remote` its blocks are answered elsewhere: it has no devices, and takes their dtype as it is given.

    Attributes
    ----------
    dtype : str
        What the model's matrix products multiply, ``"float32"`` or ``"bfloat16"``, on all devices alike: no
        answer may depend on which of them it comes from.

    Raises
    ------
    ValueError, TypeError, OSError
        As `microinfer.map_orientations`.
    """

    def __init__(
        self,
        source: PeakSource,
        model: OrientationModel | str | PathLike[str],
        *,
        device: str | torch.device | Sequence[str | torch.device] = "auto",
        block_rows: int | None = None,
        batch_size: int | None = None,
        dtype: str = "auto",
        min_disks: int | None = None,
        roi: tuple[int, int, int, int] | None = None,
        mask: ArrayLike | None = None,
        refine: str | None = "kinematic",
        remote: bool = False,
    ) -> None:
        for name, value in (("block_rows", block_rows), ("batch_size", batch_size), ("min_disks", min_disks)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.source, self.refine = source, refine
        devices = [] if remote else torch_devices(device)
        self.dtype = str(product_dtype(devices, dtype)).removeprefix("torch.")
        self.model = _model(model, devices[0] if devices else torch.device("cpu"))
        self.selected = _selection(source.scan_shape, roi, mask)
        self.block_rows = block_rows or max(1, BLOCK_POSITIONS // source.scan_shape[1])
        twins = (deepcopy(self.model).to(other) for other in devices[1:])
        models = [self.model, *twins] if devices else []
        self._inferences = [Inference(twin, refine, batch_size, self.dtype) for twin in models]
        self.spec: TokenSpec = (
            self.model.spec if min_disks is None else replace(self.model.spec, min_disks=min_disks)
        )
        self.k_max = float(self.model.card.get("k_max", self.spec.radius_max))

    @property
    def description(self) -> dict[str, Any]:
        """What a map says beside its answers."""
        return {
            "phases": self.model.phases,
            "scan_step": self.source.scan_step,
            "scan_units": self.source.scan_units,
            "qr_calibrated": self.source.qr_calibrated,
            "model_card": self.model.card,
            "dtype": self.dtype,
        }

    @property
    def identity(self) -> dict[str, str]:
        """What two mappings must share for their answers to stand in one map, by name, as text.

        The peaks themselves are not among it: see `checksum_peaks`. Block and batch size and the device
        change the answers by rounding alone.
        """
        rows, columns = self.source.scan_shape
        digest = hashlib.sha256(self.selected.tobytes()).hexdigest()[:16]
        return {
            "scan": f"{rows} x {columns}, step {self.source.scan_step:g} {self.source.scan_units}",
            "model": f"{self.model.card.get('name', 'unnamed')} {_digest(self.model)}",
            "positions": f"{self.selected.sum()} {digest}",
            "min_disks": str(self.spec.min_disks),
            "refine": str(self.refine),
            "dtype": self.dtype,
            "microinfer": __version__,
        }

    def blocks(self, done: NDArray[np.bool_]) -> list[RowBlock]:
        """Split the rows to map into blocks.

        Parameters
        ----------
        done : ndarray of bool, shape (Rx,)
            Rows to leave out. The other blocks are those of the whole scan as far as they can be.
        """
        wanted = self.selected.any(axis=1)
        if not wanted.any():
            return []
        first, end = int(np.argmax(wanted)), len(wanted) - int(np.argmax(wanted[::-1]))
        wanted &= ~done
        blocks = []
        for start in range(first, end, self.block_rows):
            stop = min(start + self.block_rows, end)
            # a block of which a part is done falls into its runs of rows that are not
            edges = np.flatnonzero(np.diff(done[start:stop].astype(np.int8), prepend=1, append=1))
            for low, high in zip(edges[::2], edges[1::2], strict=True):
                if wanted[start + low : start + high].any():
                    blocks.append(RowBlock(start + int(low), start + int(high)))
        return blocks

    def read(self, rows: RowBlock) -> ReadBlock:
        """Read the peaks of a block."""
        began = time.perf_counter()
        peaks = self.source.read_rows(*rows)
        checksum = checksum_peaks(peaks)
        return ReadBlock(rows, peaks, checksum, {"read": time.perf_counter() - began})

    def tokenize(self, block: ReadBlock) -> TokenBlock:
        """Turn the peaks of a block into tokens."""
        began = time.perf_counter()
        tokens = tokenize(block.peaks, self.spec)
        seconds = {**block.seconds, "tokenize": time.perf_counter() - began}
        return TokenBlock(block.rows, tokens, block.checksum, seconds)

    @property
    def lanes(self) -> list[int]:
        """Numbers of the devices that blocks are answered on, once for every block that each has in hand.

        While one block is refined, which is the CPU's work, a GPU can work on another.
        """
        return [
            number
            for number, infer in enumerate(self._inferences)
            for _ in range(1 if infer.device.type == "cpu" else 2)
        ]

    def infer(self, block: TokenBlock, advance: Callable[[int], None], lane: int = 0) -> AnsweredBlock:
        """Answer the positions of a block on a device; `advance` is told how many are done."""
        began = time.perf_counter()
        tokens = block.tokens
        arrays = self._inferences[lane](tokens, self.selected[slice(*block.rows)], advance)
        return AnsweredBlock(
            block.rows,
            arrays,
            block.checksum,
            disks=int(tokens.count.sum()),
            far_disks=int((tokens.radius > K_MAX_EXCESS * self.k_max).sum()),
            largest_radius=float(tokens.radius.max()) if tokens.radius.numel() else 0.0,
            enough_disks=bool(tokens.valid.any()),
            seconds={**block.seconds, "infer": time.perf_counter() - began},
        )


def checksum_peaks(peaks: BraggPeaks) -> int:
    """CRC-32 of counts, positions and intensities: tells whether a block of rows still holds the same peaks."""
    checksum = 0
    for values in (peaks.counts, peaks.qx, peaks.qy, peaks.intensity):
        checksum = zlib.crc32(np.ascontiguousarray(values).data, checksum)
    return checksum


def _digest(model: OrientationModel) -> str:
    """Hash of all that a model's answers depend on."""
    header = {
        "model": asdict(model.config),
        "tokens": model.spec.to_dict(),
        "phases": [phase.to_dict() for phase in model.phases],
        "card": model.card,
        "calibration": list(model.calibration),
    }
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _model(model: OrientationModel | str | PathLike[str], device: torch.device) -> OrientationModel:
    if not isinstance(model, OrientationModel):
        model = load_model(str(model))
    return model.to(device).eval()


def _selection(
    scan_shape: tuple[int, int], roi: tuple[int, int, int, int] | None, mask: ArrayLike | None
) -> NDArray[np.bool_]:
    """Scan positions to map, (Rx, Ry)."""
    rows, columns = scan_shape
    selected = np.ones((rows, columns), np.bool_)
    if mask is not None:
        wanted = np.asarray(mask)
        if wanted.dtype != np.bool_:
            raise TypeError(f"mask must be boolean, got {wanted.dtype}")
        if wanted.shape != (rows, columns):
            raise ValueError(f"mask must have the scan's shape {(rows, columns)}, got {wanted.shape}")
        selected &= wanted
    if roi is not None:
        x0, x1, y0, y1 = roi
        if not (0 <= x0 < x1 <= rows and 0 <= y0 < y1 <= columns):
            raise ValueError(
                f"roi must be (x0, x1, y0, y1) within the scan's {rows} rows and {columns} columns, "
                f"got {tuple(roi)}"
            )
        inside = np.zeros_like(selected)
        inside[x0:x1, y0:y1] = True
        selected &= inside
    return selected
