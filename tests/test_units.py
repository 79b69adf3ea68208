"""Voltages in kilovolts or volts."""

import pytest

from microinfer.units import volts


@pytest.mark.parametrize(
    "given",
    [200, 200.0, 200e3, "200", "200 kV", "200kv", "200000", "2e5 V", "200 keV"],
)
def test_kilovolts_and_volts_are_the_same(given: float | str) -> None:
    assert volts(given) == pytest.approx(200e3)


@pytest.mark.parametrize(
    "given",
    [
        0,
        -200,
        5,
        5000,
        4e6,
        float("nan"),
        float("inf"),
        True,
        "200 V",
        "200000 kV",
        "200 MV",
        "high",
        "",
        "--",
    ],
)
def test_what_is_no_voltage_is_refused(given: float | str) -> None:
    with pytest.raises(ValueError, match=r"^sample\.voltage must be .*kilovolts.*volts.*got "):
        volts(given, "sample.voltage")


@pytest.mark.parametrize(("given", "expected"), [(10, 10e3), (3000, 3e6), (10e3, 10e3), (3e6, 3e6)])
def test_the_ends_of_both_ranges(given: float, expected: float) -> None:
    assert volts(given) == pytest.approx(expected)
