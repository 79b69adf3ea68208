"""Disk detection against py4DSTEM's `find_Bragg_disks` on the same synthetic frames: quality at three doses, and speed.

    python benchmarks/detection.py [--quick]

Quality: recall and precision at each one's best threshold (highest F1), and the root-mean-square error of the positions
of the disks that it finds there. Disks of fewer than `COUNTED` electrons are neither asked for nor held against anyone.
Speed: the two take turns on the same frames, medians; both on all cores that they use by themselves.
"""

import argparse
import contextlib
import io
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microinfer.detection import DetectedScan, DetectionSettings, Probe
from microinfer.frames.source import Frames

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.synthetic_frames import SyntheticFrames, matched, synthetic_frames

DOSES = (1e3, 1e4, 1e5)
COUNTED = 5.0  # electrons
EDGE = 0.6  # of the synthetic disks
SIZES = {128: 4.0, 256: 8.0}  # frames' pixels, disks' radius


class Found(NamedTuple):
    """Disks of one frame: x, y; and what they are ranked by."""

    points: np.ndarray
    strength: np.ndarray


class Quality(NamedTuple):
    recall: float
    precision: float
    error: float  # pixels, root mean square
    threshold: float


def ours(scan: SyntheticFrames, **settings: Any) -> list[Found]:
    size = scan.frames.shape[-1]
    settings = {"min_snr": 1.5, "maxNumPeaks": 300} | settings
    detected = DetectedScan(
        Frames(scan.frames),
        pixel_size=1.0,
        probe=Probe.disk(scan.radius, (size, size), EDGE),
        settings=DetectionSettings(**settings),
    )
    disks = detected._detector.find(scan.frames)
    noise, square = detected.noise, detected._detector.kernel.square
    below = np.maximum(noise.gain * disks.background * square + noise.floor, 0.0)
    snr = disks.correlation / np.sqrt(noise.gain * (noise.gain + disks.correlation) + below)
    found = []
    for n in range(len(scan.disks)):
        part = slice(*disks.offsets[n : n + 2])
        points = np.column_stack([disks.x[part], disks.y[part]])
        found.append(Found(points, snr[part]))
    return found


def py4dstem_kernel(scan: SyntheticFrames) -> np.ndarray:
    import py4DSTEM

    size = scan.frames.shape[-1]
    probe = py4DSTEM.Probe(Probe.disk(scan.radius, (size, size), EDGE).image.astype(np.float64))
    origin = (size // 2, size // 2)
    return probe.get_kernel(
        mode="sigmoid", origin=origin, radii=(scan.radius, 2 * scan.radius), returncalc=True
    )


def py4dstem_detection(scan: SyntheticFrames, subpixel: str = "multicorr", **settings: Any) -> Any:
    import py4DSTEM

    settings = {
        "minPeakSpacing": scan.radius,
        "edgeBoundary": int(np.ceil(scan.radius)),
        "minRelativeIntensity": 0.0005,
        "maxNumPeaks": 300,
    } | settings
    cube = py4DSTEM.DataCube(scan.frames)
    with contextlib.redirect_stderr(io.StringIO()):
        return py4DSTEM.braggvectors.diskdetection.find_Bragg_disks(
            cube, py4dstem_kernel(scan), subpixel=subpixel, **settings
        )


def theirs(scan: SyntheticFrames, subpixel: str = "multicorr", **settings: Any) -> list[Found]:
    vectors = py4dstem_detection(scan, subpixel, **settings)
    found = []
    for n in range(len(scan.disks)):
        points = vectors._v_uncal[divmod(n, scan.frames.shape[1])].data
        found.append(Found(np.column_stack([points["qx"], points["qy"]]), points["intensity"]))
    return found


def quality(scan: SyntheticFrames, found: list[Found]) -> Quality:
    """Recall, precision and error at the best threshold."""
    strength, right, wrong, error, asked = [], [], [], [], 0
    for truth, (points, ranked) in zip(scan.disks, found, strict=True):
        counted = truth[:, 2] >= COUNTED
        asked += int(counted.sum())
        mine, true = matched(points, truth, scan.radius / 2)
        squares = np.full(len(points), np.nan)
        squares[mine] = np.sum((points[mine] - truth[true, :2]) ** 2, axis=1)
        hit = np.zeros(len(points), bool)
        hit[mine[counted[true]]] = True
        faint = np.zeros(len(points), bool)
        faint[mine[~counted[true]]] = True
        strength.append(ranked)
        right.append(hit)
        wrong.append(~hit & ~faint)
        error.append(squares)
    order = np.argsort(-np.concatenate(strength), kind="stable")
    right, wrong, error = (np.concatenate(values)[order] for values in (right, wrong, error))
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    recall, precision = hits / asked, hits / np.maximum(hits + misses, 1)
    best = int(np.argmax(2 * recall * precision / np.maximum(recall + precision, 1e-9)))
    kept = right[: best + 1]
    rms = float(np.sqrt(np.mean(error[: best + 1][kept])))
    return Quality(recall[best], precision[best], rms, np.concatenate(strength)[order][best])


def alternating(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of some calls that take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare_quality(scan_shape: tuple[int, int]) -> None:
    print(f"{'':34}  recall  precision  error/px  threshold")
    for size, radius in SIZES.items():
        for dose in DOSES:
            scan = synthetic_frames(scan_shape, size, electrons=dose, radius=radius, edge=EDGE, seed=1)
            for name, found in (
                ("microinfer", ours(scan)),
                *((f"py4DSTEM {way}", theirs(scan, way)) for way in ("multicorr", "poly")),
            ):
                result = quality(scan, found)
                print(
                    f"{size:4d} {dose:8.0e} {name:20s} {result.recall:7.3f} {result.precision:9.3f} "
                    f"{result.error:9.3f} {result.threshold:10.3g}"
                )


def compare_speed(positions: int, rounds: int) -> None:
    for size, radius in SIZES.items():
        scan = synthetic_frames((4, positions // 4), size, electrons=1e4, radius=radius, edge=EDGE, seed=2)
        few = SyntheticFrames(scan.frames[:1, :8], scan.disks[:8], radius, scan.good)
        many = np.tile(scan.frames, (4, 1, 1, 1))
        detected = DetectedScan(
            Frames(many),
            pixel_size=1.0,
            probe=Probe.disk(radius, (size, size), EDGE),
            settings=DetectionSettings(),
        )
        calls: dict[str, Callable[[], Any]] = {
            "microinfer": lambda scan=detected: scan.read_rows(0, scan.scan_shape[0])
        }
        for way in ("multicorr", "poly", "pixel"):
            calls[f"py4DSTEM {way}"] = lambda way=way, few=few: py4dstem_detection(
                few, way, minRelativeIntensity=0.005, maxNumPeaks=70
            )
        seconds = alternating(calls, rounds)
        frames = dict.fromkeys(seconds, 8) | {"microinfer": many.shape[0] * many.shape[1]}
        rate = {name: frames[name] / value for name, value in seconds.items()}
        for name, value in rate.items():
            print(f"{size:4d} {name:20s} {value:10.0f} frames/s   ratio {rate['microinfer'] / value:7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer frames")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    compare_quality((2, 8) if quick else (6, 16))
    compare_speed(32 if quick else 128, 3 if quick else 7)


if __name__ == "__main__":
    main()
