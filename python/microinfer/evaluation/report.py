"""The report of an evaluation in Markdown, and its figures for a model's card."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from microinfer import __version__
from microinfer.evaluation.figures import draw_figures
from microinfer.evaluation.run import HIGH_LOSS, Evaluation, SetEvaluation
from microinfer.evaluation.tables import (
    SPREAD_LIMIT,
    by_disks,
    disks_table,
    main_table,
    percent,
    spread_table,
    thickness_table,
    trust,
    trust_sentences,
)
from microinfer.files import atomic_output


def write_report(evaluation: Evaluation, path: str | Path) -> None:
    """Write a Markdown report, its figures in a folder beside it.

    Parameters
    ----------
    evaluation : Evaluation
        What `evaluate` found.
    path : str or Path
        The report, by custom ``*.md``; the figures go to ``<name>_figures``.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    path = Path(path)
    folder = path.with_name(f"{path.stem}_figures")
    with atomic_output(path) as temporary:
        folder.mkdir(exist_ok=True)
        parts = [_head(evaluation)]
        for number, found in enumerate(evaluation.tests, start=1):
            # numbered: names may differ in signs alone
            name = re.sub(r"\W+", "_", found.test.name)
            files = draw_figures(found, folder, f"{number}_{name}")
            parts.append(
                _section(found, {name: f"{quote(folder.name)}/{file.name}" for name, file in files.items()})
            )
        parts.append(_notes(evaluation))
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def card_figures(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Return the main figures of every test set as JSON-able values, for a model's card.

    Returns
    -------
    dict of str to dict
        For each test set by its name: its hash, the scores of the default answers, what the confidence is
        worth, the table by number of disks, and the scores of template matching where it was run.
    """
    result: dict[str, dict[str, Any]] = {}
    for found in evaluation.tests:
        figures: dict[str, Any] = {
            "hash": found.test.hash,
            **found.default.scores(),
            **trust(found),
            "by_disks": by_disks(found),
        }
        if found.matched:
            figures["template_matching"] = {row.method: row.scores() for row in found.matched}
        result[found.test.name] = figures
    return result


def _head(evaluation: Evaluation) -> str:
    card = evaluation.card
    lines = [
        f"# Evaluation of the model {evaluation.name}",
        "",
        f"Phases {', '.join(evaluation.phases)}; {card['voltage'] / 1e3:g} kV; microinfer {__version__}; "
        f"{os.cpu_count()} cores.",
        "",
        "Every pattern counts. The error is the symmetry-reduced misorientation to the label (the paper's geodesic "
        "loss); no answer or the wrong phase counts as 45°. The axes' misalignment is the mean over patterns with "
        "an answer of the right phase, each axis reduced on its own by the full point group, which hides "
        "rotations that the error shows.",
    ]
    if evaluation.matching is not None:
        matching = evaluation.matching
        lines += [
            "",
            f"Template matching: py4DSTEM's, mirror matches on, the first {matching.patterns:,} patterns.",
        ]
        lines += [f"- {name}: {parameters}" for name, parameters in matching.parameters.items()]
    return "\n".join(lines)


def _section(found: SetEvaluation, pictures: dict[str, str]) -> str:
    test = found.test
    parts = [
        f"## Test set {test.name}",
        f"{len(test.phase):,} patterns, {test.peaks.counts.mean():.1f} disks on average, hash `{test.hash}`.",
        main_table(found),
        _picture(pictures, "loss", "Geodesic loss, trained and untrained"),
        _picture(pictures, "axes", "Misalignment of the symmetry-reduced axes"),
        "### Confidence",
        " ".join(trust_sentences(found)),
        _picture(pictures, "reliability", "Reliability diagram, 15 bins of equal mass"),
        "### Number of disks, and the ceiling",
        disks_table(found),
        f"The ceiling is the mean of 1/(1 + n) over the first {len(found.alternatives):,} patterns, n being the "
        "number of other orientations, more than 3° from the truth and from each other, that explain the "
        "measured disks as well (see the notes).",
        "### Thickness",
        thickness_table(found),
        _picture(pictures, "errors", "Error against number of disks and thickness"),
        "### Answers of high loss",
        _high_loss(found),
        _picture(pictures, "high_loss", "Sparse correlation of answers with a high loss"),
    ]
    if found.deviation is not None:
        parts += ["### Ensemble", _spread(found), spread_table(found)]
        parts.append(_picture(pictures, "spread", "Directional spread"))
    return "\n\n".join(part for part in parts if part)


def _picture(pictures: dict[str, str], name: str, text: str) -> str:
    return f"![{text}]({pictures[name]})" if name in pictures else ""


def _high_loss(found: SetEvaluation) -> str:
    high = found.high_loss
    start = f"{high.total:,} answers have a loss above {HIGH_LOSS} rad."
    if not len(high.answers):
        return start
    return (
        f"{start} Mean sparse correlation of their kinematic patterns with the label's, over the label's with "
        f"itself, of {len(high.answers):,} of them: {high.answers.mean():.2f}; of random orientations of the same "
        f"loss {high.random.mean():.2f}. The answer correlates more in "
        f"{percent(np.mean(high.answers > high.random))}."
    )


def _spread(found: SetEvaluation) -> str:
    assert found.deviation is not None
    close = found.deviation < SPREAD_LIMIT
    everywhere = close.all(axis=0)
    parts = [f"All zone axes lie within 3° of their mean in {percent(everywhere.mean())} of the patterns."]
    for name, rows in (("There", everywhere), ("Elsewhere", ~everywhere)):
        if rows.any() and found.ensemble is not None:
            parts.append(
                f"{name} the ensemble is right to 3° in {percent(found.ensemble.right[rows].mean())}."
            )
    return " ".join(parts)


def _notes(evaluation: Evaluation) -> str:
    lines = [
        "## Notes",
        "",
        "- Mode: of a Gaussian kernel density over the error, bandwidth by Silverman's rule with the smallest of "
        "standard deviation, scaled interquartile range and median.",
        "- Rates are those of this run on this machine, from peaks in memory; template matching without the time of "
        "its orientation plan.",
        "- The ceiling: zone axes of a 2.5° grid, turned onto the strongest disk, polished against the disks; an "
        "orientation explains them as well as the true one if its log-likelihood of positions and excitation errors "
        "is at most 0.2 lower and its match score at most 0.02. It takes all orientations as equally probable and "
        "reads intensities kinematically, so a model that has learned dynamical intensities can lie above it; "
        "wrong orientations that noise favours, and near ties, lower what can be reached.",
        f"- Answers of high loss: random orientations have exactly the answer's loss, above {HIGH_LOSS} rad.",
    ]
    if evaluation.matching is not None and len(evaluation.phases) > 1:
        lines.append("- Template matching takes the phase whose best match correlates most.")
    return "\n".join(lines)
