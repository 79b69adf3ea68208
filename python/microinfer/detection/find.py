"""From the frames of a scan, in whatever form a user has them, to its Bragg peaks."""

from contextlib import ExitStack
from dataclasses import fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from microinfer.detection.detected_scan import DetectedScan, joined
from microinfer.detection.probe import Probe
from microinfer.detection.settings import DetectionSettings
from microinfer.frames.source import Frames, FrameSource
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.scan import Scan
from microinfer.progress import ProgressBar

if TYPE_CHECKING:
    from py4DSTEM import DataCube

    AnyFrames: TypeAlias = FrameSource | DataCube | ArrayLike | str | PathLike[str]


def find_peaks(
    frames: "AnyFrames",
    *,
    pixel_size: float | None = None,
    probe: "Probe | float | ArrayLike | None" = None,
    centre: tuple[float, float] | None = None,
    mask: ArrayLike | None = None,
    progress: bool = False,
    settings: DetectionSettings | None = None,
    **thresholds: Any,
) -> BraggPeaks:
    """Find the Bragg peaks in the frames of a scan.

    Each frame is correlated with a template of a disk, whose kernel takes the diffuse background away; the maxima that
    stand out of the noise are the peaks. They are measured from the direct beam of their own frame.

    Parameters
    ----------
    frames : path, array_like of shape (Rx, Ry, Qx, Qy), py4DSTEM.DataCube or FrameSource
        The scan: a camera's file (see `microinfer.open_frames`), or frames in memory.
    pixel_size : float, optional
        1/Angstrom per detector pixel, where the frames do not state it or state it wrongly. 1 gives pixels.
    probe : Probe, float or array_like, optional
        Template of a disk: a `Probe`, a radius in pixels, or vacuum frames, (Qx, Qy) or (..., Qx, Qy). By default a
        flat disk like the direct beam.
    centre : tuple of float, optional
        About where the direct beam is, in pixels, where it is not the strongest disk. It is taken as it is where no
        disk is found there, as below a beam stop.
    mask : array_like of bool, shape (Qx, Qy), optional
        True for detector pixels without a right signal, such as those of a beam stop. They are filled from others near,
        and no peak lies on them. What `microinfer.frames.find_defects` finds on the frames is added.
    progress : bool, default: False
        Show a progress bar on standard error.
    settings : DetectionSettings, optional
        All thresholds and filters together.
    **thresholds
        Or some of them: the fields of `microinfer.detection.DetectionSettings`.

    Returns
    -------
    BraggPeaks
        In 1/Angstrom; intensities are the counts within the disks, less the background around. The direct beam is
        among the peaks.

    Raises
    ------
    ValueError
        Where the pixel size is not known, a template or mask does not fit the frames, no direct beam stands out to make
        a template from, or a frame holds NaN or infinity. The message names what to give.
    TypeError
        For frames that are none, and settings that there are not.
    OSError
        For files that cannot be read.

    References
    ----------
    The Methods of the paper. Names of settings are those of py4DSTEM's ``find_Bragg_disks``.
    """
    with ExitStack() as stack:
        known = [field.name for field in fields(DetectionSettings)]
        if unknown := sorted(set(thresholds) - set(known)):
            raise TypeError(
                f"find_peaks has no argument {', '.join(unknown)}; settings are {', '.join(known)}; what a file does "
                "not state is given by microinfer.open_frames(path, scan_shape=..., pixel_size=..., voltage=...)"
            )
        chosen = replace(DetectionSettings() if settings is None else settings, **thresholds)
        scan = DetectedScan(
            frame_source(frames, stack),
            probe=probe,
            pixel_size=pixel_size,
            centre=centre,
            mask=mask,
            settings=chosen,
        )
        positions = scan.scan_shape[0] * scan.scan_shape[1]
        blocks = []
        with ProgressBar("finding disks", positions, unit="frames", visible=progress) as bar:
            for block in scan.blocks():
                blocks.append(block)
                bar.advance(len(block))
    return joined(blocks, scan.scan)


def frame_source(frames: "AnyFrames", stack: ExitStack) -> FrameSource:
    """Return what reads the frames of a scan; `stack` closes what is opened here. Errors as `find_peaks`."""
    if isinstance(frames, FrameSource):
        return frames
    if isinstance(frames, str | PathLike):
        from microinfer.frames.open import open_frames

        source: FrameSource = stack.enter_context(open_frames(frames))
        return source
    if hasattr(frames, "Rshape") and hasattr(frames, "data"):
        return _datacube(frames)
    array = frames if hasattr(frames, "shape") and hasattr(frames, "dtype") else np.asarray(frames)
    if np.dtype(array.dtype).kind not in "iuf":
        raise TypeError(f"frames must hold real numbers, got {array.dtype}")
    return Frames(array)


def _datacube(cube: Any) -> Frames:
    calibration = cube.calibration
    known = calibration.get_Q_pixel_units() == "A^-1"
    step, units = calibration.get_R_pixel_size(), calibration.get_R_pixel_units()
    scan = Scan(tuple(cube.data.shape[:2]), step if units != "pixels" else 1.0, units)
    return Frames(cube.data, scan, float(calibration.get_Q_pixel_size()) if known else None)
