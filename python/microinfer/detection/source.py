"""The peaks of a scan in whatever form a user has it: peaks, or the frames to find them in."""

from contextlib import ExitStack
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

from microinfer.file_kinds import FileKind, file_kind
from microinfer.peaks.scan import PeakSource
from microinfer.peaks.source import peak_source

if TYPE_CHECKING:
    from microinfer.detection.find import AnyFrames
    from microinfer.peaks.source import AnyScan

    AnyScanOrFrames: TypeAlias = AnyScan | AnyFrames


def scan_source(scan: "AnyScanOrFrames", stack: ExitStack) -> PeakSource:
    """Return what gives the peaks of a scan.

    Parameters
    ----------
    scan : BraggPeaks, BraggVectors, reader, frames or path
        As in `microinfer.map_orientations`.
    stack : ExitStack
        Closes what is opened here.

    Raises
    ------
    TypeError
        For anything else.
    ValueError, OSError
        As in `microinfer.open_peaks` and `microinfer.find_peaks`.
    """
    if not holds_frames(scan):
        return peak_source(scan, stack)
    from microinfer.detection.detected_scan import DetectedScan
    from microinfer.detection.find import frame_source

    return stack.enter_context(DetectedScan(frame_source(scan, stack)))


def holds_frames(scan: object) -> bool:
    """Whether a scan is given by its frames: a path, an array (Rx, Ry, Qx, Qy), py4DSTEM's DataCube or a FrameSource.

    Raises
    ------
    OSError
        For a path where there is no file, or one that cannot be read.
    """
    if isinstance(scan, str | PathLike):
        if file_kind(scan) is FileKind.PEAKS:  # without what readers of cameras import
            return False
        from microinfer.frames.open import is_frames

        return is_frames(scan)
    shape = getattr(getattr(scan, "data", scan), "shape", getattr(scan, "frame_shape", ()))
    return hasattr(scan, "frame_shape") or len(shape) == 4
