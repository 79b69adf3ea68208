"""The files of a synthetic scan: datacube, true peaks, truth."""

from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from microinfer.files import HDF5, require_output
from microinfer.peaks.native import PeakWriter
from microinfer.progress import ProgressBar
from microinfer.simulation.scan.datacube import DatacubeWriter
from microinfer.simulation.scan.source import SyntheticScan
from microinfer.simulation.scan.truth import TruthWriter


class ScanFiles(NamedTuple):
    """The files of a synthetic scan in a folder."""

    frames: Path
    peaks: Path
    truth: Path

    @classmethod
    def within(cls, folder: str | PathLike[str]) -> "ScanFiles":
        """Their names in a folder."""
        return cls(*(Path(folder) / name for name in ("scan.h5", "true_peaks.h5", "truth.h5")))

    def named(self) -> dict[str, Path]:
        """The files by what they are."""
        return {"the datacube": self.frames, "the file of peaks": self.peaks, "the truth": self.truth}


class WrittenScan(NamedTuple):
    """What was written of a synthetic scan: its files, and how many true peaks and positions of a kind they hold."""

    files: ScanFiles
    peaks: int
    vacuum: int
    overlap: int


def write_scan(
    scan: SyntheticScan,
    folder: str | PathLike[str],
    *,
    compress: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> WrittenScan:
    """Write a synthetic scan, a block of scan rows at a time.

    Parameters
    ----------
    scan : SyntheticScan
    folder : path-like
        Where ``scan.h5``, ``true_peaks.h5`` and ``truth.h5`` are written; made where it does not exist.
    compress : bool
        As in `microinfer.simulation.scan.datacube.DatacubeWriter`.
    overwrite : bool
        Replace files of these names, once the new ones are complete.
    progress : bool
        Show a progress bar.

    Returns
    -------
    WrittenScan

    Raises
    ------
    OSError
        Where a file cannot be written, or is there already; nothing half-written stays.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = ScanFiles.within(folder)
    for what, path in files.named().items():
        require_output(path, what, HDF5, overwrite=overwrite)
    rows, columns = scan.scan_shape
    with ExitStack() as stack:
        frames = stack.enter_context(DatacubeWriter(files.frames, scan, compress=compress))
        peaks = stack.enter_context(PeakWriter(files.peaks, scan.scan))
        truth = stack.enter_context(TruthWriter(files.truth, scan.settings, scan.phases))
        bar = stack.enter_context(ProgressBar("rendering", rows * columns, visible=progress, unit="frames"))
        counts = np.zeros(3, np.int64)
        for row in range(rows):  # a row at a time, so that Ctrl-C is heard soon
            frames.write_rows(row, scan.read_rows(row, row + 1))
            found, true = scan.true_peak_rows(row, row + 1), scan.truth_rows(row, row + 1)
            peaks.write_rows(found)
            truth.write_rows(row, true)
            counts += [found.n_peaks, true.vacuum.sum(), true.overlap.sum()]
            bar.advance(columns)
    return WrittenScan(files, *map(int, counts))
