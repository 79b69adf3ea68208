"""The mapper: scan rows are read, tokenized, inferred and written in a stream of constant memory.

One thread reads and tokenizes blocks of scan rows ahead of the device.
"""

import time
import warnings
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from microinfer.io import open_peaks
from microinfer.mapping.inference import Inference
from microinfer.mapping.mapfile import MapWriter
from microinfer.mapping.report import MapReport
from microinfer.mapping.result import MapBlock, OrientationMap, blank_arrays, checked_arrays
from microinfer.models import OrientationModel, load_model
from microinfer.peaks import BraggPeaks
from microinfer.progress import ProgressBar
from microinfer.tokens import Tokens, TokenSpec, tokenize

BLOCK_POSITIONS = 16384  # scan positions read at a time, unless block_rows says otherwise
BLOCKS_AHEAD = 2  # blocks that wait, tokenized, for the device
K_MAX_EXCESS = 1.05  # disks beyond this many k_max were not in the model's library
EXCESS_SHARE = 1e-3  # of the disks may lie so far out, as noise, before that is worth a warning
K_MAX_SHORTFALL = 0.4  # a scan whose farthest disk is nearer than this many k_max looks wrongly calibrated


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


class _Chunk(NamedTuple):
    """A block of scan rows, tokenized."""

    start: int
    stop: int
    tokens: Tokens
    disks: int
    far_disks: int  # beyond K_MAX_EXCESS
    largest_radius: float  # 1/Angstrom
    seconds: dict[str, float]


class MapOptions(TypedDict, total=False):
    """The options of `map_orientations`, where its description is."""

    device: str | torch.device
    progress: bool
    block_rows: int | None
    batch_size: int
    min_disks: int | None
    roi: tuple[int, int, int, int] | None
    mask: ArrayLike | None
    refine: str | None


def map_orientations(
    peaks: PeakSource | str | PathLike[str],
    model: OrientationModel | str | PathLike[str],
    *,
    device: str | torch.device = "auto",
    progress: bool = False,
    block_rows: int | None = None,
    batch_size: int = 1024,
    min_disks: int | None = None,
    roi: tuple[int, int, int, int] | None = None,
    mask: ArrayLike | None = None,
    refine: str | None = "kinematic",
) -> OrientationMap:
    """Map crystal orientation and phase over a scan.

    Parameters
    ----------
    peaks : BraggPeaks, reader or path
        The scan: peaks in memory, a reader from `microinfer.open_peaks`, or a file's path.
    model : OrientationModel, str or path
        A model, a shipped model's name, or a checkpoint's path. A model is moved to the device and put in
        evaluation mode.
    device : str or torch.device, default: "auto"
        ``"auto"`` takes a CUDA GPU where there is one, else the CPU.
    progress : bool, default: False
        Show a progress bar on standard error.
    block_rows : int, optional
        Scan rows read at a time; about 16,000 positions by default.
    batch_size : int, default: 1024
        Largest number of patterns that the model sees at once.
    min_disks : int, optional
        Positions with fewer disks (without the direct beam) are invalid. By default what the model was made
        for, usually 2.
    roi : tuple of int, optional
        Scan rows and columns (x0, x1, y0, y1) to map, x1 and y1 excluded. The map keeps the shape of the
        scan; positions outside are invalid.
    mask : array_like of bool, shape (Rx, Ry), optional
        Positions to map; the others are invalid.
    refine : str, optional
        ``"kinematic"`` polishes the model's candidates against the measured disks and ranks them again (see
        `microinfer.refinement`); None gives the model's own answers.

    Returns
    -------
    OrientationMap
        It does not depend on block size, batch size, number of threads or the order of disks, but for
        rounding.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range and files that do not hold what they should.
    OSError
        For files that cannot be read.

    Warns
    -----
    UserWarning
        Where the radii of the peaks do not fit the model's k_max.
    """
    with ExitStack() as stack:
        source = _open(peaks, stack)
        mapper = _Mapper(
            source,
            model,
            device=device,
            progress=progress,
            block_rows=block_rows,
            batch_size=batch_size,
            min_disks=min_disks,
            roi=roi,
            mask=mask,
            refine=refine,
        )
        rows, columns = source.scan_shape
        result = blank_arrays((rows, columns))

        def keep(start: int, block: MapBlock) -> None:
            for name, values in checked_arrays(block, len(mapper.model.phases), start).items():
                result[name][start : start + len(values)] = values

        mapper.run(keep)
        return OrientationMap(**result, **mapper.description)


def map_to_file(
    peaks: PeakSource | str | PathLike[str],
    model: OrientationModel | str | PathLike[str],
    path: str | PathLike[str],
    **options: Unpack[MapOptions],
) -> MapReport:
    """Map a scan into a file, without holding the map in memory.

    Parameters
    ----------
    peaks, model
        As in `map_orientations`.
    path : str or path
        The map file, for `microinfer.load_map`. It appears when it is complete.
    **options
        The keyword arguments of `map_orientations`.

    Returns
    -------
    MapReport

    Raises
    ------
    ValueError, TypeError, OSError
        As in `map_orientations`, and where the file cannot be written.
    """
    with ExitStack() as stack:
        source = _open(peaks, stack)
        scan = getattr(source, "path", None)
        if scan is not None and Path(path).exists() and Path(path).samefile(scan):
            raise ValueError(f"{path}: the map would replace the scan")
        mapper = _Mapper(source, model, **options)
        writer = stack.enter_context(MapWriter(str(path), source.scan_shape, **mapper.description))
        report = mapper.run(writer.write_rows)
        began = time.perf_counter()
        stack.close()
        closing = time.perf_counter() - began
        report.seconds["write"] += closing
        report.elapsed += closing
    return report


