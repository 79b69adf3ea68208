"""Learning curves of trainings, from their logs.

python benchmarks/learning_curves.py runs/cu-reference runs/cu-reference-posterior --out learning_curves.png
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt


def main(folders: list[Path], out: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharex=True, layout="constrained")
    for folder in folders:
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        samples = [record["samples"] for record in records]
        for axis, name in zip(axes, ("mean_error_deg", "median_error_deg"), strict=True):
            axis.plot(samples, [record[name] for record in records], marker=".", label=folder.name)
        last = records[-1]
        print(
            f"{folder.name}: {last['samples']:,} samples, {last['seconds'] / 60:.0f} min, validation mean "
            f"{last['mean_error_deg']:.2f} deg, median {last['median_error_deg']:.2f} deg, within 3 deg "
            f"{last['within_3_deg']:.1%}"
        )
    for axis, title in zip(axes, ("mean", "median"), strict=True):
        axis.set(title=f"validation error, {title}", xlabel="samples seen", ylabel="degrees", yscale="log")
    axes[0].legend()
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path, help="of microinfer train")
    parser.add_argument("--out", type=Path, default=Path("learning_curves.png"))
    arguments = parser.parse_args()
    main(arguments.folders, arguments.out)
