"""Whether a scan and a model go together: the crystal and the pixel size, the voltage, the reach of the camera."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.models import Model
from microinfer.peaks.agreement import RingAgreement, agreement_of, sample_peaks
from microinfer.peaks.metadata import same_voltage
from microinfer.peaks.scan import PeakSource

REACHED = 0.98  # of the peaks lie within a scan's reach
SHORT, NARROW = 0.65, 0.75  # of the model's k_max: peaks, and a camera, that end before are short
BEYOND, FEW = 1.05, 0.02  # times k_max: of the peaks at most this share may lie farther out
LEAST_PEAKS = 20  # for a reach


@dataclass(frozen=True)
class ScanCheck:
    """What was found when a scan was set against a model.

    Attributes
    ----------
    rings : RingAgreement
        Of the peaks and the model's phases.
    pixel_size : float or None
        1/Angstrom per pixel, as the scan is calibrated.
    voltage, model_voltage : float or None
        Accelerating voltages of scan and model in V, where they are known.
    reach : float
        Radius that 98 % of the peaks do not exceed, in 1/Angstrom; NaN where there are hardly any.
    camera : float or None
        Radius at which the camera ends, in 1/Angstrom, where the file states its size.
    k_max : float
        That the model was trained to, in 1/Angstrom; NaN where its card does not state it.
    beyond : float
        Share of the peaks that lie farther out than the model has seen.
    doubt : str
        Why the model itself is not to be trusted; empty where nothing says so.
    """

    rings: RingAgreement
    pixel_size: float | None
    voltage: float | None
    model_voltage: float | None
    reach: float
    camera: float | None
    k_max: float
    beyond: float
    doubt: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What there is to say, in sentences, by what it is about."""
        about_model = {"Model": self.doubt} if self.doubt else {}
        return about_model | {
            "Crystal": self.rings.describe(self.pixel_size),
            "Voltage": self._about_voltage,
            "Reach": self._about_reach,
        }

    @property
    def warnings(self) -> list[str]:
        """Those of the facts that say that scan and model do not go together."""
        doubtful = {
            "Model": True,
            "Crystal": self.rings.wrong,
            "Voltage": self._other_voltage,
            "Reach": self._short or self.beyond > FEW,
        }
        return [text for name, text in self.facts.items() if doubtful[name]]

    @property
    def _other_voltage(self) -> bool:
        return (
            self.voltage is not None
            and self.model_voltage is not None
            and not same_voltage(self.voltage, self.model_voltage)
        )

    @property
    def _short(self) -> bool:
        return self.reach < SHORT * self.k_max or self._narrow

    @property
    def _narrow(self) -> bool:
        return self.camera is not None and self.camera < NARROW * self.k_max

    @property
    def _about_voltage(self) -> str:
        model = "not stated" if self.model_voltage is None else _kilovolts(self.model_voltage)
        if self.voltage is None:
            return f"the scan's is not known (the model's: {model}); give --voltage to have them compared"
        if not self._other_voltage:
            return f"{_kilovolts(self.voltage)} (the model's: {model})"
        return (
            f"the scan was taken at {_kilovolts(self.voltage)}, the model is for {model}: excitation errors and "
            "intensities differ, so answers and their confidence are less certain; train a model for "
            f"{_kilovolts(self.voltage)}, or correct --voltage"
        )

    @property
    def _about_reach(self) -> str:
        if np.isnan(self.reach):
            return "the peaks are too few to say how far out they reach"
        text = f"the peaks reach {self.reach:.2f} 1/Angstrom"
        if np.isnan(self.k_max):
            return f"{text}; the model's k_max is not stated"
        text += f", {self.reach / self.k_max:.2f} of the model's k_max"
        if self.beyond > FEW:
            return (
                f"{text}: {self.beyond:.1%} of them lie beyond what the model has seen, it was trained to "
                f"{self.k_max:.2f}; check the pixel size, or train a model to a larger k_max"
            )
        if self._short:
            why = (
                f"the camera ends at {self.camera:.2f}"
                if self._narrow
                else "the camera ends early, or the pixel size is too small"
            )
            return (
                f"{text} ({self.k_max:.2f}): {why}; answers and their confidence are less certain than on what the "
                "model was trained for"
            )
        return text


def check_scan(source: PeakSource, model: Model, selected: NDArray[np.bool_] | None = None) -> ScanCheck:
    """Set a scan against a model.

    Parameters
    ----------
    source : BraggPeaks or reader
        The scan; a few of its rows are read.
    model : Model
        The model that is to map it.
    selected : ndarray of bool, shape (Rx, Ry), optional
        Positions that count, all by default.

    Returns
    -------
    ScanCheck
    """
    peaks = sample_peaks(source, model.spec.direct_beam_radius, selected)
    radius = np.concatenate([np.zeros(0), *(np.hypot(pattern[:, 0], pattern[:, 1]) for pattern in peaks)])
    k_max = float(model.card.get("k_max", np.nan))
    return ScanCheck(
        rings=agreement_of(peaks, model.phases),
        pixel_size=getattr(source, "pixel_size", None),
        voltage=source.voltage,
        model_voltage=model.voltage,
        reach=float(np.quantile(radius, REACHED)) if len(radius) >= LEAST_PEAKS else float("nan"),
        camera=getattr(source, "camera", None),
        k_max=k_max,
        beyond=float(np.mean(radius > BEYOND * k_max)) if len(radius) >= LEAST_PEAKS else 0.0,
        doubt=doubt_of(model.card),
    )


def doubt_of(card: dict[str, Any]) -> str:
    """Why a model is not to be trusted, by what its training wrote into its card; empty where nothing says so."""
    if "unfinished" in card:
        return (
            f"its training is not finished ({card['unfinished']}), and its confidence is no probability yet: go on "
            "with microinfer train --resume"
        )
    verdict = card.get("verdict", {"good_enough": True})
    if not verdict["good_enough"]:
        return (
            f"its training found it not good enough to map with: {verdict['refined_within_3_deg']:.1%} of its answers "
            f"were right to 3 degrees, {verdict['usual_within_3_deg']:.0%} is usual"
        )
    return ""


def _kilovolts(voltage: float) -> str:
    return f"{voltage / 1e3:g} kV"
