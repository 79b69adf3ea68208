"""Voltages in kilovolts or volts, step sizes with their unit."""

import pytest

from microinfer.peaks import Scan
from microinfer.units import length_unit, volts


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


@pytest.mark.parametrize(
    ("given", "step", "units"),
    [
        (("2 nm",), 2.0, "nm"),
        (("2nm", "nm"), 2.0, "nm"),
        (("20 Å",), 20.0, "Å"),
        (("20 \u212b",), 20.0, "Å"),
        (("2e1A",), 20.0, "Å"),
        (("20 Angstroms",), 20.0, "Å"),
        (("0.002 um",), 0.002, "µm"),
        (("0.002 \u03bcm",), 0.002, "µm"),
        (("2", "nm"), 2.0, "nm"),
        ((2, "A"), 2.0, "Å"),
        ((2, "px"), 2.0, "pixels"),
        ((), 1.0, "pixels"),
    ],
)
def test_a_step_size_has_a_unit(given: tuple[float | str, ...], step: float, units: str) -> None:
    scan = Scan((3, 4), *given)  # type: ignore[arg-type]
    assert (scan.step, scan.units) == (step, units)
    assert length_unit(units) == units


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("-2 nm",), "step must be a positive number"),
        (("nm",), "step must be a positive number"),
        (("nan nm",), "step must be a positive number"),
        ((True,), "step must be a positive number"),
        (("2 1/nm",), "'1/nm' is no unit of a step size: expected pm, Å, nm"),
        ((2, "A^-1"), "'A\\^-1' is no unit of a step size"),
        ((2, ""), "'' is no unit of a step size"),
        (("2 nm", "Å"), "step '2 nm' has another unit than units='Å'"),
    ],
)
def test_what_is_no_step_size_is_refused(given: tuple[float | str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scan((3, 4), *given)  # type: ignore[arg-type]
