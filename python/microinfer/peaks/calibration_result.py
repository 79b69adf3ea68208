"""What a scan's Bragg peaks say of their calibration."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microinfer.peaks.agreement import RingAgreement
from microinfer.peaks.pixels import PixelCalibration

Verdict = Literal["measured", "agrees", "disagrees", "refused"]

SIGNIFICANT = 3.0  # standard errors, of an ellipse and of a disagreement


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """What a scan's peaks say of their calibration.

    Attributes
    ----------
    verdict : str
        ``"measured"`` where no pixel size was known; ``"agrees"`` or ``"disagrees"`` with the one that was;
        ``"refused"``: the rings do not decide.
    reason : str
        Why it is refused; else empty.
    warnings : tuple of str
        What disagrees with what was known, beyond the error bars.
    centre, centre_error : ndarray, shape (2,)
        Direct beam in pixels, from the origin that was known, in the middle of the scan; NaN where it is not found.
    centre_way : str
        ``"direct beam"``, ``"Friedel pairs"`` or ``"unknown"``.
    pixel_size, pixel_size_error : float
        1/Angstrom per pixel once the ellipse is undone, as in `PixelCalibration`; NaN where the rings do not decide.
    mean_pixel_size : float
        Its mean over the directions of the detector, the ellipse left as it is.
    ratio, ratio_error, angle : float
        The ellipse's semi-axis a over b, 1 where it is not significant, and the angle of a from qx in radians.
    second : float or None
        Pixel size of the second-best answer, a mean over the directions.
    second_share : float
        Its evidence over that of the best.
    agreement : RingAgreement or None
        Of the peaks with the best answer.
    spots, orientations : float
        How many independent spots and orientations there are, about.
    calibration : PixelCalibration
        What is known, with what was measured where nothing was.
    measured : PixelCalibration
        The same, with what was measured in place of what was known.
    """

    verdict: Verdict
    reason: str
    warnings: tuple[str, ...]
    centre: NDArray[np.float64]
    centre_error: NDArray[np.float64]
    centre_way: str
    pixel_size: float
    pixel_size_error: float
    mean_pixel_size: float
    ratio: float
    ratio_error: float
    angle: float
    second: float | None
    second_share: float
    agreement: RingAgreement | None
    spots: float
    orientations: float
    calibration: PixelCalibration
    measured: PixelCalibration

    def facts(self) -> dict[str, str]:
        """What was found, in sentences, by what it is about."""
        x, y = self.centre
        told = {
            "Peaks": f"{self.spots:.0f} different ones, of about {self.orientations:.0f} orientations",
            "Centre": "not found: neither a direct beam nor pairs of opposite disks"
            if self.centre_way == "unknown"
            else f"{x:.2f}, {y:.2f} pixels from the origin, give or take {self.centre_error.max():.2f} "
            f"({self.centre_way})",
        }
        if np.isfinite(self.pixel_size):
            told["Ellipse"] = (
                f"a/b {self.ratio:.4f}, give or take {self.ratio_error:.4f}, a at "
                f"{np.degrees(self.angle) % 180:.1f} degrees from qx"
                if self.ratio > 1
                else f"none beyond {SIGNIFICANT * self.ratio_error:.2%}"
            )
            told["Pixel size"] = f"{self.pixel_size:.6g} ± {self.pixel_size_error:.2g} 1/Angstrom" + (
                "" if self.ratio == 1 else f" (mean over the directions {self.mean_pixel_size:.6g})"
            )
            told["Second best"] = (
                "none"
                if self.second is None
                else f"{self.second:.5g} 1/Angstrom, with {self.second_share:.0%} of the evidence"
            )
        told["Verdict"] = {
            "measured": "the rings decide, if this is the crystal: no pixel size was known to compare with",
            "agrees": "agrees with the pixel size that is known",
            "disagrees": "disagrees with the pixel size that is known",
            "refused": f"the rings do not decide: {self.reason}",
        }[self.verdict]
        return told
