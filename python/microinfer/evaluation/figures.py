"""The figures of an evaluation's report."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microinfer.evaluation.reliability import reliability
from microinfer.evaluation.run import SetEvaluation
from microinfer.evaluation.tables import DISK_GROUPS, SPREAD_LIMIT, thickness_groups
from microinfer.files import atomic_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINED, UNTRAINED, THIRD = "#b5651d", "#4477aa", "#228833"
_BINS = 60
_LOWEST = 1e-5  # radians, the left end of logarithmic axes


def draw_figures(found: SetEvaluation, folder: Path, prefix: str) -> dict[str, Path]:
    """Draw the figures of one test set.

    Parameters
    ----------
    found : SetEvaluation
        What was found.
    folder : Path
        Where the PNG files go; it exists.
    prefix : str
        Beginning of their names.

    Returns
    -------
    dict of str to Path
        The files by the names of the figures: loss, axes, errors, reliability where the model gives a
        confidence, high_loss where there is any, spread where there is an ensemble.
    """
    wanted: dict[str, tuple[Callable[..., None], int]] = {
        "loss": (_loss, 1),
        "axes": (_axes, 1),
        "errors": (_errors, 2),
    }
    if found.default.confidence is not None:
        wanted["reliability"] = (_reliability, 1)
    if len(found.high_loss.answers):
        wanted["high_loss"] = (_high_loss, 1)
    if found.deviation is not None and np.isfinite(found.deviation).any():
        wanted["spread"] = (_spread, 1)
    files = {}
    for name, (draw, panels) in wanted.items():
        files[name] = folder / f"{prefix}_{name}.png"
        _save(files[name], panels, draw, found)
    return files


def _save(path: Path, panels: int, draw: Callable[..., None], found: SetEvaluation) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels, 3.2), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    draw(found, *np.atleast_1d(figure.subplots(1, panels)))
    with atomic_output(path) as temporary:
        figure.savefig(temporary, format="png")


def _loss(found: SetEvaluation, axes: "Axes") -> None:
    for answers, color in ((found.default, TRAINED), (found.untrained, UNTRAINED)):
        _log_density(axes, np.radians(answers.error), color, answers.method)
    axes.set(xlabel="geodesic loss (rad)", ylabel="density per decade")
    axes.legend(frameon=False)


def _axes(found: SetEvaluation, axes: "Axes") -> None:
    for index, (name, color) in enumerate(zip("xyz", (TRAINED, UNTRAINED, THIRD), strict=True)):
        _log_density(axes, found.default.misalignment[:, index], color, name)
    axes.set(xlabel="misalignment of the symmetry-reduced axis (rad)", ylabel="density per decade")
    axes.legend(frameon=False)


def _log_density(axes: "Axes", values: NDArray[np.float64], color: str, label: str) -> None:
    edges = np.linspace(np.log10(_LOWEST), np.log10(np.pi), _BINS + 1)
    counts, _ = np.histogram(np.log10(np.clip(values, _LOWEST, np.pi)), edges)
    axes.stairs(counts / max(1, len(values)) / np.diff(edges), 10.0**edges, color=color, label=label)
    axes.set_xscale("log")


def _errors(found: SetEvaluation, left: "Axes", right: "Axes") -> None:
    disks = found.test.peaks.counts
    groups = [
        np.flatnonzero((disks >= low) & (disks <= (np.inf if high is None else high)))
        for low, high in DISK_GROUPS
    ]
    _boxes(left, found, [group for group in groups if len(group)], disks)
    left.set(xlabel="disks", ylabel="error (degrees)")
    _boxes(right, found, thickness_groups(found.test.thickness), found.test.thickness)
    right.set(xlabel="thickness (Å)", ylabel="error (degrees)")


def _boxes(
    axes: "Axes", found: SetEvaluation, groups: list[NDArray[np.int64]], quantity: NDArray[Any]
) -> None:
    """Median and quartiles of the error, and the share within 3 degrees, at each group's median."""
    at = [float(np.median(quantity[group])) for group in groups]
    low, middle, high = np.array(
        [np.maximum(np.quantile(found.default.error[group], [0.25, 0.5, 0.75]), 1e-3) for group in groups]
    ).T
    axes.vlines(at, low, high, color=TRAINED, alpha=0.4, linewidth=5.0)
    axes.plot(at, middle, "o-", color=TRAINED, label="median and quartiles")
    axes.set_yscale("log")
    share = axes.twinx()
    share.plot(at, [found.default.right[group].mean() for group in groups], "s--", color=UNTRAINED)
    share.set(ylim=(0.0, 1.03))
    share.set_ylabel("share within 3 degrees", color=UNTRAINED)


def _reliability(found: SetEvaluation, axes: "Axes") -> None:
    assert found.default.confidence is not None
    bins = reliability(found.default.confidence, found.default.right)
    axes.plot([0.0, 1.0], [0.0, 1.0], color="0.7", linewidth=1.0)
    axes.plot(bins.confidence, bins.accuracy, "o-", color=TRAINED)
    axes.set(xlabel="mean confidence", ylabel="share right to 3 degrees", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"expected calibration error {bins.calibration_error:.3f}", fontsize=9)


def _high_loss(found: SetEvaluation, axes: "Axes") -> None:
    edges = np.linspace(0.0, 1.2, 25)
    for values, color, name in (
        (found.high_loss.answers, TRAINED, "answers of high loss"),
        (found.high_loss.random, UNTRAINED, "random, of the same loss"),
    ):
        counts, _ = np.histogram(np.clip(values, 0.0, 1.2), edges)
        axes.stairs(counts / len(values), edges, color=color, label=name)
    axes.set(xlabel="sparse correlation with the label's pattern", ylabel="share")
    axes.legend(frameon=False)


def _spread(found: SetEvaluation, axes: "Axes") -> None:
    assert found.deviation is not None
    known = found.deviation[np.isfinite(found.deviation)]
    _log_density(axes, known, TRAINED, "all members")
    axes.axvline(SPREAD_LIMIT, color="0.6", linewidth=1.0)
    axes.set(xlabel="angle of the zone axis to the members' mean (rad)", ylabel="density per decade")
