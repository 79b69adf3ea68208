"""What a camera's file states of its scan, beside what the user says of it."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from microinfer.crystals.diffraction import electron_wavelength
from microinfer.peaks.metadata import DIFFERENCE, Entries, settled_voltage
from microinfer.peaks.scan import Scan

ScanShape = tuple[int, int]

_NANOMETRES = {"nm": 1.0, "a": 0.1, "å": 0.1, "angstrom": 0.1, "um": 1e3, "pm": 1e-3, "mm": 1e6, "m": 1e9}
_PER_ANGSTROM = {"a": 1.0, "å": 1.0, "angstrom": 1.0, "nm": 0.1, "pm": 100.0}
_RADIANS = {"rad": 1.0, "mrad": 1e-3, "urad": 1e-6}
_STEP = re.compile(r"\s*([0-9.eE+-]+)\s*(\S*)\s*")


class FrameOptions(NamedTuple):
    """What a user may say of a file; as in `microinfer.open_frames`."""

    scan_shape: ScanShape | None = None
    pixel_size: float | None = None
    step: float | str | None = None
    voltage: float | str | None = None
    name: str | None = None


class Axis(NamedTuple):
    """The calibration of one axis: the distance of neighbouring points, and its unit."""

    scale: float = 1.0
    units: str = ""


@dataclass(frozen=True)
class Stated:
    """What a file states.

    Attributes
    ----------
    scan_shape : tuple of int or None
        (Rx, Ry).
    scan_axes, detector_axes : sequence of Axis
        Rows, then columns; empty where they are not known.
    voltage : float or None
        In V.
    """

    scan_shape: ScanShape | None = None
    scan_axes: Sequence[Axis] = ()
    detector_axes: Sequence[Axis] = ()
    voltage: float | None = None

    def scan(self, shape: ScanShape, options: FrameOptions) -> Scan:
        """Return the scan; what the user says wins, with a warning where the file says something else.

        Raises
        ------
        ValueError
            For a step or a voltage of the user's that is none.
        """
        voltage = settled_voltage(self.voltage, options.voltage)
        step = _same([length for axis in self.scan_axes if (length := nanometres(axis))], "step", "nm")
        if options.step is not None:
            given = _given_step(options.step)
            if step is not None:
                _warn_of_difference("the step", step, given, "nm")
            step = given
        return (
            Scan(shape, voltage=voltage)
            if step is None
            else Scan(shape, step=step, units="nm", voltage=voltage)
        )

    def pixel_size(self, voltage: float | None, options: FrameOptions) -> float | None:
        """Return the size of a detector pixel in 1/Angstrom, where it is known.

        Raises
        ------
        ValueError
            For a size of the user's that is not positive.
        """
        if options.pixel_size is not None and not (
            math.isfinite(options.pixel_size) and options.pixel_size > 0
        ):
            raise ValueError(
                f"pixel_size must be a positive number in 1/Angstrom per pixel, got {options.pixel_size}"
            )
        angles = [axis for axis in self.detector_axes if _radians(axis)]
        if angles and voltage is None and options.pixel_size is None:
            warnings.warn(
                f"the file gives its pixels in {angles[0].units}; 1/Angstrom takes the voltage, which it does not "
                "give: give voltage= (--voltage) or pixel_size= (--pixel-size)",
                UserWarning,
                stacklevel=2,
            )
        found = _same(
            [size for axis in self.detector_axes if (size := per_angstrom(axis, voltage))],
            "pixel size",
            "1/Angstrom",
        )
        if options.pixel_size is None:
            return found
        if found is not None:
            _warn_of_difference("the pixel size", found, options.pixel_size, "1/Angstrom")
        return float(options.pixel_size)


def nanometres(axis: Axis) -> float | None:
    """Return the scale of an axis in nm; None for one that is no length, or not calibrated."""
    factor = _NANOMETRES.get(_plain(axis.units))
    return axis.scale * factor if factor and _positive(axis.scale) else None


def per_angstrom(axis: Axis, voltage: float | None = None) -> float | None:
    """Return the scale of an axis in 1/Angstrom; None for one that is no spatial frequency, or not calibrated.

    Angles need the `voltage`, in V.
    """
    if not _positive(axis.scale):
        return None
    if radians := _radians(axis):
        return radians / electron_wavelength(voltage) if voltage else None
    match = re.fullmatch(r"1/(\w+)|(\w+)\^?-1", _plain(axis.units))
    factor = _PER_ANGSTROM.get(match[1] or match[2]) if match else None
    return axis.scale * factor if factor else None


def axis_order(axes: Sequence[Axis], *, reversed_axes: bool = False) -> tuple[int, ...]:
    """Return which of an array's axes are the scan's rows and columns and the detector's, in this order.

    It is the array's own order, or the reverse, unless the units say that the detector's axes come before the scan's.
    """
    order = tuple(range(len(axes)))[:: -1 if reversed_axes else 1]
    if len(axes) == 4:
        first, last = ([axes[axis] for axis in pair] for pair in (order[:2], order[2:]))
        if all(map(_is_reciprocal, first)) and not any(map(_is_reciprocal, last)):
            return order[2:] + order[:2]
    return order


def _is_reciprocal(axis: Axis) -> bool:
    return bool(_radians(axis) or per_angstrom(axis))


def flat_entries(metadata: Mapping[str, Any]) -> Entries:
    """Return the names and values in metadata within metadata."""
    entries: Entries = []
    for name, value in metadata.items():
        if isinstance(value, Mapping):
            entries.extend(flat_entries(value))
        else:
            entries.append((str(name), value))
    return entries


def _radians(axis: Axis) -> float | None:
    factor = _RADIANS.get(_plain(axis.units))
    return axis.scale * factor if factor and _positive(axis.scale) else None


def _plain(units: str) -> str:
    """A unit without the marks of TeX and with one spelling of micro: ``$A^{-1}$`` is ``a^-1``."""
    return re.sub(r"[\s$\\{}()\[\]_]", "", units).replace("µ", "u").replace("μ", "u").lower()


def _positive(scale: float) -> bool:
    return math.isfinite(scale) and scale > 0


def _same(sizes: Sequence[float], what: str, unit: str) -> float | None:
    """One value for two axes."""
    if not sizes:
        return None
    if max(sizes) - min(sizes) > DIFFERENCE * max(sizes):
        warnings.warn(
            f"the file gives {sizes[0]:g} {unit} along the rows and {sizes[-1]:g} {unit} along the columns as its "
            f"{what}; {sizes[0]:g} {unit} is taken for both",
            UserWarning,
            stacklevel=3,
        )
    return sizes[0]


def _given_step(step: float | str) -> float:
    number, unit = step, "nm"
    if isinstance(step, str):
        match = _STEP.fullmatch(step)
        number, unit = (match[1], match[2] or "nm") if match else ("", "")
    try:
        length = nanometres(Axis(float(number), unit))
    except ValueError:
        length = None
    if length is None:
        raise ValueError(f"step must be a length: nanometres (2.5) or with a unit ('25 A'), got {step!r}")
    return length


def _warn_of_difference(what: str, found: float, given: float, unit: str) -> None:
    if abs(found - given) > DIFFERENCE * max(found, given):
        warnings.warn(
            f"the file gives {found:g} {unit} as {what}; {given:g} {unit} was given and is taken",
            UserWarning,
            stacklevel=3,
        )
