"""What is known of the way from detector pixels to 1/Angstrom, and from where; native files keep it with the peaks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import h5py
import numpy as np

from microinfer.hdf5 import attribute, find, require_stored, text
from microinfer.peaks.calibration import Calibration, Values, read_calibration

Source = Literal["file", "given", "measured"]
"""Who said a value: the file of camera or detection, the user, or `microinfer calibrate`."""

_WORDS = {"file": "stated by the file", "given": "given", "measured": "measured"}
_KEYS = {  # names of py4DSTEM's calibration, by what they belong to
    "origin": ("qx0", "qy0"),
    "ellipse": ("a", "b", "theta"),
    "pixel_size": ("Q_pixel_size",),
    "rotation": ("QR_rotation", "QR_flip"),
}
_ROWS = 64  # of a map of the origin, in one chunk
_UNKNOWN = (
    "the peaks are in detector pixels, and the size of a pixel is not known: give pixel_size=... in 1/Angstrom per "
    "pixel (--pixel-size), or have it measured with microinfer calibrate"
)

_NO_ORIGIN = (
    "the peaks are in pixels, and where the direct beam lies is not known: microinfer calibrate finds it"
)


@dataclass(frozen=True, eq=False)
class PixelCalibration:
    """The calibration of peaks that are kept in detector pixels, as far as it is known.

    It is applied where the peaks are read, in py4DSTEM's order: subtract the origin, undo the ellipse, multiply by the
    pixel size, turn to the scan's axes.

    Attributes
    ----------
    pixel_size : float or None
        1/Angstrom per pixel once the ellipse is undone, which is py4DSTEM's: along the ellipse's semi-axis b. None
        where it is not known.
    pixel_size_error : float or None
        Its standard error.
    ellipse : tuple of float or None
        Semi-axes a and b, of which the ratio counts, and the angle theta of a from qx in radians.
    origin : pair of float or of ndarray or dataset, shape (Rx, Ry), or None
        Where the direct beam lies, in the pixels of the peaks: 0 where the detection measured them from it. None where
        it is not known.
    rotation : float or None
        QR rotation from detector to scan, in radians.
    flip : bool
        Whether qx and qy are swapped before the rotation.
    sources : mapping of str to str
        By attribute, ``"file"``, ``"given"`` or ``"measured"``.
    note : str
        How it was measured, in a sentence.

    Raises
    ------
    ValueError
        Where a size is not positive, or a value not finite.
    """

    pixel_size: float | None = None
    pixel_size_error: float | None = None
    ellipse: tuple[float, float, float] | None = None
    origin: tuple[Values | float, Values | float] | None = (0.0, 0.0)
    rotation: float | None = None
    flip: bool = False
    sources: Mapping[str, Source] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("pixel_size", "pixel_size_error"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number in 1/Angstrom, got {value}")
        if self.ellipse is not None and not (np.all(np.isfinite(self.ellipse)) and min(self.ellipse[:2]) > 0):
            raise ValueError(
                f"ellipse must be two positive semi-axes and an angle in radians, got {self.ellipse}"
            )

    @property
    def ratio(self) -> float:
        """Semi-axis a over semi-axis b; 1 without an ellipse."""
        return 1.0 if self.ellipse is None else self.ellipse[0] / self.ellipse[1]

    @property
    def mean_pixel_size(self) -> float | None:
        """1/Angstrom per pixel, the geometric mean over the directions of the detector."""
        return None if self.pixel_size is None else self.pixel_size / float(np.sqrt(self.ratio))

    def given(self, pixel_size: float | None) -> "PixelCalibration":
        """The same with a pixel size that the user gave, where one was."""
        if pixel_size is None:
            return self
        sources = {**self.sources, "pixel_size": "given"}
        return replace(self, pixel_size=float(pixel_size), pixel_size_error=None, sources=sources)

    def items(self) -> dict[str, Any]:
        """As items of py4DSTEM's calibration; None for what is not known."""
        a, b, theta = (None, None, None) if self.ellipse is None else self.ellipse
        return {
            "qx0": None if self.origin is None else self.origin[0],
            "qy0": None if self.origin is None else self.origin[1],
            "a": a,
            "b": b,
            "theta": theta,
            "Q_pixel_size": self.pixel_size,
            "Q_pixel_units": "A^-1",
            "QR_rotation": self.rotation,
            "QR_rotation_degrees": None,
            "QR_flip": self.flip,
        }

    def applied(self, scan_shape: tuple[int, int]) -> Calibration:
        """What leads from the pixels to 1/Angstrom; ValueError, with the way out, where the pixel size is not known."""
        if self.origin is None:
            raise ValueError(_NO_ORIGIN)
        if self.pixel_size is None:
            raise ValueError(_UNKNOWN)
        return read_calibration(self.items(), scan_shape, None)

    def describe(self) -> dict[str, str]:
        """Values and where they come from, for people."""
        told = {}
        if self.pixel_size is None:
            told["pixel size"] = "not known"
        else:
            error = "" if self.pixel_size_error is None else f" ± {self.pixel_size_error:.2g}"
            told["pixel size"] = f"{self.pixel_size:.5g}{error} 1/Angstrom{self._from('pixel_size')}"
        if self.ellipse is not None:
            angle = np.degrees(self.ellipse[2]) % 180
            told["ellipse"] = f"a/b {self.ratio:.4f}, a at {angle:.1f} degrees{self._from('ellipse')}"
        if self.origin is not None:
            told["origin"] = (
                f"{_spread(self.origin[0])}, {_spread(self.origin[1])} pixels{self._from('origin')}"
            )
        if self.rotation is not None:
            swap = "swapped axes and " if self.flip else ""
            told["rotation"] = f"{swap}{np.degrees(self.rotation):g} degrees{self._from('rotation')}"
        if self.note:
            told["note"] = self.note
        return told

    def _from(self, name: str) -> str:
        return f" ({_WORDS[self.sources[name]]})" if name in self.sources else ""

    def write(self, group: h5py.Group) -> None:
        """Write it to a group: numbers as attributes, maps of the origin as datasets."""
        for name, keys in _KEYS.items():
            values = {key: self.items()[key] for key in keys}
            for key, value in values.items():
                if value is None:
                    continue
                if np.ndim(value):
                    rows = min(_ROWS, value.shape[0])
                    group.create_dataset(
                        key, data=value[()], chunks=(rows, value.shape[1]), fillvalue=np.nan, fletcher32=True
                    )
                else:
                    group.attrs[key] = value
            if name in self.sources:
                group.attrs[f"{name}_source"] = text(self.sources[name])
        if self.pixel_size_error is not None:
            group.attrs["Q_pixel_size_error"] = self.pixel_size_error
        if self.note:
            group.attrs["note"] = text(self.note)

    @classmethod
    def read(cls, group: h5py.Group) -> "PixelCalibration":
        """Read what `write` wrote; ValueError where it is malformed."""

        def number(key: str) -> float | None:
            return float(attribute(group, key, "a number")) if key in group.attrs else None

        def origin(key: str) -> Values | float | None:
            stored = find(group, key)
            if not isinstance(stored, h5py.Dataset):
                return number(key)
            require_stored(stored)
            return stored

        x, y = origin("qx0"), origin("qy0")
        a, b, theta = (number(key) for key in _KEYS["ellipse"])
        sources: dict[str, Source] = {}
        for name in _KEYS:
            if f"{name}_source" in group.attrs:
                source = attribute(group, f"{name}_source", "a text")
                if source not in _WORDS:
                    raise ValueError(f"{name}_source of {group.name} must be one of {', '.join(_WORDS)}")
                sources[name] = source
        return cls(
            number("Q_pixel_size"),
            number("Q_pixel_size_error"),
            None if a is None or b is None or theta is None else (a, b, theta),
            None if x is None or y is None else (x, y),
            number("QR_rotation"),
            bool(attribute(group, "QR_flip", "true or false")),
            sources,
            attribute(group, "note", "a text") if "note" in group.attrs else "",
        )


