"""Bragg peaks in whatever form a user has them: in memory, in py4DSTEM, in a file."""

from contextlib import ExitStack
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.open import open_peaks
from microinfer.peaks.scan import PeakSource

if TYPE_CHECKING:
    from py4DSTEM import BraggVectors

    AnyScan: TypeAlias = PeakSource | BraggVectors | str | PathLike[str]


def peak_source(peaks: "AnyScan", stack: ExitStack) -> PeakSource:
    """Return what reads the peaks of a scan.

    Parameters
    ----------
    peaks : BraggPeaks, BraggVectors, reader or path
        As in `microinfer.map_orientations`.
    stack : ExitStack
        Closes what is opened here.

    Raises
    ------
    TypeError
        For anything else.
    ValueError, OSError
        As in `microinfer.open_peaks`.
    """
    if isinstance(peaks, str | PathLike):
        return stack.enter_context(open_peaks(peaks))
    if hasattr(peaks, "read_rows"):
        return peaks
    if not hasattr(peaks, "Rshape"):
        kind = f"{type(peaks).__module__}.{type(peaks).__qualname__}"
        raise TypeError(f"peaks must be BraggPeaks, BraggVectors of py4DSTEM, a reader or a path, got {kind}")
    return BraggPeaks.from_py4dstem(peaks)
