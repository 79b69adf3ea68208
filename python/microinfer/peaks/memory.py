"""Bragg peaks of BraggVectors that py4DSTEM holds in memory: what reading their file would give."""

from typing import TYPE_CHECKING

import numpy as np

from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.peaks.calibration import calibration_items, read_calibration, read_scan_step
from microinfer.peaks.records import join_lists

if TYPE_CHECKING:
    from py4DSTEM import BraggVectors


def peaks_in_memory(vectors: "BraggVectors", pixel_size: float | None) -> BraggPeaks:
    """Calibrate BraggVectors; arguments, answer and errors as in `BraggPeaks.from_py4dstem`."""
    if not (hasattr(vectors, "raw") and hasattr(vectors, "Rshape")):
        kind = f"{type(vectors).__module__}.{type(vectors).__qualname__}"
        raise TypeError(f"vectors must be BraggVectors of py4DSTEM 0.14, got {kind}")
    rows, columns = (int(n) for n in vectors.Rshape)
    # what is saved: of files of 0.13 that 0.14 opened, vectors.raw shows nothing
    lists = [vectors._v_uncal[rx, ry].data for rx in range(rows) for ry in range(columns)]
    offsets, (qx, qy, intensity) = join_lists(lists)
    try:
        if vectors.calibration is None:
            raise ValueError("there is no calibration: calibrate in py4DSTEM")
        items = calibration_items({key: vectors.calibration[key] for key in vectors.calibration.keys})
        calibration = read_calibration(items, (rows, columns), pixel_size)
        qx, qy = calibration.apply(qx, qy, np.diff(offsets), 0, rows)
        with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite and is refused as such
            table = np.stack([qx, qy, intensity]).astype(np.float32)
        step, units = read_scan_step(items)
        qr_calibrated = calibration.rotation is not None
        return BraggPeaks(offsets, table[0], table[1], table[2], (rows, columns), step, units, qr_calibrated)
    except ValueError as error:
        raise ValueError(f"BraggVectors {vectors.name!r}: {error}") from error
