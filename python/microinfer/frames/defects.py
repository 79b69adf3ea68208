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
BRIGHT = 1.5  # times as bright: the wide pixels between a detector's chips, and the least of a hot pixel
PARTS = 8  # in which a row is looked at
MOST = 0.75  # of the parts that must be bright, or dark
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
    mask |= sample.invalid
    if sample.count >= FEWEST:
        mask |= sample.unchanging()
    _require_pixels(mask)
    mean, error = repair(sample.mean, mask).astype(float), repair(sample.error, mask).astype(float)
    single = _hot(mean, error) & (sample.standing_out >= OFTEN)
    return mask | single | _weak(mean, error) | _lines(mean, error) | _lines(mean.T, error.T).T


def _require_pixels(mask: Mask) -> None:
    if mask.all():
        raise ValueError("no detector pixel is left: all are masked, or have no number in some frame")


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
        self.invalid = np.zeros(source.frame_shape, bool)
        self.low, self.high = np.full(source.frame_shape, np.inf), np.full(source.frame_shape, -np.inf)
        for row in np.unique(np.linspace(0, rows - 1, many).round().astype(int)):
            frames = source.read_rows(int(row), int(row) + 1)[0]
            for frame in frames[:: max(1, columns * many // SAMPLE)].astype(np.float64):
                self.invalid |= ~np.isfinite(frame)
                frame[self.invalid] = 0.0
                total += frame
                squares += frame**2
                np.minimum(self.low, frame, out=self.low)
                np.maximum(self.high, frame, out=self.high)
                standing_out += frame > _brightest_neighbour(frame)
                self.count += 1
        self.mean, self.standing_out = total / self.count, standing_out / self.count
        if self.count > 1:
            variance = np.maximum(squares / self.count - self.mean**2, 0.0)
            self.error = np.sqrt(variance / (self.count - 1))
        else:  # as of counts
            self.error = np.sqrt(np.abs(self.mean))

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


def _hot(mean: Image, error: Image) -> Mask:
    """Single pixels that outshine all their neighbours."""
    signal = mean - ndimage.median_filter(mean, 5)
    hot: Mask = signal > HOT * np.maximum(_brightest_neighbour(signal), 0.0)
    hot &= (signal > CLEAR * error) & (mean > BRIGHT * _brightest_neighbour(mean))
    return hot


def _weak(mean: Image, error: Image) -> Mask:
    """Single pixels that see little of what their neighbours see."""
    around, noise = (ndimage.percentile_filter(image, 50, footprint=_RING) for image in (mean, error))
    weak: Mask = (mean < WEAK * around) & (around > 2 * CLEAR * noise)
    return weak


def _brightest_neighbour(image: Image) -> Image:
    padded = np.pad(image, 1, constant_values=-np.inf)
    rows, columns = image.shape
    brightest = np.full(image.shape, -np.inf)
    for down, right in np.argwhere(_RING):
        np.maximum(brightest, padded[down : down + rows, right : right + columns], out=brightest)
    return brightest


def _lines(mean: Image, error: Image) -> Mask:
    """Rows that are brighter, or darker, than those around them almost all along, between the spots."""
    width = mean.shape[1]
    parts = [
        slice(n * width // PARTS, (n + 1) * width // PARTS) for n in range(PARTS if width >= PARTS else 0)
    ]
    if not parts:
        return np.zeros(mean.shape, bool)
    rows = np.stack([np.median(mean[:, part], axis=1) for part in parts])  # (parts, rows)
    noise = np.stack([np.sqrt((error[:, part] ** 2).mean(axis=1) / (width // PARTS)) for part in parts])
    middle = ndimage.median_filter(rows, (1, 5))
    above, below = (
        np.full_like(rows, np.nan),
        np.full_like(rows, np.nan),
    )  # where a side is missing, nothing is told
    above[:, 5:], below[:, :-5] = middle[:, 2:-3], middle[:, 3:-2]
    brighter, darker = np.maximum(above, below), np.minimum(above, below)
    bright = (rows > BRIGHT * brighter) & (rows > brighter + CLEAR * noise)
    dark = (BRIGHT * rows < darker) & (rows < darker - CLEAR * noise)
    found = np.maximum(bright.mean(axis=0), dark.mean(axis=0)) >= MOST
    return np.repeat(found[:, None], width, axis=1)


def _checked(mask: Mask, shape: tuple[int, ...]) -> Mask:
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != tuple(shape):
        raise ValueError(
            f"a mask must be true or false for each pixel, of the frames' shape {tuple(shape)}, got {mask.dtype} of "
            f"the shape {mask.shape}"
        )
    return mask
