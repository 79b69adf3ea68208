"""What is known of a scan beside its data, and what every source of its Bragg peaks has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from microinfer.units import step_size, volts

if TYPE_CHECKING:
    from microinfer.peaks.bragg_peaks import BraggPeaks

BLOCK_POSITIONS = 16384  # scan positions held at a time


@dataclass(frozen=True)
class Scan:
    """Shape and step of a scan, and the frame of its peaks.

    Attributes
    ----------
    shape : tuple of int
        (Rx, Ry), the number of scan positions along either axis.
    step : float
        Distance of neighbouring scan positions, in `units`. It may be given with its unit: ``"2 nm"``, ``"20 Å"``.
    units : str
        ``"nm"``, ``"Å"``, ``"µm"``, ``"pm"``, ``"mm"`` or ``"m"``, also given as ``"A"``, ``"um"`` or written out;
        ``"pixels"`` where the scan is not calibrated.
    qr_calibrated : bool
        True where the rotation (and flip) between detector and scan was applied: x and y of the peaks run along
        the scan's rows and columns. Otherwise they are the detector's axes.
    voltage : float or None
        Accelerating voltage in V, None where it is not known. It may be given in kilovolts.

    Raises
    ------
    ValueError
        For a shape that is not two numbers of at least 1, a step that is not positive, a unit that is none of length,
        and a voltage that is none of an electron microscope.
    """

    shape: tuple[int, int]
    step: float = 1.0
    units: str = "pixels"
    qr_calibrated: bool = False
    voltage: float | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"the scan's shape must be two numbers of at least 1, got {self.shape}")
        step, units = step_size(self.step, self.units)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "qr_calibrated", bool(self.qr_calibrated))
        if self.voltage is not None:
            object.__setattr__(self, "voltage", volts(self.voltage))

    @classmethod
    def of(cls, scan: "Scan | tuple[int, int]") -> "Scan":
        """Return a scan as it is, a shape as a scan of which nothing more is known."""
        return scan if isinstance(scan, Scan) else cls(scan)

    def rows(self, count: int) -> "Scan":
        """Return the scan of a block of `count` rows."""
        return replace(self, shape=(count, self.shape[1]))

    def __str__(self) -> str:
        step = "" if self.units == "pixels" else f", step {self.step:g} {self.units}"
        return f"{self.shape[0]} x {self.shape[1]} positions{step}"

    @property
    def block_rows(self) -> int:
        """Rows that make up about `BLOCK_POSITIONS`."""
        return max(1, BLOCK_POSITIONS // self.shape[1])


class OfScan:
    """Anything that belongs to the positions of a `scan`."""

    scan: Scan

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Number of scan rows and columns (Rx, Ry)."""
        return self.scan.shape

    @property
    def scan_step(self) -> float:
        """Distance of neighbouring scan positions, in `scan_units`."""
        return self.scan.step

    @property
    def scan_units(self) -> str:
        """Unit of `scan_step`."""
        return self.scan.units

    @property
    def voltage(self) -> float | None:
        """Accelerating voltage in V, where it is known."""
        return self.scan.voltage

    @property
    def qr_calibrated(self) -> bool:
        """Whether the detector's axes were turned to those of the scan."""
        return self.scan.qr_calibrated


class PeakSource(OfScan, ABC):
    """What a scan's Bragg peaks come from: `BraggPeaks`, or a reader from `microinfer.open_peaks`."""

    @abstractmethod
    def read_rows(self, start: int, stop: int) -> "BraggPeaks":
        """Return the peaks of the scan rows ``start`` to ``stop - 1``; ``0 <= start < stop <= Rx``."""

    def blocks(self) -> Iterator["BraggPeaks"]:
        """Read the whole scan, a block of rows at a time."""
        rows = self.scan.shape[0]
        for start in range(0, rows, self.scan.block_rows):
            yield self.read_rows(start, min(start + self.scan.block_rows, rows))