class _Mapper:
    """One mapping of one scan."""

    def __init__(
        self,
        source: PeakSource,
        model: OrientationModel | str | PathLike[str],
        *,
        device: str | torch.device = "auto",
        progress: bool = False,
        block_rows: int | None = None,
        batch_size: int = 1024,
        min_disks: int | None = None,
        roi: tuple[int, int, int, int] | None = None,
        mask: ArrayLike | None = None,
        refine: str | None = "kinematic",
    ) -> None:
        for name, value in (("block_rows", block_rows), ("batch_size", batch_size), ("min_disks", min_disks)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.source, self.model, self.progress = source, _model(model, device), progress
        self.selected = _selection(source, roi, mask)
        self.block_rows = block_rows or max(1, BLOCK_POSITIONS // source.scan_shape[1])
        self.infer = Inference(self.model, refine, batch_size)
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
        }

    def run(self, write: Callable[[int, MapBlock], None]) -> MapReport:
        """Map the scan and hand the answers to `write`, block by block."""
        report = MapReport(positions=int(self.selected.sum()))
        counts = np.zeros(len(self.model.phases), np.int64)
        confidence, disks, far_disks, largest_radius, enough = 0.0, 0, 0, 0.0, False
        began = time.perf_counter()
        with (
            ProgressBar("mapping", report.positions, visible=self.progress) as bar,
            closing(self._chunks()) as chunks,
        ):
            for chunk in chunks:
                start = time.perf_counter()
                selected = self.selected[chunk.start : chunk.stop]
                arrays = self.infer(chunk.tokens, selected, bar.advance)
                inferred = time.perf_counter()
                write(chunk.start, MapBlock(**arrays))
                written = time.perf_counter()
                seconds = {**chunk.seconds, "infer": inferred - start, "write": written - inferred}
                for stage, value in seconds.items():
                    report.seconds[stage] += value
                counts += np.bincount(arrays["phase"][arrays["valid"]], minlength=len(counts))
                confidence += float(arrays["confidence"].sum(dtype=np.float64))
                disks += chunk.disks
                far_disks += chunk.far_disks
                largest_radius = max(largest_radius, chunk.largest_radius)
                enough = enough or bool(chunk.tokens.valid.any())
        report.elapsed = time.perf_counter() - began
        report.valid = int(counts.sum())
        report.phase_counts = {
            phase.name: int(count) for phase, count in zip(self.model.phases, counts, strict=True)
        }
        if report.valid:
            report.mean_confidence = confidence / report.valid
        if not enough:
            self._warn(f"no scan position has the {self.spec.min_disks} disks that an answer needs")
        elif far_disks > EXCESS_SHARE * disks or largest_radius < K_MAX_SHORTFALL * self.k_max:
            self._warn(
                f"the scan's disks reach {largest_radius:.2f} 1/Angstrom, {far_disks / disks:.1%} of them "
                f"beyond what the model has seen; it was trained to {self.k_max:.2f}"
            )
        return report

    def _chunks(self) -> Generator[_Chunk, None, None]:
        """Read and tokenize in a thread, a few blocks ahead of the caller."""
        rows = np.flatnonzero(self.selected.any(axis=1))
        if not len(rows):
            return
        end = int(rows[-1]) + 1
        waiting: deque[Future[_Chunk]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="microinfer-reader") as reader:
            try:
                for start in range(int(rows[0]), end, self.block_rows):
                    stop = min(start + self.block_rows, end)
                    if not self.selected[start:stop].any():
                        continue
                    waiting.append(reader.submit(self._load, start, stop))
                    if len(waiting) > BLOCKS_AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                # After an error or Ctrl-C: the block being read ends, the others never begin.
                for future in waiting:
                    future.cancel()

    def _load(self, start: int, stop: int) -> _Chunk:
        began = time.perf_counter()
        peaks = self.source.read_rows(start, stop)
        read = time.perf_counter()
        tokens = tokenize(peaks, self.spec)
        seconds = {"read": read - began, "tokenize": time.perf_counter() - read}
        return _Chunk(
            start,
            stop,
            tokens,
            disks=int(tokens.count.sum()),
            far_disks=int((tokens.radius > K_MAX_EXCESS * self.k_max).sum()),
            largest_radius=float(tokens.radius.max()) if tokens.radius.numel() else 0.0,
            seconds=seconds,
        )

    def _warn(self, problem: str) -> None:
        message = f"{problem}: check the calibration (microinfer info --phase) and the model"
        warnings.warn(message, UserWarning, stacklevel=4)


def _open(peaks: PeakSource | str | PathLike[str], stack: ExitStack) -> PeakSource:
    if isinstance(peaks, str | PathLike):
        return stack.enter_context(open_peaks(peaks))
    return peaks


def _model(model: OrientationModel | str | PathLike[str], device: str | torch.device) -> OrientationModel:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto' or one of torch's, such as 'cpu' or 'cuda', got {device!r}"
        ) from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: torch finds no CUDA GPU here")
    if not isinstance(model, OrientationModel):
        model = load_model(str(model))
    return model.to(target).eval()


def _selection(
    source: PeakSource, roi: tuple[int, int, int, int] | None, mask: ArrayLike | None
) -> NDArray[np.bool_]:
    """Scan positions to map, (Rx, Ry)."""
    rows, columns = source.scan_shape
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
