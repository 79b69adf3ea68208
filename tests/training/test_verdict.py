"""Verdicts: the share of right answers beside what is usual, and when it is too little."""

import dataclasses

import numpy as np
import pytest
import torch

from microinfer.mapping import map_orientations
from microinfer.ops.tokens import tokenize
from microinfer.training.augmentation import Batch
from microinfer.training.verdict import USUAL, Verdict, judge

VERDICT = Verdict(100, 0.7, 1.0, 0.8, 0.1, 0.9)


def test_a_model_is_judged_by_its_own_answers(small_model, scan):
    omap = map_orientations(scan, small_model, device="cpu")
    tokens = tokenize(scan, small_model.spec)
    valid = torch.tensor(omap.valid.ravel())
    label = torch.tensor(np.nan_to_num(omap.matrix.reshape(-1, 3, 3)))[valid]
    rows = type(tokens)(*(part[valid] for part in tokens))
    batch = Batch(rows, label, torch.zeros(len(label), dtype=torch.int64))
    answers = []
    found = judge(small_model, batch, "cpu", answers.append)
    assert found.patterns == len(label)
    assert sum(answers) == 2 * found.patterns
    assert found.refined_within_3_deg > 0.95  # its own answers
    assert found.refined_median_error_deg < 0.1
    assert found.within_3_deg < found.refined_within_3_deg
    usual = [dict(USUAL)[max(least for least, _ in USUAL if least <= count)] for count in rows.count.tolist()]
    assert found.usual_within_3_deg == pytest.approx(np.mean(usual))

    tilt = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])  # 16 degrees
    other = judge(small_model, batch._replace(orientation=tilt @ label), "cpu", answers.append)
    assert other.refined_within_3_deg < 0.05
    assert not other.good_enough


def test_what_is_enough_goes_by_what_is_usual():
    assert VERDICT.good_enough
    assert not dataclasses.replace(VERDICT, refined_within_3_deg=0.6).good_enough
    assert dataclasses.replace(VERDICT, refined_within_3_deg=0.6, usual_within_3_deg=0.7).good_enough
    assert VERDICT.to_dict()["good_enough"] is True
