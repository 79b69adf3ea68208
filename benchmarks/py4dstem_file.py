"""Files of Bragg peaks in py4DSTEM's layout of any size, written block by block."""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import py4DSTEM

from microinfer.peaks.bragg_peaks import BraggPeaks

PIXEL_SIZE = 0.02  # 1/Angstrom
CENTRE = 128.0  # detector pixels
PEAK = np.dtype([("qx", np.float64), ("qy", np.float64), ("intensity", np.float64)])


def write_py4dstem(
    path: Path, blocks: Iterable[BraggPeaks], scan_shape: tuple[int, int], rng: np.random.Generator
) -> None:
    """Write peaks as py4DSTEM does: detector pixels, a centre for each position, pixel size.

    py4DSTEM itself writes the file, for a scan of one position; the peaks and centres of the whole scan take the
    place of that one's.
    """
    centre = CENTRE + rng.uniform(-1.0, 1.0, (2, *scan_shape))
    vectors = py4DSTEM.BraggVectors(scan_shape, (256, 256), name="braggvectors")
    vectors.calibration.set_origin((centre[0], centre[1]))
    vectors.calibration.set_Q_pixel_size(PIXEL_SIZE)
    vectors.calibration.set_Q_pixel_units("A^-1")
    vectors.setcal()
    py4DSTEM.save(str(path), vectors, mode="o")
    with h5py.File(path, "r+") as file:
        dataset = file["braggvectors_root/braggvectors/_v_uncal/data"]
        row = 0
        for block in blocks:
            rows, columns = block.scan_shape
            origin = np.repeat(centre[:, row : row + rows].reshape(2, -1), block.counts, axis=1)
            points = np.empty(block.n_peaks, PEAK)
            points["qx"] = block.qx / PIXEL_SIZE + origin[0]
            points["qy"] = block.qy / PIXEL_SIZE + origin[1]
            points["intensity"] = block.intensity
            lists = np.empty(len(block), object)
            for index, (first, last) in enumerate(zip(block.offsets[:-1], block.offsets[1:], strict=True)):
                lists[index] = points[first:last]
            dataset[row : row + rows] = lists.reshape(rows, columns)
            row += rows
