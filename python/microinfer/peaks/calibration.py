"""py4DSTEM's calibration of Bragg vectors: origin, ellipse, pixel size, rotation, in this strict order.

The values and their order are those of py4DSTEM 0.14.18, ``CalibratedVectorGetter._transform``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.diffraction import electron_wavelength
from microinfer.hdf5 import find, require_stored, utf8
from microinfer.peaks.metadata import stated_step
from microinfer.peaks.scan import Scan

Values: TypeAlias = NDArray[np.float64] | h5py.Dataset
"""One number, shape (), or one per scan position, shape (Rx, Ry), which may be left in the file."""
Positions = NDArray[np.float64]

_KEYS = (
    *("qx0", "qy0", "a", "b", "theta", "Q_pixel_size", "Q_pixel_units"),
    *("QR_rotation", "QR_rotation_degrees", "QR_flip", "R_pixel_size", "R_pixel_units"),
)
_PIXEL_SIZE_HINT = (
    "give pixel_size=... in 1/Angstrom per pixel (--pixel-size), or set it in py4DSTEM "
    "(calibration.set_Q_pixel_size, calibration.set_Q_pixel_units('A^-1'))"
)
_ORIGIN_HINT = "find the origin in py4DSTEM (braggvectors.measure_origin, fit_origin)"


@dataclass(frozen=True)
class Calibration:
    """The values that lead from detector pixels to 1/Angstrom in the scan's frame.

    Attributes
    ----------
    origin : pair of ndarray of float64 or dataset, shape () or (Rx, Ry)
        qx0 and qy0, the direct beam, in pixels.
    ellipse : triple of ndarray of float64 or dataset, shape () or (Rx, Ry), or None
        Semi-axes a and b, in one unit, and the angle theta of a, in radians.
    pixel_size : float
        1/Angstrom per pixel.
    rotation : float or None
        QR rotation from detector to scan, in radians; None where it is not known.
    flip : bool
        Whether qx and qy are swapped before the rotation. Only with a rotation, as in py4DSTEM.
    """

    origin: tuple[Values, Values]
    ellipse: tuple[Values, Values, Values] | None
    pixel_size: float
    rotation: float | None
    flip: bool

    def apply(
        self, qx: Positions, qy: Positions, counts: NDArray[np.int64], start: int, stop: int
    ) -> tuple[Positions, Positions]:
        """Calibrate the peaks of the scan rows ``start`` to ``stop - 1``.

        Parameters
        ----------
        qx, qy : ndarray of float64, shape (P,)
            Positions in detector pixels.
        counts : ndarray of int64, shape (N,)
            Number of peaks at each of the N = (stop - start) Ry scan positions.
        start, stop : int
            Rows of the block.

        Returns
        -------
        qx, qy : ndarray of float64, shape (P,)
            Positions in 1/Angstrom.
        """

        def rows(values: Values) -> Positions:
            return np.asarray(values[start:stop] if values.ndim else values, np.float64)

        def per_peak(values: Positions) -> Positions:
            return np.repeat(values.ravel(), counts) if values.ndim else values

        qx = qx - per_peak(rows(self.origin[0]))
        qy = qy - per_peak(rows(self.origin[1]))
        if self.ellipse is not None:
            a, b, theta = map(rows, self.ellipse)
            ratio, angle = b / a, theta - np.pi / 2
            sin, cos = np.sin(angle), np.cos(angle)
            xx = per_peak(ratio * sin**2 + cos**2)
            xy = per_peak(sin * cos * (1 - ratio))
            yy = per_peak(sin**2 + ratio * cos**2)
            qx, qy = xx * qx + xy * qy, xy * qx + yy * qy
        qx, qy = qx * self.pixel_size, qy * self.pixel_size
        if self.rotation is not None:
            if self.flip:
                qx, qy = qy, qx
            sin, cos = np.sin(self.rotation), np.cos(self.rotation)
            qx, qy = cos * qx - sin * qy, sin * qx + cos * qy
        return qx, qy

    def left_in(self, group: h5py.Group) -> "Calibration":
        """The same calibration with its maps left in the file that `read_items` read, for large scans."""

        def left(key: str, values: Values) -> Values:
            return group[key] if values.ndim else values

        origin = left("qx0", self.origin[0]), left("qy0", self.origin[1])
        if self.ellipse is None:
            return replace(self, origin=origin)
        a, b, theta = self.ellipse
        return replace(self, origin=origin, ellipse=(left("a", a), left("b", b), left("theta", theta)))

    def steps(self) -> list[str]:
        """Name the steps of `apply`, in order."""
        steps = ["subtract the origin (qx0, qy0)"]
        if self.ellipse is not None:
            steps.append("undo the ellipse (a, b, theta)")
        steps.append(f"multiply by {self.pixel_size:g} 1/Angstrom per pixel")
        if self.rotation is not None:
            swap = "swap qx and qy, " if self.flip else ""
            steps.append(f"{swap}rotate by {np.degrees(self.rotation):g} degrees")
        return steps


def read_items(group: h5py.Group) -> dict[str, Any]:
    """Return what an emdfile metadata group says of Bragg peaks; None for what is missing or None.

    emdfile writes None as the text ``_None``.
    """
    items: dict[str, Any] = dict.fromkeys(_KEYS)
    for key in _KEYS:
        item = find(group, key)
        if isinstance(item, h5py.Dataset):
            require_stored(item)
            value = item[()]
            value = utf8(value, f"calibration {key}") if isinstance(value, bytes | str) else value
            items[key] = None if isinstance(value, str) and value == "_None" else value
    return items


def calibration_items(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the items of `read_items`, from the values of a calibration in memory."""
    return {key: values.get(key) for key in _KEYS}


