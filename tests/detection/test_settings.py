"""Settings that make no sense are refused by name."""

import math

import pytest

from microinfer.detection import DetectionSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_snr", -1),
        ("min_snr", math.nan),
        ("min_snr", math.inf),
        ("min_snr", "high"),
        ("sigma_cc", -0.1),
        ("corrPower", 1.1),
        ("minRelativeIntensity", 2.0),
        ("subpixel", "pixel"),
        ("relativeToPeak", 0.5),
        ("maxNumPeaks", 0),
        ("minPeakSpacing", -3.0),
    ],
)
def test_out_of_range(name, value):
    with pytest.raises(ValueError, match=name):
        DetectionSettings(**{name: value})


def test_noise_is_known_of_the_correlation_alone():
    with pytest.raises(ValueError, match="min_snr=0"):
        DetectionSettings(corrPower=0.5)
    DetectionSettings(corrPower=0.5, min_snr=0)
