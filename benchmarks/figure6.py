"""The paper's Fig. 6, S10 and S11: from the frames of synthetic scans of Cu and Cu2O to maps, beside their truth.

    python benchmarks/figure6.py --model cu-cu2o --seeds 5 --out benchmarks/reports/figure6

Each scan is the shipped one, `figure6` (128 x 128 positions, 60 grains, 21 Angstrom, background and probe), with a
seed of its own. Three ways to its peaks: found in the frames (microinfer.find_peaks), the true ones that have at least
--electrons, and all true ones. The phase accuracy is that of the paper's eqs. 4 and 5 over the positions with a
crystal, an answer of the wrong phase and none counting as wrong; orientations are compared where the phase is right.
For the paper's Fig. S11 give --model again, for another model. Writes OUT.md and, of the first scan and model, OUT.png.
"""

import argparse
import dataclasses
import time
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import microinfer as mi
from microinfer.crystals.errors import axis_misalignment
from microinfer.crystals.symmetry import misorientation
from microinfer.evaluation.timing import machine
from microinfer.maps.ipf import ipf_colors
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.simulation import SyntheticScan, load_scan_settings, simulate_scan

SEED = 6_128_128_000
FOUND, TRUE, ALL = "found in the frames", "true, of {electrons:g} electrons and more", "true, all"
PAPER = {
    "phase accuracy": "0.9973 ± 0.0005",
    "axis x (rad)": "0.037 ± 0.079",
    "axis y (rad)": "0.042 ± 0.062",
    "axis z (rad)": "0.040 ± 0.058",
}


def at_least(peaks: BraggPeaks, electrons: float) -> BraggPeaks:
    """The peaks that have so many electrons."""
    kept = peaks.intensity >= electrons
    offsets = np.concatenate([[0], np.cumsum(kept)])[peaks.offsets]
    return BraggPeaks(offsets, peaks.qx[kept], peaks.qy[kept], peaks.intensity[kept], peaks.scan)


def ways(scan: SyntheticScan, electrons: float) -> dict[str, BraggPeaks]:
    """The peaks of a scan, by the way in which they were come by."""
    found = {}
    if hasattr(mi, "find_peaks"):
        start = time.perf_counter()
        found[FOUND] = mi.find_peaks(scan)
        seconds = time.perf_counter() - start
        print(f"  rendered and found: {len(scan.true_peaks) / seconds:,.0f} frames a second", flush=True)
    found[TRUE.format(electrons=electrons)] = at_least(scan.true_peaks, electrons)
    found[ALL] = scan.true_peaks
    return found


def misalignments(scan: SyntheticScan, omap: mi.OrientationMap) -> tuple[np.ndarray, np.ndarray]:
    """Radians between the axes x, y and z, and misorientations in degrees; NaN where the phase is not right."""
    truth = scan.truth
    axes, angle = np.full((*scan.scan_shape, 3), np.nan), np.full(scan.scan_shape, np.nan)
    for index, phase in enumerate(omap.phases):
        rows = (truth.phase[..., 0] == index) & omap.valid & (omap.phase == index)
        answer, label = (
            values[rows].astype(float) for values in (omap.matrix, truth.orientation[..., 0, :, :])
        )
        axes[rows] = axis_misalignment(answer, label, phase.operators)
        angle[rows] = np.degrees(misorientation(answer, label, phase.operators))
    return axes, angle


def figures(scan: SyntheticScan, omap: mi.OrientationMap) -> dict[str, float]:
    """Figures of one map."""
    crystal = ~scan.truth.vacuum
    axes, angle = misalignments(scan, omap)
    right = np.isfinite(angle)
    accuracy, positions = right.sum() / crystal.sum(), crystal.sum()
    result = {
        "phase accuracy": accuracy,
        "its standard deviation (eq. 5)": np.sqrt(accuracy * (1.0 - accuracy) / positions),
        "no answer": np.mean(~omap.valid[crystal]),
        "phase accuracy of the answers": right.sum() / max(1, np.count_nonzero(omap.valid & crystal)),
    }
    for number, name in enumerate("xyz"):
        result[f"axis {name} (rad)"] = axes[right, number].mean()
        result[f"axis {name}, standard deviation"] = axes[right, number].std()
    return result | {
        "misorientation, median (deg)": np.median(angle[right]),
        "within 3 deg, of the crystal positions": np.count_nonzero(angle[right] < 3.0) / positions,
        "empty positions without an answer": np.mean(~omap.valid[~crystal]),
    }