def describe_items(items: dict[str, Any]) -> dict[str, str]:
    """Write the items of `read_items` as text, maps by their range."""
    return {key: _text(value) for key, value in items.items()}


def read_calibration(
    items: dict[str, Any],
    scan_shape: tuple[int, int],
    pixel_size: float | None,
    voltage: float | None = None,
) -> Calibration:
    """Make the calibration of py4DSTEM's metadata items.

    Parameters
    ----------
    items : dict
        From `read_items` or `calibration_items`.
    scan_shape : tuple of int
        (Rx, Ry).
    pixel_size : float or None
        1/Angstrom per pixel, in place of Q_pixel_size and Q_pixel_units.
    voltage : float, optional
        Accelerating voltage in V, which milliradians need.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        Where the origin or the pixel size in 1/Angstrom is missing, a value has a wrong shape or is not finite,
        or the rotation is one of py4DSTEM 0.13, whose unit is not certain. The message names the value and how to
        give it.
    """
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(
            f"pixel_size (--pixel-size) must be a positive number, the 1/Angstrom that a detector pixel is wide "
            f"(0.01 to 0.1 is usual), got {pixel_size:g}"
        )
    origin = tuple(_values(items, key, scan_shape) for key in ("qx0", "qy0"))
    if origin[0] is None or origin[1] is None:
        missing = " and ".join(
            key for key, value in zip(("qx0", "qy0"), origin, strict=True) if value is None
        )
        raise ValueError(f"the calibration has no origin ({missing}): {_ORIGIN_HINT}")
    a, b, theta = (_values(items, key, scan_shape) for key in ("a", "b", "theta"))
    ellipse = None if a is None or b is None or theta is None else (a, b, theta)
    if ellipse is not None and not (np.all(ellipse[0] > 0) and np.all(ellipse[1] > 0)):
        raise ValueError("calibration a and b, the semi-axes of the ellipse, must be positive")
    rotation = _rotation(items)
    return Calibration(
        origin=(origin[0], origin[1]),
        ellipse=ellipse,
        pixel_size=_pixel_size(items, voltage) if pixel_size is None else float(pixel_size),
        rotation=rotation,
        flip=_flip(items) and rotation is not None,
    )


