"""Accuracy of a model beside py4DSTEM's template matching, on the same file and by the same function.

    python benchmarks/accuracy.py test_cu.h5 --model cu --template-matching 1600

Every pattern counts; an invalid answer counts as 45 degrees wrong.
"""

import argparse
import time

import numpy as np

import microinfer as mi
from microinfer.config import SimulationConfig
from microinfer.models import save_model
from microinfer.simulation import PatternLibrary, load_library, load_structure
from microinfer.symmetry import misorientation

INVALID_ERROR = 45.0


def errors(library: PatternLibrary, matrix: np.ndarray) -> np.ndarray:
    """Misorientation to the labels in degrees, (N,); NaN matrices count as invalid."""
    operators = library.phases[0].operators
    error = np.full(len(matrix), INVALID_ERROR)
    valid = np.isfinite(matrix).all(axis=(1, 2))
    error[valid] = np.degrees(
        misorientation(matrix[valid], library.orientation[: len(matrix)][valid], operators)
    )
    return error


def template_matching(library: PatternLibrary, structure_name: str, count: int) -> np.ndarray:
    """Best match of py4DSTEM's ACOM with its default parameters, mirror matches on, (count, 3, 3)."""
    from emdfile import PointList

    simulation: SimulationConfig = library.simulation
    crystal = load_structure(structure_name).to_py4dstem()
    crystal.calculate_structure_factors(simulation.k_max)
    crystal.orientation_plan(
        zone_axis_range="auto" if structure_name not in ("Cu", "Cu2O") else np.array([[0, 1, 1], [1, 1, 1]]),
        accel_voltage=simulation.voltage,
        progress_bar=False,
    )
    matrix = np.full((count, 3, 3), np.nan)
    for index in range(count):
        disks = library.peaks.pattern(index, 0).astype(np.float64)
        peaks = PointList(
            np.array([*map(tuple, disks)], [(name, float) for name in ("qx", "qy", "intensity")])
        )
        if len(disks):
            found = crystal.match_single_pattern(peaks, inversion_symmetry=True).matrix[0]
            matrix[index] = found if np.abs(found).sum() > 0 else np.nan
    return matrix


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over 15 bins of equal mass."""
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, 15)
    return sum(abs(confidence[b].mean() - right[b].mean()) * len(b) for b in bins) / len(order)


def report(name: str, error: np.ndarray, seconds: float) -> None:
    print(
        f"{name:20s} {len(error):6d} patterns  mean {error.mean():6.2f} deg  median {np.median(error):5.2f}  "
        f"within 1 deg {np.mean(error < 1):6.1%}  within 3 deg {np.mean(error < 3):6.1%}  "
        f"{len(error) / seconds:8.0f} patterns/s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("test_set")
    parser.add_argument("--model", default="cu")
    parser.add_argument("--structure", default="Cu")
    parser.add_argument(
        "--write-card", metavar="CHECKPOINT", help="put the figures into this checkpoint's card"
    )
    parser.add_argument("--template-matching", type=int, default=0, metavar="COUNT")
    arguments = parser.parse_args()
    test = load_library(arguments.test_set)

    model = mi.load_model(arguments.model)
    mi.map_orientations(test.peaks, model)  # warm up
    found = {}
    for refine in (None, "kinematic"):
        start = time.perf_counter()
        result = mi.map_orientations(test.peaks, model, refine=refine)
        seconds = time.perf_counter() - start
        found[refine] = errors(test, result.matrix[:, 0])
        report("microinfer, refined" if refine else "microinfer", found[refine], seconds)
    ours = found["kinematic"]
    print(
        f"  of the answers right to 3 deg, {np.mean(ours[found[None] < 3] < 3):.2%} stay right when refined"
    )
    if arguments.write_card:
        model.card["figures"] = {
            "test_patterns": len(test),
            "mean_error_deg": round(float(ours.mean()), 2),
            "median_error_deg": round(float(np.median(ours)), 2),
            "within_1_deg": round(float(np.mean(ours < 1)), 4),
            "within_3_deg": round(float(np.mean(ours < 3)), 4),
        }
        save_model(arguments.write_card, model)
    confidence = result.confidence[:, 0]
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 1.01)):
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            print(
                f"  confidence {low:.1f} to {min(high, 1):.1f}: {inside.mean():6.1%} of all, mean "
                f"{confidence[inside].mean():.2f}, right to 3 deg {np.mean(ours[inside] < 3):6.1%}"
            )
    print(
        f"  expected calibration error {calibration_error(confidence, ours < 3):.3f} (15 bins of equal mass)"
    )
    disks = test.peaks.counts
    for low, high in ((0, 2), (2, 5), (5, 9), (9, 14), (14, 22), (22, 1000)):
        inside = (disks >= low) & (disks < high)
        if inside.any():
            print(
                f"  {low} to {high - 1} disks: {inside.mean():6.1%} of all, right to 3 deg "
                f"{np.mean(ours[inside] < 3):6.1%}, mean confidence {confidence[inside].mean():.2f}"
            )
    if arguments.template_matching:
        count = min(arguments.template_matching, len(test))
        start = time.perf_counter()
        matched = template_matching(test, arguments.structure, count)
        report("template matching", errors(test, matched), time.perf_counter() - start)
        report("microinfer, same", ours[:count], seconds * count / len(test))