def draw(scan: SyntheticScan, peaks: BraggPeaks, omap: mi.OrientationMap, path: Path) -> None:
    """The paper's Fig. 6c to e and Fig. S10."""
    truth = scan.truth
    label = omap.replace(
        matrix=truth.orientation[..., 0, :, :],
        phase=truth.phase[..., 0],
        valid=~truth.vacuum,
        confidence=(~truth.vacuum).astype(np.float32),
    )
    places = np.argwhere(~truth.vacuum & (peaks.counts.reshape(scan.scan_shape) > 8))
    x, y = places[len(places) // 2]
    frame = scan.read_rows(x, x + 1)[0, y]
    beam = scan.true_peaks.intensity[scan.true_peaks.offsets[:-1]].reshape(scan.scan_shape)
    axes, _ = misalignments(scan, omap)
    colours = ListedColormap(["0.9", "#b5651d", "#4477aa"])
    figure, panels = plt.subplots(3, 4, figsize=(13.0, 10.0), layout="constrained")
    panels[0, 0].imshow(beam, cmap="gray")
    panels[0, 0].plot(y, x, "r+")
    panels[0, 0].set_title("bright field")
    panels[0, 1].imshow(np.log1p(frame), cmap="gray")
    at = truth.origin[x, y] + peaks.pattern(x, y)[:, :2] / scan.settings.camera.pixel_size
    panels[0, 1].plot(at[:, 1], at[:, 0], "o", mfc="none", mec="red", ms=9)
    panels[0, 1].set_title("frame at +, disks")
    for row, one, name in ((0, label, "truth"), (1, omap, "map")):
        panels[row, 2].imshow(np.where(one.valid, one.phase, -1), cmap=colours, vmin=-1, vmax=1)
        panels[row, 2].set_title(f"{name}: {' (brown), '.join(phase.name for phase in one.phases)} (blue)")
        panels[row, 3].imshow(ipf_colors(one, np.array([0.0, 0.0, 1.0])))
        panels[row, 3].set_title(f"{name}: zone axis")
    panels[1, 0].imshow(np.where(omap.valid, omap.confidence, np.nan), vmin=0, vmax=1)
    panels[1, 0].set_title("confidence, 0 to 1")
    panels[1, 1].imshow(np.where(omap.phase == truth.phase[..., 0], np.nan, 1.0), cmap="Reds", vmin=0, vmax=1)
    panels[1, 1].set_title("wrong phase, or none")
    for number, name in enumerate("xyz"):
        shown = panels[2, number].imshow(axes[..., number], vmin=0.0, vmax=0.3)
        panels[2, number].set_title(f"misaligned {name} (rad)")
    figure.colorbar(shown, ax=panels[2, 2])
    for panel in panels.ravel():
        panel.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table(results: dict[tuple[str, str], list[dict[str, float]]], seeds: int, settings: str) -> str:
    lines = [f"{machine()}; {seeds} scans {settings}; mean (lowest to highest).", ""]
    for model in dict.fromkeys(name for name, _ in results):
        found = {way: values for (name, way), values in results.items() if name == model}
        lines += [
            f"## {model}",
            "",
            f"| | {' | '.join(found)} | the paper's model |",
            "|---" * (2 + len(found)) + "|",
        ]
        for name in next(iter(found.values()))[0]:
            cells = []
            for values in found.values():
                of = np.array([one[name] for one in values])
                cells.append(f"{of.mean():.4f} ({of.min():.4f} to {of.max():.4f})")
            lines.append(f"| {name} | {' | '.join(cells)} | {PAPER.get(name, '')} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("figure6"))
    parser.add_argument("--model", action="append", help="by default cu-cu2o")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scan", default="figure6", help="a scan's settings, of the phases of the models")
    parser.add_argument("--dose", type=float, help="electrons a frame, in place of the scan's")
    parser.add_argument("--electrons", type=float, default=50.0)
    arguments = parser.parse_args()
    settings = load_scan_settings(arguments.scan)
    if arguments.dose:
        settings = dataclasses.replace(
            settings, probe=dataclasses.replace(settings.probe, dose=arguments.dose)
        )
    models = {name: mi.load_model(name) for name in arguments.model or ["cu-cu2o"]}
    results: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for seed in range(arguments.seeds):
        scan = simulate_scan(dataclasses.replace(settings, seed=SEED + seed))
        for way, peaks in ways(scan, arguments.electrons).items():
            for name, model in models.items():
                if [phase.name for phase in model.phases] != [phase.name for phase in scan.phases]:
                    parser.error(f"the phases of {name} must be {', '.join(p.name for p in scan.phases)}")
                omap = mi.map_orientations(peaks, model)
                found = figures(scan, omap)
                print(f"seed {seed}, {name}, {way}: {found['phase accuracy']:.4f}", flush=True)
                if not results[name, way] and len(results) == 1:
                    draw(scan, peaks, omap, arguments.out.with_suffix(".png"))
                results[name, way].append(found)
        shown = f"of {settings.probe.dose:,.0f} electrons a frame"
        arguments.out.with_suffix(".md").write_text(table(results, seed + 1, shown))
