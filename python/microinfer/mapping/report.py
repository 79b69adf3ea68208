"""What a mapping did, in numbers."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microinfer.crystals.phase import CrystalPhase
from microinfer.mapping.check import ScanCheck

STAGES = ("read", "infer", "write")


@dataclass(repr=False)
class MapReport:
    """What a mapping did, and how long it took.

    Attributes
    ----------
    positions : int
        Scan positions of the map: those within the region and the mask.
    resumed : int
        How many of them an earlier, interrupted mapping had answered.
    valid : int
        Positions with an answer.
    phase_counts : dict of str to int
        Valid positions of each phase.
    mean_confidence : float
        Of the valid positions; NaN where there are none.
    seconds : dict of str to float
        Busy time of each stage: ``read``, ``infer``, ``write``, and of frames ``detect``. They run beside each other:
        the longest is the bottleneck. Of several devices it is the mean, of a cluster's workers the sum.
    elapsed : float
        Seconds from first to last.
    check : ScanCheck or None
        How scan and model go together; None where that was not asked for.
    """

    positions: int
    resumed: int = 0
    valid: int = 0
    phase_counts: dict[str, int] = field(default_factory=dict)
    mean_confidence: float = float("nan")
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    elapsed: float = 0.0
    check: ScanCheck | None = None

    def __repr__(self) -> str:
        parts = [f"{self.positions:,} positions"]
        if self.resumed:
            parts.append(f"{self.resumed:,} of them done before")
        if self.positions:
            parts.append(f"{self.valid / self.positions:.1%} valid")
        if self.valid:
            parts += [f"{name} {count / self.valid:.1%}" for name, count in self.phase_counts.items()]
            parts.append(f"mean confidence {self.mean_confidence:.2f}")
        parts.append(f"{self.elapsed:.2f} s")
        parts.append(f"{self.positions_per_second:,.0f} positions per second")
        return f"MapReport({', '.join(parts)})"

    @property
    def positions_per_second(self) -> float:
        """Positions mapped per second, reading and writing included."""
        return (self.positions - self.resumed) / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def bottleneck(self) -> str:
        """The stage that was busy longest."""
        return max(self.seconds, key=lambda stage: self.seconds[stage])

    def count(self, arrays: dict[str, Any], phases: tuple[CrystalPhase, ...]) -> None:
        """Add the answers for a block of scan positions."""
        valid = arrays["valid"]
        counts = np.bincount(arrays["phase"][valid, 0], minlength=len(phases))
        for phase, count in zip(phases, counts, strict=True):
            self.phase_counts[phase.name] = self.phase_counts.get(phase.name, 0) + int(count)
        new = int(counts.sum())
        if new:
            total = float(arrays["probability"][valid, 0].sum(dtype=np.float64))
            total += self.mean_confidence * self.valid if self.valid else 0.0
            self.valid += new
            self.mean_confidence = total / self.valid
