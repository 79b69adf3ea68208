"""Detector pixels without a right signal: found from the frames themselves, and filled from their neighbours."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from microinfer.frames.source import FrameSource

Mask = NDArray[np.bool_]
Image = NDArray[np.float64]

SAMPLE = 96  # frames that are looked at
FEWEST = 8  # frames that show which pixels never change
CLEAR = 4.5  # a signal over its noise that is one, as 20 electrons are
HOT = 4.0  # over the brightest neighbour: the sharpest spot of a beam reaches its neighbours with a quarter
OFTEN = 0.9  # share of the frames in which a hot pixel stands out
WEAK = 0.2  # of the neighbours
LINE = 1.5  # over the rows beside, everywhere along a row: the wide pixels between a detector's chips
PARTS = 8  # of a row, each of which must say so
NEIGHBOURS = 8  # that fill a pixel

_AROUND = np.ones((3, 3), bool)
_RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def find_defects(source: FrameSource, known: Mask | None = None) -> Mask:
    """Find hot, dead and stuck pixels, gaps between a detector's chips and areas that never change.

    A sample of frames over the whole scan is looked at, and each pixel compared with its neighbours: Bragg disks are
    wider than a pixel, and brighter in some frames than in others. Shadows, of a beam stop say, that scattered
    electrons light up are not found: give them.

    Parameters
    ----------
    source : FrameSource
        The scan. Of fewer than eight frames only single hot and weak pixels and lines are found.
    known : ndarray of bool, shape (Qx, Qy), optional
        Pixels that are known to be without a right signal: a beam stop, the detector's cross.

    Returns
    -------
    ndarray of bool, shape (Qx, Qy)
        True where there is no right signal: what was found, what is `known` and what the file marks (``source.mask``).

    Raises
    ------
    ValueError
        Where `known` has another shape than the frames, and where no pixel is left.
    """
    mask = np.zeros(source.frame_shape, bool)
    for given in (known, source.mask):
        if given is not None:
            mask |= _checked(given, source.frame_shape)
    sample = _Sample(source)
    mask |= ~np.isfinite(sample.mean)
    mask |= sample.hot() | sample.weak() | _lines(sample.mean) | _lines(sample.mean.T).T
    if sample.count >= FEWEST:
        mask |= sample.unchanging()
    if mask.all():
        raise ValueError("no detector pixel is left: all are masked, or have no number in some frame")
    return mask


def repair(frames: NDArray[Any], mask: Mask) -> NDArray[np.float32]:
    """Fill pixels from the nearest ones that are not masked, by the inverse square of their distance.

    Parameters
    ----------
    frames : ndarray, shape (..., Qx, Qy)
        Of any real type.
    mask : ndarray of bool, shape (Qx, Qy)
        True where a pixel is to be filled; see `find_defects`.

    Returns
    -------
    ndarray of float32, shape (..., Qx, Qy)
        New frames.

    Raises
    ------
    ValueError
        Where the mask has another shape than the frames, or leaves no pixel.
    """
    mask = _checked(mask, frames.shape[-2:])
    repaired = frames.astype(np.float32)
    if mask.any():
        index, weights = _filling(mask.tobytes(), mask.shape)
        pixels = repaired.reshape(-1, mask.size)
        pixels[:, np.flatnonzero(mask)] = np.einsum("fmn,mn->fm", pixels[:, index], weights)
    return repaired


@lru_cache(maxsize=4)
def _filling(content: bytes, shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The pixels that fill each masked one, and their weights, shapes (masked, neighbours)."""
    mask = np.frombuffer(content, bool).reshape(shape)
    good = np.argwhere(~mask)
    if not len(good):
        raise ValueError("the mask leaves no pixel")
    distance, nearest = cKDTree(good).query(np.argwhere(mask), min(NEIGHBOURS, len(good)))
    distance, nearest = distance.reshape(int(mask.sum()), -1), nearest.reshape(int(mask.sum()), -1)
    weights = 1 / distance**2
    weights /= weights.sum(axis=1, keepdims=True)
    return np.flatnonzero(~mask)[nearest], weights.astype(np.float32)


