"""How disks are found: py4DSTEM's parameters under their names, and the threshold that follows the noise."""

from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np

SUBPIXEL = {"none": "none", "poly": "parabola", "multicorr": "interpolation"}
"""py4DSTEM's names of the ways to place a maximum between pixels, and the core's."""


LARGEST = 1e6  # disks, pixels, standard deviations


@dataclass(frozen=True)
class DetectionSettings:
    """Thresholds and filters of `microinfer.find_peaks`; lengths in detector pixels.

    Correlations are scaled to be the counts of a disk: a disk of 100 electrons has a maximum of about 100.

    Attributes
    ----------
    min_snr : float
        Lowest correlation, in standard deviations of what counting electrons makes of it: those of the disk and of the
        background around it. It suits frames of any dose, and counting and integrating cameras alike; 0 leaves the
        choice to the other thresholds.
    corrPower : float
        1 is the correlation, 0 the phase correlation, a value between a hybrid; `min_snr` must be 0 then.
    sigma_dp, sigma_cc : float
        Standard deviations of Gaussians that smooth the frame and the correlation.
    subpixel : str
        ``"multicorr"``: at the maximum of the interpolated correlation, which py4DSTEM's upsampling comes near to;
        ``"poly"``: by a parabola in each direction; ``"none"``.
    minAbsoluteIntensity : float
        Lowest correlation.
    minRelativeIntensity : float
        Lowest correlation relative to that of maximum `relativeToPeak` of the frame, 0 being the strongest.
    relativeToPeak : int
    minPeakSpacing : float or None
        The weaker one of two maxima that are closer is dropped. By default the radius of the disks.
    edgeBoundary : float or None
        Maxima that are closer to the frame's edge are dropped. By default the radius of the disks.
    maxNumPeaks : int
        The strongest are kept.

    Raises
    ------
    ValueError
        For a value out of range; the message names it.
    """

    min_snr: float = 3.0
    corrPower: float = 1.0
    sigma_dp: float = 0.0
    sigma_cc: float = 0.0
    subpixel: str = "multicorr"
    minAbsoluteIntensity: float = 0.0
    minRelativeIntensity: float = 0.0
    relativeToPeak: int = 0
    minPeakSpacing: float | None = None
    edgeBoundary: float | None = None
    maxNumPeaks: int = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "subpixel" or (value is None and type(None) in get_args(field.type)):
                continue
            self._require(field.name, "a number", isinstance(value, int | float | np.number))
            self._require(field.name, "at least 0", value >= 0)  # NaN is not
            most = np.finfo(np.float32).max if field.name == "minAbsoluteIntensity" else LARGEST
            self._require(field.name, f"at most {most:g}", value <= most)
        self._require("subpixel", f"one of {', '.join(SUBPIXEL)}", self.subpixel in SUBPIXEL)
        for name in ("corrPower", "minRelativeIntensity"):
            self._require(name, "at most 1", getattr(self, name) <= 1)
        for name, least in (("relativeToPeak", 0), ("maxNumPeaks", 1)):
            value = getattr(self, name)
            self._require(name, f"a whole number from {least} on", value == int(value) >= least)
        if self.corrPower != 1 and self.min_snr != 0:
            raise ValueError(
                f"min_snr is a threshold for the correlation itself: with corrPower={self.corrPower:g} give "
                "min_snr=0, and minRelativeIntensity or minAbsoluteIntensity"
            )

    def _require(self, name: str, rule: str, holds: Any) -> None:
        if not holds:
            raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")
