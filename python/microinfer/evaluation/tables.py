"""The figures of an evaluation as plain values, and as tables in Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.errors import RIGHT
from microinfer.evaluation.ambiguity import ceiling
from microinfer.evaluation.answers import WITHIN, Answers
from microinfer.evaluation.reliability import reliability
from microinfer.evaluation.run import SetEvaluation

DISK_GROUPS: tuple[tuple[int, int | None], ...] = ((0, 1), (2, 4), (5, 8), (9, 13), (14, 21), (22, None))
"""Numbers of disks, both ends included."""
THICKNESS_GROUPS = 8
CONFIDENT = 0.9
SPREAD_LIMIT = np.radians(RIGHT)


def methods(found: SetEvaluation) -> Iterator[tuple[str, Answers]]:
    """Every row of the main table: its name and its answers."""
    everything = [found.default, found.plain, found.untrained]
    if found.ensemble is not None:
        everything.append(found.ensemble)
    for answers in everything:
        yield answers.method, answers
    if found.matched:
        count = len(found.matched[0].error)
        for answers in (found.default, found.plain):
            yield f"{answers.method}, first {count:,}", answers.first(count)
        for answers in found.matched:
            yield f"{answers.method}, first {count:,}", answers


def main_table(found: SetEvaluation) -> str:
    """One row for each method."""
    header = [
        "",
        "patterns",
        "mean error",
        "median",
        "mode",
        *(f"within {limit}°" for limit in WITHIN),
        "axes x, y, z (rad)",
        "answered",
        "patterns/s",
    ]
    several = len(found.test.phases) > 1
    if several:
        header.append("phase accuracy")
    rows = []
    for name, answers in methods(found):
        scores = answers.scores()
        axes = scores["axis_misalignment_rad"]
        row = [
            name,
            f"{scores['patterns']:,}",
            f"{scores['mean_error_deg']:.2f}°",
            f"{scores['median_error_deg']:.2f}°",
            f"{scores['mode_error_deg']:.3f}°",
            *(percent(scores[f"within_{limit}_deg"]) for limit in WITHIN),
            ", ".join(f"{value:.4f}" for value in axes) if axes else "none",
            percent(answers.answered.mean()),
            f"{scores['patterns_per_second']:,.0f}",
        ]
        if several:
            row.append(f"{scores['phase_accuracy']:.4f} ± {scores['phase_accuracy_error']:.4f}")
        rows.append(row)
    return markdown_table(header, rows)


def by_disks(found: SetEvaluation) -> list[dict[str, Any]]:
    """Accuracy, confidence and simulated ceiling by the number of disks, as JSON-able values.

    The ceiling and the accuracy beside it are those of the patterns for which alternatives were counted.
    """
    sample = len(found.alternatives)
    possible = ceiling(found.alternatives)
    disks, answers = found.test.peaks.counts, found.default
    rows = []
    for low, high in [*DISK_GROUPS, (0, None)]:
        inside = (disks >= low) & (disks <= (np.inf if high is None else high))
        if not inside.any():
            continue
        part = inside[:sample]
        row: dict[str, Any] = {
            "disks": f"{low} to {high}" if high is not None else f"{low} and more" if low else "all",
            "share": round(float(inside.mean()), 4),
            "within_3_deg": round(float(answers.right[inside].mean()), 4),
            "sample": int(part.sum()),
        }
        if answers.confidence is not None:
            row["mean_confidence"] = round(float(answers.confidence[inside].mean()), 4)
        if part.any():
            row["ceiling"] = round(float(possible[part].mean()), 4)
            row["sample_within_3_deg"] = round(float(answers.right[:sample][part].mean()), 4)
            row["below_ceiling"] = round(row["ceiling"] - row["sample_within_3_deg"], 4)
        rows.append(row)
    return rows


def disks_table(found: SetEvaluation) -> str:
    """`by_disks` in Markdown."""
    header = [
        "disks",
        "share",
        "within 3°",
        "mean confidence",
        "sample",
        "ceiling",
        "within 3° in the sample",
        "below the ceiling",
    ]
    rows = [
        [
            row["disks"],
            percent(row["share"]),
            percent(row["within_3_deg"]),
            f"{row['mean_confidence']:.2f}" if "mean_confidence" in row else "none",
            f"{row['sample']:,}",
            *(
                percent(row[name]) if name in row else ""
                for name in ("ceiling", "sample_within_3_deg", "below_ceiling")
            ),
        ]
        for row in by_disks(found)
    ]
    return markdown_table(header, rows)


def thickness_groups(thickness: NDArray[np.floating[Any]]) -> list[NDArray[np.int64]]:
    """Rows of the patterns in groups of equal size by rising thickness."""
    parts = np.array_split(np.argsort(thickness, kind="stable"), THICKNESS_GROUPS)
    return [part for part in parts if len(part)]


def thickness_table(found: SetEvaluation) -> str:
    """Errors by thickness."""
    error, thickness = found.default.error, found.test.thickness
    rows = [
        [
            f"{thickness[part].min():,.0f} to {thickness[part].max():,.0f} Å",
            f"{found.test.peaks.counts[part].mean():.1f}",
            f"{error[part].mean():.2f}°",
            f"{np.median(error[part]):.2f}°",
            percent(found.default.right[part].mean()),
        ]
        for part in thickness_groups(thickness)
    ]
    return markdown_table(["thickness", "mean disks", "mean error", "median", "within 3°"], rows)


def trust(found: SetEvaluation) -> dict[str, float]:
    """What the confidence is worth, and what refinement keeps, as JSON-able values."""
    default, plain = found.default, found.plain
    figures: dict[str, float] = {}
    if default.confidence is not None:
        confident = default.confidence > CONFIDENT
        figures["calibration_error"] = reliability(default.confidence, default.right).calibration_error
        figures["mean_confidence"] = float(default.confidence.mean())
        figures["confident_share"] = float(confident.mean())
        if confident.any():
            figures["confident_right"] = float(default.right[confident].mean())
    if plain.right.any():
        figures["kept_right_by_refinement"] = float(default.right[plain.right].mean())
    return {name: round(value, 4) for name, value in figures.items()}


def trust_sentences(found: SetEvaluation) -> Iterator[str]:
    """`trust` in words."""
    figures = trust(found)
    if "calibration_error" in figures:
        yield (
            f"Expected calibration error of the confidence: {figures['calibration_error']:.3f} (15 bins of equal "
            f"mass); mean confidence {figures['mean_confidence']:.3f}, right {percent(found.default.right.mean())}."
        )
        right = (
            f", {percent(figures['confident_right'], 2)} of them right"
            if "confident_right" in figures
            else ""
        )
        yield f"Confidence above {CONFIDENT}: {percent(figures['confident_share'])} of all{right}."
    else:
        yield "The model gives no confidence."
    if "kept_right_by_refinement" in figures:
        yield (
            "Of the answers right without refinement "
            f"{percent(figures['kept_right_by_refinement'], 2)} stay right with it."
        )


def spread_table(found: SetEvaluation) -> str:
    """Directional spread of an ensemble, and each member's errors."""
    assert found.deviation is not None
    rows = []
    for answers, deviation in zip(found.members, found.deviation, strict=True):
        known = deviation[np.isfinite(deviation)]
        rows.append(
            [
                answers.method,
                f"{np.degrees(known.mean()):.2f}°" if len(known) else "none",
                f"{np.degrees(np.median(known)):.2f}°" if len(known) else "none",
                percent(np.mean(known < SPREAD_LIMIT)) if len(known) else "none",
                percent(len(known) / len(deviation)),
                f"{answers.error.mean():.2f}°",
            ]
        )
    header = ["", "mean deviation", "median", "below 3°", "patterns that all answer", "mean error"]
    return markdown_table(header, rows)


def percent(share: Any, digits: int = 1) -> str:
    """Write a share in percent."""
    return f"{100.0 * float(share):.{digits}f} %"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, its first column to the left and the others to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
