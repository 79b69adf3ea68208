"""What a mapping did, in numbers."""

from dataclasses import dataclass, field


@dataclass
class MapReport:
    """What a mapping did, and how long it took.

    Attributes
    ----------
    positions : int
        Scan positions mapped: those within the region and the mask.
    valid : int
        Positions with an answer.
    phase_counts : dict of str to int
        Valid positions of each phase.
    mean_confidence : float
        Of the valid positions; NaN where there are none.
    seconds : dict of str to float
        Time in each stage: ``read`` and ``tokenize`` run in a thread beside ``infer`` and ``write``.
    elapsed : float
        Seconds from first to last.
    """

    positions: int
    valid: int = 0
    phase_counts: dict[str, int] = field(default_factory=dict)
    mean_confidence: float = float("nan")
    seconds: dict[str, float] = field(
        default_factory=lambda: {"read": 0.0, "tokenize": 0.0, "infer": 0.0, "write": 0.0}
    )
    elapsed: float = 0.0

    @property
    def positions_per_second(self) -> float:
        """Positions mapped per second, reading and writing included."""
        return self.positions / self.elapsed if self.elapsed > 0 else 0.0
