"""BraggPeaks: ragged geometry and validation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.scans import equal, peaks_of_scans
from microinfer.peaks import BraggPeaks, Scan


def arguments(**changes: Any) -> dict[str, Any]:
    """A valid scan of 2 x 3 positions with 0, 2, 1, 0, 3 and 0 peaks, with changes."""
    values = np.linspace(0.1, 1.0, 6)
    return {
        "offsets": [0, 0, 2, 3, 3, 6, 6],
        "qx": values,
        "qy": -values,
        "intensity": 10 * values,
        "scan": (2, 3),
    } | changes


def test_arrays_take_their_dtypes_and_positions_their_peaks() -> None:
    peaks = BraggPeaks(**arguments(qx=[1, 2, 3, 4, 5, 6]))
    assert [peaks.offsets.dtype, peaks.qx.dtype, peaks.intensity.dtype] == [np.int64, np.float32, np.float32]
    assert (len(peaks), peaks.n_peaks) == (6, 6)
    np.testing.assert_array_equal(peaks.counts, [0, 2, 1, 0, 3, 0])
    np.testing.assert_array_equal(peaks.pattern(0, 1)[:, 0], [1, 2])
    np.testing.assert_allclose(peaks.pattern(1, 1)[:, 1], [-0.64, -0.82, -1.0], rtol=1e-6)
    assert peaks.pattern(1, 2).shape == (0, 3)
    assert repr(peaks) == "BraggPeaks(2 x 3 positions, 6 peaks, 1.0 a position, to 6.08 1/Å)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scan": (2, 0)}, "shape must be two numbers of at least 1"),
        ({"scan": (6,)}, "shape must be two numbers"),
        ({"scan": (2, 4)}, r"offsets must have the shape \(9,\)"),
        ({"offsets": [1, 1, 2, 3, 3, 6, 6]}, "offsets must begin with 0, got 1"),
        ({"offsets": [0, 0, 3, 2, 3, 6, 6]}, "must not decrease, got 3 before 2 at index 2"),
        ({"offsets": [0, 0, 2, 3, 3, 6, 7]}, r"qx must have the shape \(7,\)"),
        ({"qy": np.zeros(5)}, r"qy must have the shape \(6,\), .* got \(5,\)"),
        ({"qx": np.zeros((6, 1))}, "qx must have the shape"),
        ({"qx": [0, 0, 0, np.nan, 0, np.inf]}, r"qx must be finite, got nan at scan position \(1, 1\)"),
        ({"qy": [0, np.inf, 0, 0, 0, 0]}, r"qy must be finite, got inf at scan position \(0, 1\)"),
        ({"intensity": [0, 0, 1e39, 0, 0, 0]}, r"intensity must be finite, got inf at .* \(0, 2\)"),
    ],
)
def test_malformed_peaks_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BraggPeaks(**arguments(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": [0.0, 0, 2, 3, 3, 6, 6]}, "offsets must be integers, got float64"),
        ({"intensity": np.zeros(6, complex)}, "intensity must be real numbers, got complex128"),
        ({"qx": list("abcdef")}, "qx must be real numbers"),
    ],
)
def test_other_kinds_of_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        BraggPeaks(**arguments(**changes))


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf])
def test_a_scan_has_a_positive_step(step: float) -> None:
    with pytest.raises(ValueError, match="step must be a positive number"):
        Scan((2, 3), step)


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 3), (1, 1), (2, 1)])
def test_rows_outside_the_scan_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=f"got start={start}, stop={stop}"):
        BraggPeaks(**arguments()).read_rows(start, stop)


@pytest.mark.parametrize("position", [(2, 0), (0, 3), (-1, 0)])
def test_positions_outside_the_scan_are_refused(position: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="outside the scan"):
        BraggPeaks(**arguments()).pattern(*position)


def test_patterns_of_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"patterns\[1\] must have the shape \(n, 3\)"):
        BraggPeaks.from_patterns([np.zeros((2, 3)), np.zeros((2, 4))], (1, 2))


def test_a_scan_without_peaks_is_a_scan() -> None:
    peaks = BraggPeaks.from_patterns([[], [], []], (1, 3))
    assert peaks.n_peaks == 0
    assert peaks.read_rows(0, 1).pattern(0, 2).shape == (0, 3)


@given(peaks=peaks_of_scans(), data=st.data())
def test_blocks_of_rows_join_to_the_whole(peaks: BraggPeaks, data: st.DataObject) -> None:
    rows, columns = peaks.scan_shape
    cuts = sorted(data.draw(st.sets(st.integers(1, rows - 1))) if rows > 1 else set())
    patterns = []
    for start, stop in zip([0, *cuts], [*cuts, rows], strict=True):
        block = peaks.read_rows(start, stop)
        assert block.scan_shape == (stop - start, columns)
        assert np.shares_memory(block.qx, peaks.qx) or block.n_peaks == 0
        patterns += [block.pattern(rx, ry) for rx in range(stop - start) for ry in range(columns)]
    assert equal(BraggPeaks.from_patterns(patterns, peaks.scan), peaks)
