"""The state of a training as a file: as it was written, or refused."""

import subprocess
import sys

import pytest
import torch

from helpers.damage import damages
from microinfer.training.state import read_state, write_state

CPU = torch.device("cpu")


def state():
    network = torch.nn.Linear(5, 3)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 5)).sum().backward()
    optimizer.step()
    return {
        "config": "{}",
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": [1, 2, 3],
    }


def test_a_state_comes_back(tmp_path):
    written = state()
    write_state(tmp_path / "state.pt", written)
    read = read_state(tmp_path / "state.pt", CPU)
    assert read["progress"] == [1, 2, 3]
    torch.testing.assert_close(read["model"], written["model"], rtol=0, atol=0)
    torch.testing.assert_close(read["optimizer"]["state"], written["optimizer"]["state"], rtol=0, atol=0)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_state_is_refused(tmp_path, count):
    path = tmp_path / "state.pt"
    write_state(path, state())
    whole = path.read_bytes()
    for data in damages(whole, count):
        path.write_bytes(data)
        if data != whole:
            with pytest.raises(ValueError, match=r"state\.pt: is damaged, or no state of a training"):
                read_state(path, CPU)


def test_what_torch_alone_wrote_is_refused(tmp_path):
    torch.save(state(), tmp_path / "state.pt")
    with pytest.raises(ValueError, match="no state of a training with this version"):
        read_state(tmp_path / "state.pt", CPU)
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        read_state(tmp_path / "none.pt", CPU)


def test_a_full_disk_is_an_error_and_keeps_the_old_state(tmp_path):
    script = """
import os, resource, torch
from pathlib import Path
from microinfer.training.state import read_state, write_state
path = Path("state.pt")
write_state(path, {"model": torch.zeros(3)})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in (0, 100, 10_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write_state(path, {"model": torch.ones(100_000)})
    except OSError as error:
        assert error.filename == "state.pt" and "cannot write the file: File too large" in str(error), error
    else:
        raise AssertionError(limit)
    assert os.listdir() == ["state.pt"]
    assert read_state(path, torch.device("cpu"))["model"].tolist() == [0, 0, 0]
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