class _Sample:
    """What a sample of frames, spread over the scan, says of each pixel."""

    def __init__(self, source: FrameSource) -> None:
        rows, columns = source.scan_shape
        many = min(rows, max(1, round((SAMPLE * rows / columns) ** 0.5), -(-SAMPLE // columns)))
        total, squares = np.zeros((2, *source.frame_shape))
        self.count, standing_out = 0, np.zeros(source.frame_shape, int)
        low, high = np.full(source.frame_shape, np.inf), np.full(source.frame_shape, -np.inf)
        for row in np.unique(np.linspace(0, rows - 1, many).round().astype(int)):
            frames = source.read_rows(int(row), int(row) + 1)[0]
            for frame in frames[:: max(1, columns * many // SAMPLE)].astype(np.float64):
                total += frame
                squares += frame**2
                np.fmin(low, frame, out=low)
                np.fmax(high, frame, out=high)
                standing_out += frame > _brightest_neighbour(frame)
                self.count += 1
        self.mean = total / self.count
        with np.errstate(invalid="ignore"):
            spread = np.sqrt(np.maximum(squares / self.count - self.mean**2, 0.0))
        self.error = spread / max(1, self.count - 1) ** 0.5 if self.count > 1 else np.sqrt(np.abs(self.mean))
        self.low, self.high, self.standing_out = low, high, standing_out / self.count

    def hot(self) -> Mask:
        """Single pixels that outshine all their neighbours, in almost every frame."""
        background = ndimage.median_filter(self.mean, 5)
        signal = self.mean - background
        bright = signal > HOT * np.maximum(_brightest_neighbour(signal), 0.0)
        bright &= self.mean > LINE * _brightest_neighbour(self.mean)
        hot: Mask = bright & (signal > CLEAR * self.error) & (self.standing_out >= OFTEN)
        return hot

    def weak(self) -> Mask:
        """Single pixels that see little of what their neighbours see."""
        around = ndimage.percentile_filter(self.mean, 50, footprint=_RING)
        error = ndimage.percentile_filter(self.error, 50, footprint=_RING)
        weak: Mask = (self.mean < WEAK * around) & (around > 2 * CLEAR * error)
        return weak

    def unchanging(self) -> Mask:
        """Pixels and areas of one value in all frames, within others that have a clear signal."""
        constant: Mask = self.low == self.high
        labels, _ = ndimage.label(constant, _AROUND)
        mask: Mask = np.zeros(constant.shape, bool)
        with np.errstate(divide="ignore", invalid="ignore"):
            clear = self.mean / self.error > CLEAR
        for label, place in enumerate(ndimage.find_objects(labels), 1):
            near = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in place)
            area = labels[near] == label
            border = ndimage.binary_dilation(area, _AROUND) & ~constant[near]
            if not border.any() or clear[near][border].mean() < 0.5:
                continue
            value = float(self.mean[near][area][0])
            # a bright beam may fill the pixels it falls on in every frame: it fades towards those beside
            if value <= 0 or np.median(self.mean[near][border]) < value / HOT:
                mask[near] |= area
        return mask


def _brightest_neighbour(image: Image) -> Image:
    padded = np.pad(image, 1, constant_values=-np.inf)
    rows, columns = image.shape
    brightest = np.full(image.shape, -np.inf)
    for down, right in np.argwhere(_RING):
        np.fmax(brightest, padded[down : down + rows, right : right + columns], out=brightest)
    return brightest


def _lines(image: Image) -> Mask:
    """Rows that are brighter, or darker, than those around them all along."""
    parts = [part.sum(axis=1) for part in np.array_split(np.nan_to_num(image), PARTS, axis=1)]
    rows = np.maximum(np.stack(parts), 0.0)  # (parts, rows)
    beside = ndimage.median_filter(rows, (1, 9), mode="mirror")
    lit = beside > 0
    bright, dark = (rows > LINE * beside) & lit, (rows * LINE < beside) & lit
    found = bright.all(axis=0) | dark.all(axis=0)
    return np.repeat(found[:, None], image.shape[1], axis=1)


def _checked(mask: Mask, shape: tuple[int, ...]) -> Mask:
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != tuple(shape):
        raise ValueError(
            f"a mask must be true or false for each pixel, of the frames' shape {tuple(shape)}, got {mask.dtype} of "
            f"the shape {mask.shape}"
        )
    return mask
