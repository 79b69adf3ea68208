"""The mapper: scan rows are read, answered and written in a stream of constant memory.

Reading, inference (in the caller's thread, or in those of several devices) and writing overlap.
"""

import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer.detection.source import scan_source
from microinfer.files import HDF5, require_distinct, require_output
from microinfer.mapping.check import ScanCheck, check_scan
from microinfer.mapping.job import AnsweredBlock, MapJob
from microinfer.mapping.report import MapReport
from microinfer.mapping.unfinished import unfinished_map
from microinfer.maps.arrays import blank_arrays
from microinfer.maps.orientation_map import OrientationMap
from microinfer.models import Model
from microinfer.models.checkpoint import model_path
from microinfer.models.device import device_names
from microinfer.peaks.scan import PeakSource
from microinfer.progress import ProgressBar
from microinfer.stream import Sink, relay, spread

if TYPE_CHECKING:
    from microinfer.detection.source import AnyScanOrFrames
    from microinfer.models.device import Device


class MapOptions(TypedDict, total=False):
    """The options of `map_orientations`, where its description is."""

    device: "Device | Sequence[Device]"
    progress: bool
    block_rows: int | None
    batch_size: int | None
    dtype: str
    min_disks: int | None
    roi: tuple[int, int, int, int] | None
    mask: ArrayLike | None
    refine: str | None
    cluster: str | None
    check: bool | ScanCheck


def map_orientations(
    peaks: "AnyScanOrFrames",
    model: Model | str | PathLike[str],
    *,
    device: "Device | Sequence[Device]" = "auto",
    progress: bool = False,
    block_rows: int | None = None,
    batch_size: int | None = None,
    dtype: str = "auto",
    min_disks: int | None = None,
    roi: tuple[int, int, int, int] | None = None,
    mask: ArrayLike | None = None,
    refine: str | None = "kinematic",
    cluster: str | None = None,
    check: bool | ScanCheck = True,
) -> OrientationMap:
    """Map crystal orientation and phase over a scan.

    Parameters
    ----------
    peaks : BraggPeaks, BraggVectors, reader, frames or path
        The scan: peaks in memory, py4DSTEM's BraggVectors (see `microinfer.BraggPeaks.from_py4dstem`), a reader
        from `microinfer.open_peaks`, frames as `microinfer.find_peaks` takes them, in which the peaks are found as they
        are mapped, or the path of a file of peaks or frames.
    model : Model, str or path
        A model, a shipped model's name, or a checkpoint's path.
    device : str, torch.device or sequence of them, default: "auto"
        ``"auto"`` takes every CUDA GPU of the machine where there are any, else the CPU. Several devices, as a
        sequence or with commas between their names, share the blocks of rows.
    progress : bool, default: False
        Show a progress bar on standard error.
    block_rows : int, optional
        Scan rows read at a time; about 16,000 positions by default.
    batch_size : int, optional
        Patterns that are answered at a time; by default 1024 on a CPU and 4096 on a GPU, of whose memory such a batch
        of up to 35 disks took 1.3 GB with the model `cu`, and 8.3 GB with one of a triclinic crystal; two may be under
        way at a time.
    dtype : str, default: "auto"
        What the model's matrix products multiply on a CPU, ``"float32"`` or ``"bfloat16"``; ``"auto"`` takes bfloat16
        where all devices (of a cluster, all workers') gain by it: AMD's CPUs with instructions for it.
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
        `microinfer.models.refinement`); None gives the model's own answers.
    cluster : str, optional
        Address of a Dask scheduler, such as ``"tcp://host:8786"``: its workers map the blocks of rows (see
        `microinfer.mapping.cluster`), each on the one device that `device` means to it. Only on a network you trust, or
        with ``"tls://"``: Dask's messages are pickles, which can run any code.
    check : bool or ScanCheck, default: True
        First see whether scan and model go together (see `microinfer.mapping.check_scan`), and warn if they do not.
        It takes a fraction of a second. What was found already is not said again. The map keeps the warnings.

    Returns
    -------
    OrientationMap
        It does not depend on block size, batch size, device, number of threads or workers, or the order of
        disks, but for rounding; `dtype` says what it changes.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range and files that do not hold what they should.
    OSError
        For files that cannot be read, and a scheduler that cannot be reached.
    ImportError
        For a cluster, where Dask is not installed.

    Warns
    -----
    UserWarning
        Where the peaks do not lie on the rings of the model's phases, or would with another pixel size; where the
        scan's voltage is another than the model's; where the peaks end early for the model, or reach too far.
    """
    options: MapOptions = {
        "device": device,
        "block_rows": block_rows,
        "batch_size": batch_size,
        "dtype": dtype,
        "min_disks": min_disks,
        "roi": roi,
        "mask": mask,
        "refine": refine,
        "cluster": cluster,
        "check": check,
    }
    with ExitStack() as stack:
        source = scan_source(peaks, stack)
        mapper = _Mapper(source, model, progress, options)
        result = blank_arrays(source.scan_shape, mapper.job.candidates)

        def keep(block: AnsweredBlock) -> None:
            for name, values in block.arrays.items():
                result[name][slice(*block.rows)] = values

        mapper.run(keep, np.zeros(source.scan_shape[0], np.bool_), MapReport(mapper.positions))
        return OrientationMap.from_arrays(result, mapper.job.description)