IN_ANGSTROM = PixelCalibration(1.0, sources={"pixel_size": "file"})
"""Of peaks that are in 1/Angstrom already."""


def stated_by(
    items: Mapping[str, Any], scan_shape: tuple[int, int], pixel_size: float | None, voltage: float | None
) -> PixelCalibration:
    """What the metadata items of py4DSTEM say, as far as they say it.

    Parameters
    ----------
    items : mapping
        From `microinfer.peaks.calibration.read_items`.
    scan_shape : tuple of int
        (Rx, Ry).
    pixel_size : float or None
        1/Angstrom per pixel that the user gave, in place of theirs.
    voltage : float or None
        In V, which a pixel size in milliradians needs.

    Raises
    ------
    ValueError
        As `read_calibration`, but not for an origin or a pixel size that is missing.
    """
    sized = (
        pixel_size is not None
        or items["Q_pixel_units"] == "A^-1"
        or (items["Q_pixel_units"] == "mrad" and voltage is not None)
    )
    centred = items["qx0"] is not None and items["qy0"] is not None
    filled = dict(items) if centred else {**items, "qx0": 0.0, "qy0": 0.0}
    found = read_calibration(filled, scan_shape, pixel_size if sized else 1.0, voltage)
    known = {"pixel_size": sized, "origin": centred, "ellipse": found.ellipse, "rotation": found.rotation}
    ellipse = None if found.ellipse is None else tuple(float(np.mean(value)) for value in found.ellipse)
    return PixelCalibration(
        found.pixel_size if sized else None,
        None,
        None if ellipse is None else (ellipse[0], ellipse[1], ellipse[2]),
        found.origin if centred else None,
        found.rotation,
        found.flip,
        {name: "file" for name, value in known.items() if value is not None and value is not False},
    ).given(pixel_size)


def _spread(values: Values | float) -> str:
    array = np.asarray(values[()] if isinstance(values, h5py.Dataset) else values)
    return f"{array:.2f}" if array.ndim == 0 else f"{np.nanmin(array):.2f} to {np.nanmax(array):.2f}"
