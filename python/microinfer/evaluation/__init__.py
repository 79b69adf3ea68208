"""Evaluating models on labelled patterns, beside template matching."""

from microinfer.evaluation.answers import Answers, LabelledSet, labelled_set
from microinfer.evaluation.report import card_figures, write_report
from microinfer.evaluation.run import Evaluation, evaluate

__all__ = [
    "Answers",
    "Evaluation",
    "LabelledSet",
    "card_figures",
    "evaluate",
    "labelled_set",
    "write_report",
]
