"""Templates of a Bragg disk: from the direct beam, or made from a radius."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.special import erfc

OUTER = 2.0  # of a template, in radii: farther out is none of it
BEAMS = 64  # that are looked at, at most
BLUR = 0.27  # variance that pixels and their mean over centred beams add to an edge, in pixels squared
EXTENT = 0.97  # share of a disk's counts within its extent


@dataclass(frozen=True, eq=False)
class Probe:
    """What a Bragg disk looks like.

    Attributes
    ----------
    image : ndarray of float32, shape (Qx, Qy)
        The disk around the pixel (Qx // 2, Qy // 2), without background; its sum is 1.
    radius : float
        Of the disk in pixels, where it has fallen to half.

    Raises
    ------
    ValueError
        For an image that is none, and a radius that is not positive or does not fit into the frame.
    """

    image: NDArray[np.float32]
    radius: float

    def __post_init__(self) -> None:
        image = np.asarray(self.image, np.float64)
        if image.ndim != 2:
            raise ValueError(f"the probe's image must have the shape (Qx, Qy), got {image.shape}")
        if not np.isfinite(image).all() or not image.sum() > 0:
            raise ValueError("the probe's image must hold finite numbers with a positive sum")
        _require_radius(self.radius, image.shape)
        object.__setattr__(self, "image", (image / image.sum()).astype(np.float32))
        object.__setattr__(self, "radius", float(self.radius))

    @cached_property
    def extent(self) -> float:
        """Radius within which `EXTENT` of the counts lie, in pixels; at least `radius`."""
        distance = distance_from(
            (self.image.shape[0] // 2, self.image.shape[1] // 2), self.image.shape
        ).ravel()
        radii, index = np.unique(distance, return_inverse=True)
        share = np.cumsum(np.bincount(index.ravel(), self.image.ravel().astype(np.float64)))
        return max(float(np.interp(EXTENT, share, radii)), self.radius)

    @property
    def ring(self) -> tuple[float, float]:
        """Inner and outer radius of the ring around a disk that gives the background below it, in pixels."""
        return self.extent, self.extent + max(0.8 * self.radius, 1.5)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(Qx, Qy), of the frames that it is for."""
        rows, columns = self.image.shape
        return rows, columns

    @classmethod
    def disk(cls, radius: float, frame_shape: tuple[int, int], edge: float = 0.5) -> "Probe":
        """Make a flat disk with a soft edge.

        Parameters
        ----------
        radius : float
            In pixels, where it falls to half.
        frame_shape : tuple of int
            (Qx, Qy) of the frames.
        edge : float, default: 0.5
            Standard deviation of the Gaussian that blurs the edge, in pixels.
        """
        _require_radius(radius, frame_shape)
        if not (np.isfinite(edge) and edge > 0):
            raise ValueError(f"edge must be positive and finite, got {edge}")
        fine = 5  # samples a pixel, in each direction
        inside = (np.arange(fine) + 0.5) / fine - 0.5
        x, y = ((np.arange(size) - size // 2)[:, None] + inside for size in frame_shape)
        r = np.hypot(x.reshape(-1, 1), y.reshape(1, -1))
        image = 0.5 * erfc((r - radius) / (np.sqrt(2.0) * edge))
        return cls(image.reshape(len(x), fine, len(y), fine).mean((1, 3)).astype(np.float32), radius)

    @classmethod
    def spot(cls, sigma: float, frame_shape: tuple[int, int]) -> "Probe":
        """Make a Gaussian spot, for a parallel beam.

        Parameters
        ----------
        sigma : float
            Standard deviation in pixels.
        frame_shape : tuple of int
            (Qx, Qy) of the frames.
        """
        radius = sigma * np.sqrt(2.0 * np.log(2.0))
        _require_radius(radius, frame_shape)
        x, y = (np.arange(size) - size // 2 for size in frame_shape)
        image = np.exp(-(x[:, None] ** 2 + y[None] ** 2) / (2.0 * sigma**2))
        return cls(image.astype(np.float32), max(radius, 1.0))

    @classmethod
    def from_frames(cls, frames: ArrayLike, good: NDArray[np.bool_] | None = None) -> "Probe":
        """Take the template from frames that hold the direct beam alone, those of a vacuum scan or region.

        Their beams are centred one by one and averaged, the background around is taken off.

        Parameters
        ----------
        frames : array_like, shape (N, Qx, Qy)
        good : ndarray of bool, shape (Qx, Qy), optional
            Pixels that count.

        Raises
        ------
        ValueError
            Where no beam stands out.
        """
        beam = measure_beam(frames, good)
        return cls(beam.image.astype(np.float32), beam.radius)


def any_probe(
    given: "Probe | float | ArrayLike | None",
    frame_shape: tuple[int, int],
    frames: NDArray[np.float32],
    good: NDArray[np.bool_],
    centre: tuple[float, float] | None,
) -> Probe:
    """Return the template that was given in any form, else a flat disk like the direct beam of some frames.

    Parameters
    ----------
    given : Probe, float, array_like or None
        As in `microinfer.find_peaks`.
    frame_shape : tuple of int
        (Qx, Qy).
    frames : ndarray of float32, shape (N, Qx, Qy)
        Some of the scan's frames.
    good : ndarray of bool, shape (Qx, Qy)
        Pixels that count.
    centre : tuple of float or None
        About where the direct beam is, in pixels.

    Raises
    ------
    ValueError
        Where the template does not fit the frames, or no direct beam stands out.
    """
    if given is None:
        beam = measure_beam(frames, good, centre)
        return Probe.disk(beam.radius, frame_shape, beam.edge)
    if isinstance(given, Probe):
        if given.frame_shape != frame_shape:
            raise ValueError(
                f"the probe is for frames of {given.frame_shape} pixels, the scan's are {frame_shape}"
            )
        return given
    values = np.asarray(given)
    if values.ndim == 0:
        return Probe.disk(float(values), frame_shape)
    if values.shape[-2:] != frame_shape:
        raise ValueError(
            f"the probe's frames must have the shape {frame_shape} of the scan's, got {values.shape}"
        )
    return Probe.from_frames(values.reshape(-1, *frame_shape), good)


@dataclass(frozen=True, eq=False)
class Beam:
    """The direct beam of some frames.

    Attributes
    ----------
    centre : tuple of float
        Its place in the mean frame, in pixels.
    radius : float
        Where its mean profile falls to half, in pixels.
    edge : float
        Standard deviation of the Gaussian that blurs the edge, in pixels.
    image : ndarray, shape (Qx, Qy)
        Mean of the centred beams around (Qx // 2, Qy // 2), without background and all that is farther than
        `OUTER` radii.
    """

    centre: tuple[float, float]
    radius: float
    edge: float
    image: NDArray[np.float64]


def measure_beam(
    frames: ArrayLike, good: NDArray[np.bool_] | None = None, centre: tuple[float, float] | None = None
) -> Beam:
    """Measure the direct beam, the brightest disk of the mean frame.

    Parameters
    ----------
    frames : array_like, shape (N, Qx, Qy)
    good : ndarray of bool, shape (Qx, Qy), optional
        Pixels that count.
    centre : tuple of float, optional
        About where it is, in pixels.

    Raises
    ------
    ValueError
        Where no beam stands out.
    """
    stack = np.asarray(frames, np.float32)
    stack = stack[:: -(-len(stack) // BEAMS)]
    mean = stack.mean(0, dtype=np.float64)
    if good is not None and not good.all():
        nearest = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
        stack = stack[:, nearest[0], nearest[1]]
        mean = mean[nearest[0], nearest[1]]
    if centre is None:
        smooth = ndimage.gaussian_filter(mean, max(1.0, min(mean.shape) / 100.0))
        start = np.unravel_index(int(smooth.argmax()), mean.shape)
        centre = (float(start[0]), float(start[1]))
    radius, _, _ = _profile_radius(mean, centre)
    centre = _centre_of_mass(mean, centre, radius)
    radius, _, _ = _profile_radius(mean, centre)
    half = np.array(mean.shape) // 2
    total = np.zeros_like(mean)
    for frame in stack:
        at = _centre_of_mass(frame, centre, radius)
        total += ndimage.shift(frame.astype(np.float64), half - at, order=1, mode="nearest")
    image = total / len(stack)
    middle = (float(half[0]), float(half[1]))
    radius, edge, background = _profile_radius(image, middle)
    distance = distance_from(middle, image.shape)
    image = np.where(distance <= OUTER * radius + 1.0, image - background, 0.0)
    return Beam(centre, radius, edge, np.maximum(image, 0.0))


def _profile_radius(image: NDArray[np.float64], centre: tuple[float, float]) -> tuple[float, float, float]:
    """Radius, edge width and background of the disk around a centre, from its azimuthal mean."""
    distance = distance_from(centre, image.shape)
    size = int(min(image.shape) // 2)
    bins = np.minimum((2.0 * distance).astype(int), 2 * size)
    count = np.bincount(bins.ravel(), minlength=2 * size + 1)[: 2 * size]
    total = np.bincount(bins.ravel(), image.ravel(), 2 * size + 1)[: 2 * size]
    known = count > 0
    r = (np.arange(2 * size) / 2.0 + 0.25)[known]
    profile = (total[known] / count[known]).astype(np.float64)
    background = float(np.median(profile))
    radius = float("nan")
    for _ in range(8):  # plateau and background depend on the radius
        plateau = (
            profile[0] if np.isnan(radius) else np.median(profile[r <= max(0.7 * radius, r[0])])
        ) - background
        if not plateau > 0:
            raise ValueError("no direct beam stands out of the frames: give probe=..., a radius in pixels")
        below = np.flatnonzero(profile - background < 0.5 * plateau)
        if len(below) == 0 or below[0] == 0:
            raise ValueError("no direct beam stands out of the frames: give probe=..., a radius in pixels")
        radius = _crossing(r, profile - background, int(below[0]), 0.5 * plateau)
        ring = (r > 1.6 * radius + 1.0) & (r < 2.4 * radius + 3.0)
        if ring.any():
            background = float(np.min(profile[ring]))
    inner, outer = (
        _crossing(
            r, profile - background, _first_below(profile - background, share * plateau), share * plateau
        )
        for share in (0.84, 0.16)
    )
    edge = np.sqrt(max((0.5 * (outer - inner)) ** 2 - BLUR, 0.0))
    return radius, float(np.clip(edge, 0.3, 0.5 * radius + 0.3)), background


def _first_below(profile: NDArray[np.float64], level: float) -> int:
    below = np.flatnonzero(profile < level)
    return int(below[0]) if len(below) else len(profile) - 1


def _crossing(r: NDArray[np.float64], profile: NDArray[np.float64], index: int, level: float) -> float:
    """Where a profile that is below a level at an index falls to it."""
    if index == 0:
        return float(r[0])
    before, after = profile[index - 1], profile[index]
    share = (before - level) / (before - after) if before > after else 0.0
    return float(r[index - 1] + min(max(share, 0.0), 1.0) * (r[index] - r[index - 1]))


def _centre_of_mass(
    image: NDArray[np.floating[Any]], centre: ArrayLike, radius: float
) -> tuple[float, float]:
    """Centre of mass within a disk a little larger than the beam, without the background around."""
    at = np.asarray(centre, np.float64)
    for _ in range(5):
        low = np.maximum(np.floor(at - 2.0 * radius - 2.0), 0).astype(int)
        high = np.minimum(np.ceil(at + 2.0 * radius + 3.0), image.shape).astype(int)
        part = image[low[0] : high[0], low[1] : high[1]].astype(np.float64)
        x, y = np.arange(low[0], high[0])[:, None] - at[0], np.arange(low[1], high[1])[None] - at[1]
        distance = np.hypot(x, y)
        inside = distance <= 1.3 * radius + 1.0
        ring = (distance > 1.5 * radius + 1.0) & (distance <= 2.0 * radius + 2.0)
        weight = np.where(inside, part - (np.median(part[ring]) if ring.any() else 0.0), 0.0)
        total = weight.sum()
        if not total > 0:
            break
        step = np.array([(weight * x).sum(), (weight * y).sum()]) / total
        step = np.clip(step, -radius, radius)
        at = np.clip(at + step, 0.0, np.array(image.shape) - 1.0)
        if np.abs(step).max() < 0.01:
            break
    return float(at[0]), float(at[1])


def distance_from(centre: tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Distance of each pixel of an image of a shape from a centre, in pixels."""
    x, y = np.arange(shape[0]) - centre[0], np.arange(shape[1]) - centre[1]
    distance: NDArray[np.float64] = np.hypot(x[:, None], y[None])
    return distance


def _require_radius(radius: float, shape: tuple[int, ...]) -> None:
    if not (np.isfinite(radius) and 0 < radius <= min(shape) / 4):
        raise ValueError(
            f"the probe's radius must be positive and at most a quarter of the frame of {shape[0]} x {shape[1]} "
            f"pixels, got {radius}"
        )