def read_scan(
    items: dict[str, Any], scan_shape: tuple[int, int], qr_calibrated: bool, voltage: float | None = None
) -> Scan:
    """Return the scan with the step R_pixel_size in R_pixel_units; 1 pixel where the file has none."""
    step = _values(items, "R_pixel_size", ())
    if step is None:
        return Scan(scan_shape, qr_calibrated=qr_calibrated, voltage=voltage)
    if step <= 0:
        raise ValueError(f"calibration R_pixel_size must be positive, got {step}")
    units = items["R_pixel_units"]
    if not (units is None or isinstance(units, str)):
        raise ValueError(f"calibration R_pixel_units must be a text, got {units!r}")
    found = stated_step(float(step), units or "pixels", "calibration R_pixel_units")
    return Scan(scan_shape, *found, qr_calibrated, voltage)


def _rotation(items: dict[str, Any]) -> float | None:
    rotation = _values(items, "QR_rotation", ())
    degrees = _values(items, "QR_rotation_degrees", ())
    if rotation is None and degrees:  # py4DSTEM 0.14 writes both
        raise ValueError(
            f"calibration QR_rotation_degrees is {degrees:g} without a QR_rotation, as py4DSTEM 0.13 leaves it: that "
            "version documents degrees but turns the peaks by as many radians. Open the file in py4DSTEM 0.14, set "
            "the angle that is meant (calibration.set_QR_rotation_degrees), and save or map these BraggVectors"
        )
    rotation = degrees if rotation is None else rotation
    return None if rotation is None else float(rotation)


def _flip(items: dict[str, Any]) -> bool:
    flip = items["QR_flip"]
    if flip is None:
        return False
    value = np.asarray(flip)
    if value.shape != () or value.dtype.kind not in "biuf" or value not in (0, 1):
        raise ValueError(
            f"calibration QR_flip must be True or False, got {flip!r}: set it in py4DSTEM "
            "(calibration.set_QR_flip) and save again"
        )
    return bool(value)


def _pixel_size(items: dict[str, Any], voltage: float | None) -> float:
    units = items["Q_pixel_units"]
    if units == "mrad" and voltage is None:
        raise ValueError(
            "calibration Q_pixel_units is 'mrad', and the voltage that makes 1/Angstrom of milliradians is not known: "
            f"give voltage=... in kV (--voltage), or {_PIXEL_SIZE_HINT}"
        )
    if units not in ("A^-1", "mrad"):
        raise ValueError(
            f"calibration Q_pixel_units must be 'A^-1' or 'mrad', got {units!r}: {_PIXEL_SIZE_HINT}"
        )
    size = _values(items, "Q_pixel_size", ())
    if size is None or size <= 0:
        raise ValueError(
            f"calibration Q_pixel_size must be a positive number, got {size}: {_PIXEL_SIZE_HINT}"
        )
    return float(size) * (1e-3 / electron_wavelength(voltage) if units == "mrad" and voltage else 1.0)


def _values(items: dict[str, Any], key: str, scan_shape: tuple[int, ...]) -> Positions | None:
    value = items[key]
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"calibration {key} must be a number, got {value!r}")
    if array.shape not in ((), scan_shape):
        expected = f"a number or a map of shape {scan_shape}" if scan_shape else "a number"
        raise ValueError(f"calibration {key} must be {expected}, got an array of shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        where = f" at scan position {tuple(int(i) for i in np.argwhere(~finite)[0])}" if array.ndim else ""
        raise ValueError(f"calibration {key} must be finite, got {array[~finite].flat[0]}{where}")
    return array.astype(np.float64, copy=False)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "fiu":
        return f"map {value.shape}, {np.nanmin(value):g} to {np.nanmax(value):g}"
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    return str(value)
