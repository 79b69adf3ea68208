"""What is to be mapped and how: checked arguments, the blocks of scan rows, and the stages that each goes through."""

import hashlib
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer import __version__
from microinfer.mapping.inference import Inference
from microinfer.maps.orientation_map import MapDescription
from microinfer.models import Model, load_model
from microinfer.models.device import devices, product_dtype
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.scan import PeakSource

if TYPE_CHECKING:
    from microinfer.models.device import Device


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
    enough_disks : bool
        Whether any position has the disks that an answer needs.
    seconds : dict of str to float
        Time in each stage.
    """

    rows: RowBlock
    arrays: dict[str, Any]
    checksum: int
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
    candidates : int
        K, that the map keeps for each position.
    warnings : tuple of str
        Why scan and model do not go together, for the map; none unless somebody looks.

    Raises
    ------
    ValueError, TypeError, OSError
        As `microinfer.map_orientations`.
    """

    def __init__(
        self,
        source: PeakSource,
        model: Model | str | PathLike[str],
        *,
        device: "Device | Sequence[Device]" = "auto",
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
        self.warnings: tuple[str, ...] = ()
        on = [] if remote else devices(device)
        self.dtype = product_dtype(on, dtype)
        self.model = model if isinstance(model, Model) else load_model(str(model))
        self.selected = selected_positions(source.scan_shape, roi, mask)
        self.block_rows = block_rows or source.scan.block_rows
        self.min_disks = min_disks or self.model.spec.min_disks
        self._inferences = [
            Inference(self.model, name, refine, self.min_disks, batch_size, self.dtype == "bfloat16")
            for name in on
        ]
        core = self._inferences[0].core if on else self.model.core()
        self.candidates = core.candidates

    @property
    def description(self) -> MapDescription:
        """What a map says beside its answers."""
        return MapDescription(
            self.model.phases, self.source.scan, self.model.card, dtype=self.dtype, warnings=self.warnings
        )

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
            "model": f"{self.model.name} {self.model.digest}",
            "positions": f"{self.selected.sum()} {digest}",
            "min_disks": str(self.min_disks),
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

    @property
    def lanes(self) -> list[int]:
        """Numbers of the devices that blocks are answered on, once for every block that each has in hand.

        While one block is tokenized or refined, which is the CPU's work, a GPU can work on another.
        """
        return [
            number
            for number, infer in enumerate(self._inferences)
            for _ in range(1 if infer.device == "cpu" else 2)
        ]

    def infer(self, block: ReadBlock, advance: Callable[[int], None], lane: int = 0) -> AnsweredBlock:
        """Answer the positions of a block on a device; `advance` is told how many are done."""
        began = time.perf_counter()
        peaks, shape = block.peaks, block.peaks.scan_shape
        answered = self._inferences[lane](peaks, self.selected[slice(*block.rows)].ravel(), advance)
        return AnsweredBlock(
            block.rows,
            {name: values.reshape(*shape, *values.shape[1:]) for name, values in answered.arrays.items()},
            block.checksum,
            enough_disks=bool((answered.disks >= self.min_disks).any()),
            seconds={**block.seconds, "infer": time.perf_counter() - began},
        )


def checksum_peaks(peaks: BraggPeaks) -> int:
    """CRC-32 of counts, positions and intensities: tells whether a block of rows still holds the same peaks."""
    checksum = 0
    for values in (peaks.counts, peaks.qx, peaks.qy, peaks.intensity):
        checksum = zlib.crc32(np.ascontiguousarray(values).data, checksum)
    return checksum


def selected_positions(
    scan_shape: tuple[int, int], roi: tuple[int, int, int, int] | None, mask: ArrayLike | None
) -> NDArray[np.bool_]:
    """Return which scan positions a region and a mask leave, shape (Rx, Ry); errors as of `map_orientations`."""
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
