"""Ranges, bins and limits of tokenization."""

from dataclasses import dataclass, fields
from typing import Any

from microinfer import _core


@dataclass(frozen=True)
class TokenSpec:
    """Ranges, bins and limits of tokenization; the defaults are the paper's (Methods, "Embedding").

    Parameters
    ----------
    radius_max : float
        Largest radius of a disk that is kept, 1/Angstrom; the upper edge of the last radial bin.
    radius_bins : int
        Radial bins on [0, radius_max].
    angle_bins : int
        Polar-angle bins on the circle; the first begins at -pi.
    intensity_min : float
        Smallest intensity that is kept, relative to the pattern's strongest kept disk.
    intensity_bins : int
        Intensity bins on [intensity_min, 1].
    direct_beam_radius : float
        Every peak nearer to the centre than this is the direct beam, 1/Angstrom.
    max_disks : int
        Disks kept per pattern, the strongest first.
    min_disks : int
        A pattern with fewer kept disks is invalid.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    radius_max: float = 2.99
    radius_bins: int = 256
    angle_bins: int = 360
    intensity_min: float = 1e-3
    intensity_bins: int = 64
    direct_beam_radius: float = 0.05
    max_disks: int = 76
    min_disks: int = 2

    def __post_init__(self) -> None:
        try:
            _ = self.core  # checks the values
        except TypeError as error:
            raise ValueError(
                f"numbers of another kind or size than a token specification's: {self.to_dict()}"
            ) from error

    @property
    def core(self) -> _core.TokenSpec:
        """The same for the C++ core."""
        return _core.TokenSpec(**self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        # not by asdict, which torch.compile cannot always follow
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TokenSpec":
        """Make a specification from what `to_dict` returned.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or out of range.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"a token specification has the fields {sorted(names)}; "
                f"missing {sorted(names - set(values))}, unknown {sorted(set(values) - names)}"
            )
        return cls(**values)


DEFAULT_SPEC = TokenSpec()
