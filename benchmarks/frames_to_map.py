"""From a camera's file to a map, beside py4DSTEM with its defaults on the same frames: speed, and what is right.

    python benchmarks/frames_to_map.py [--positions 64] [--matched 300] [--rounds 3] [--out REPORT.md]

The scan is a synthetic polycrystal of copper. Speed: `map_to_file` on the whole file, and py4DSTEM's detection
(`multicorr`) and template matching on --matched of its frames, taking turns; medians. Right: the share of the positions
inside grains that are right to 3 degrees, at three doses, by the disks of either, mapped with `cu`, and by py4DSTEM
alone; for py4DSTEM's disks the best of several thresholds counts.
"""

import argparse
import contextlib
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import py4DSTEM

import microinfer as mi
from detection import alternating
from microinfer.crystals.errors import RIGHT, orientation_errors
from microinfer.crystals.structure import load_structure
from microinfer.detection import DetectedScan
from microinfer.evaluation.template_matching import MatchParameters, TemplateMatcher
from microinfer.evaluation.timing import machine
from microinfer.mapping import map_to_file
from microinfer.simulation import SyntheticScan, load_scan_settings, simulate_scan
from microinfer.simulation.scan.output import write_scan
from microinfer.simulation.settings import SimulationConfig

DOSES = (1e3, 1e4, 1e5)
THRESHOLDS = (0.001, 0.003, 0.01)  # minRelativeIntensity of py4DSTEM
SMALL = (24, 24)  # positions of the scans that are judged


def copper(side: tuple[int, int], dose: float) -> SyntheticScan:
    shipped = load_scan_settings("dose-1e4")
    return simulate_scan(
        replace(
            shipped,
            phases=shipped.phases[:1],
            scan=replace(shipped.scan, shape=side),
            probe=replace(shipped.probe, dose=dose),
        )
    )


def their_peaks(frames: np.ndarray, scan: DetectedScan, threshold: float) -> mi.BraggPeaks:
    """py4DSTEM's disks with the template and the direct beam that microinfer finds."""
    radius = scan.probe.radius
    size = frames.shape[-1]
    probe = py4DSTEM.Probe(scan.probe.image.astype(np.float64))
    kernel = probe.get_kernel(
        mode="sigmoid", origin=(size // 2, size // 2), radii=(radius, 2 * radius), returncalc=True
    )
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        vectors = py4DSTEM.braggvectors.diskdetection.find_Bragg_disks(
            py4DSTEM.DataCube(frames),
            kernel,
            minPeakSpacing=radius,
            edgeBoundary=int(np.ceil(radius)),
            minRelativeIntensity=threshold,
        )
    parts, counts = [], []
    for rx, ry in np.ndindex(frames.shape[:2]):
        points = vectors._v_uncal[rx, ry].data
        x0, y0 = scan.origin.expected(np.array([[rx, ry]]))[0]
        near = np.hypot(points["qx"] - x0, points["qy"] - y0)
        beam = int(near.argmin()) if len(near) and near.min() < radius else None
        if beam is not None:
            x0, y0 = points["qx"][beam], points["qy"][beam]
        parts.append(np.stack([points["qx"] - x0, points["qy"] - y0, points["intensity"]], axis=1))
        counts.append(len(points))
    qx, qy, intensity = np.concatenate(parts).T
    size = scan.pixel_size
    return mi.BraggPeaks(
        np.concatenate([[0], np.cumsum(counts)]), qx * size, qy * size, intensity, frames.shape[:2]
    )


def right(scan: SyntheticScan, matrix: np.ndarray, phase: np.ndarray, phases: tuple) -> float:
    inside = ~scan.truth.vacuum & ~scan.truth.overlap
    truth = scan.truth.orientation[..., 0, :, :][inside]
    errors = orientation_errors(matrix[inside], phase[inside], truth, np.zeros(len(truth), int), phases)
    return float(np.mean(errors < RIGHT))


def mapped(scan: SyntheticScan, peaks: mi.BraggPeaks, model: mi.Model) -> float:
    omap = mi.map_orientations(peaks, model, check=False)
    return right(scan, omap.matrix, omap.phase, omap.phases)


def matched(scan: SyntheticScan, peaks: mi.BraggPeaks, matcher: TemplateMatcher, phases: tuple) -> float:
    answers = [matcher.match(peaks.pattern(*position)) for position in np.ndindex(peaks.scan_shape)]
    matrix = np.array([answer[0] for answer in answers]).reshape(*peaks.scan_shape, 3, 3)
    phase = np.array([answer[1] for answer in answers]).reshape(peaks.scan_shape)
    return right(scan, matrix, phase, phases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=64, help="of the timed scan, along either axis")
    parser.add_argument("--matched", type=int, default=300, help="frames that py4DSTEM is timed on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = mi.load_model("cu")
    matcher = TemplateMatcher(
        [load_structure("Cu")], SimulationConfig(voltage=300e3, k_max=2.1), MatchParameters()
    )
    lines = [
        "# From frames to the map",
        "",
        f"microinfer {mi.__version__} with `cu` beside py4DSTEM {py4DSTEM.__version__}, {machine()}.",
        "Synthetic copper, frames of 128 x 128 pixels; by `benchmarks/frames_to_map.py`.",
        "",
        f"Right to 3 degrees inside grains, {SMALL[0]} x {SMALL[1]} positions:",
        "",
        "| electrons a frame | microinfer's disks, `cu` | py4DSTEM's disks, `cu` | py4DSTEM's disks and matching |",
        "|---|---|---|---|",
    ]
    for dose in DOSES:
        scan = copper(SMALL, dose)
        frames = scan.read_rows(0, SMALL[0])
        detected = DetectedScan(scan)
        theirs = [their_peaks(frames, detected, threshold) for threshold in THRESHOLDS]
        ours = mapped(scan, detected.read_rows(0, SMALL[0]), model)
        best = max(theirs, key=lambda peaks: mapped(scan, peaks, model))
        cells = [ours, mapped(scan, best, model), matched(scan, best, matcher, model.phases)]
        lines.append(f"| {dose:g} | {' | '.join(f'{cell:.1%}' for cell in cells)} |")
        print(lines[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scan = copper((options.positions, options.positions), 1e4)
        write_scan(scan, Path(folder))
        columns = max(1, options.matched // 4)
        frames = scan.read_rows(0, 4)[:, :columns]
        detected = DetectedScan(scan)

        def ours() -> None:
            map_to_file(Path(folder) / "scan.h5", model, Path(folder) / "map.h5", check=False, overwrite=True)

        def theirs() -> None:
            peaks = their_peaks(frames, detected, 0.005)
            for position in np.ndindex(peaks.scan_shape):
                matcher.match(peaks.pattern(*position))

        seconds = alternating({"ours": ours, "theirs": theirs}, options.rounds)
    rates = options.positions**2 / seconds["ours"], frames.shape[0] * frames.shape[1] / seconds["theirs"]
    lines += [
        "",
        f"Frames to map, 1e4 electrons: microinfer {rates[0]:,.0f} frames/s, py4DSTEM (detection and matching, its",
        f"defaults) {rates[1]:,.1f} frames/s: {rates[0] / rates[1]:,.0f} times as fast.",
        "",
    ]
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