def map_to_file(
    peaks: "AnyScanOrFrames",
    model: Model | str | PathLike[str],
    path: str | PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    **options: Unpack[MapOptions],
) -> MapReport:
    """Map a scan into a file, without holding the map in memory.

    Parameters
    ----------
    peaks, model
        As in `map_orientations`.
    path : str or path
        The map file, .h5 or .hdf5, for `microinfer.load_map`. It appears when it is complete; until then, and after an
        error or Ctrl-C, the rows that are done are in ``<path>.part``.
    resume : bool, default: False
        Go on with the rows that are missing in ``<path>.part``. Scan, model and options must be the same;
        device, block and batch size and cluster may change.
    overwrite : bool, default: False
        Replace a map that is there already, once the new one is complete.
    **options
        The keyword arguments of `map_orientations`.

    Returns
    -------
    MapReport

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        As in `map_orientations`; for another suffix, a file that is there already and must not be replaced
        (FileExistsError), or that cannot be written; and where there is unfinished work without `resume`, none with
        it, or that of another mapping.
    """
    with ExitStack() as stack:
        source = scan_source(peaks, stack)
        require_distinct(
            {"the map": path},
            {
                "the scan": getattr(source, "path", None),
                "the model": None if isinstance(model, Model) else model_path(model),
            },
        )
        require_output(path, "the map", HDF5, overwrite=overwrite)
        mapper = _Mapper(source, model, options.pop("progress", False), options)
        unfinished = stack.enter_context(unfinished_map(path, mapper.job, resume=resume))
        report = MapReport(mapper.positions)
        for block in unfinished.blocks():
            report.count(block.arrays, mapper.job.model.phases)
        mapper.run(unfinished.write, unfinished.done.copy(), report)
        began = time.perf_counter()
        stack.close()
        closed = time.perf_counter() - began
        report.seconds["write"] += closed
        report.elapsed += closed
    return report


class _Mapper:
    """Runs a job here or on a cluster, and watches what goes by."""

    def __init__(
        self,
        source: PeakSource,
        model: Model | str | PathLike[str],
        progress: bool,
        options: MapOptions,
    ) -> None:
        self._progress = progress
        self._cluster = options.pop("cluster", None)
        self._check = options.pop("check", True)
        self._options = options
        if self._cluster is not None:
            from microinfer.mapping.cluster import workers_dtype

            devices = device_names(options.get("device", "auto"))
            if len(devices) != 1:
                raise ValueError(f"with a cluster, device must be one device, got {options['device']!r}")
            options["dtype"] = workers_dtype(self._cluster, devices[0], options.get("dtype", "auto"))
        remote = self._cluster is not None
        self.job = MapJob(source, model, **options, remote=remote)  # type: ignore[misc]  # cluster is not left
        self.positions = int(self.job.selected.sum())

    def run(self, write: Callable[[AnsweredBlock], None], done: NDArray[np.bool_], report: MapReport) -> None:
        """Map the rows that are not done, hand the answers to `write` and complete the report."""
        job = self.job
        report.resumed = int(job.selected[done].sum())
        if isinstance(self._check, ScanCheck):
            report.check = self._check
        elif self._check:
            report.check = check_scan(job.source, job.model, job.selected)
            for problem in report.check.warnings:
                warnings.warn(problem, UserWarning, stacklevel=3)
        job.warnings = tuple(report.check.warnings) if report.check is not None else ()
        enough = report.valid > 0
        missing = job.selected.any(axis=1) & ~done
        lanes = {"infer": len(job.lanes)} if self._cluster is None else {}
        began = time.perf_counter()

        def write_timed(block: AnsweredBlock) -> None:
            start = time.perf_counter()
            write(block)
            report.seconds["write"] += time.perf_counter() - start

        with (
            ProgressBar(
                "mapping", report.positions, done=report.resumed, unit="positions", visible=self._progress
            ) as bar,
            Sink(write_timed, "writer") as writer,
            closing(self._answers(done, bar.advance)) as answers,
        ):
            for block in answers:
                writer.put(block)
                for stage, seconds in block.seconds.items():
                    report.seconds[stage] += seconds / lanes.get(stage, 1)
                missing[slice(*block.rows)] = False
                report.count(block.arrays, job.model.phases)
                enough = enough or block.enough_disks
        report.elapsed = time.perf_counter() - began
        # of frames, reading and finding the disks, which run beside each other, are told apart
        report.seconds.update(getattr(job.source, "seconds", {}))
        if missing.any():
            raise RuntimeError(f"scan rows {np.flatnonzero(missing).tolist()} came without answers")
        if not enough:
            warnings.warn(
                f"no scan position has the {job.min_disks} disks that an answer needs: check the calibration "
                "(microinfer info) and the model",
                UserWarning,
                stacklevel=3,
            )

    def _answers(
        self, done: NDArray[np.bool_], advance: Callable[[int], None]
    ) -> Generator[AnsweredBlock, None, None]:
        blocks = self.job.blocks(done)
        if self._cluster is not None:
            from microinfer.mapping.cluster import map_on_cluster

            yield from map_on_cluster(self._cluster, self.job, dict(self._options), blocks, advance)
            return
        with closing(relay(self.job.read, blocks, "reader")) as ready:
            lanes = [partial(self.job.infer, advance=advance, lane=lane) for lane in self.job.lanes]
            if len(lanes) == 1:  # in this thread, which Ctrl-C interrupts
                yield from map(lanes[0], ready)
                return
            with closing(spread(lanes, ready, "device")) as answers:
                yield from answers
