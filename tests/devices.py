"""The devices that a test of a torch operator runs on."""

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
