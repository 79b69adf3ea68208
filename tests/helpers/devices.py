"""The devices that a test of a torch operator runs on, and what a test may need of the CPU."""

import pytest
import torch

from microinfer import _core

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            pytest.mark.skipif(not _core.cuda_is_built(), reason="microinfer was built without CUDA"),
        ],
    ),
]

needs_bfloat16 = pytest.mark.skipif(
    not _core.multiplies_bfloat16(), reason="this CPU has no bfloat16 instructions"
)
