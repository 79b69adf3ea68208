"""The paper's way from Bragg disks to an orientation map, re-implemented plainly for comparison.

As its text and published code have it: py4DSTEM's reader, one scan position at a time; polar coordinates and bins
position by position, every pattern padded to 76 tokens; the regression model on padded batches with a mask, float32;
one object per scan position in the map. The model is `ReferenceNetwork` at the paper's size, with random weights: its
speed does not depend on them. The batch size of its inference is not stated; 512 is the assumption here.
"""

import time
from pathlib import Path

import numpy as np
import torch

from microinfer.crystals.phase import CrystalPhase
from microinfer.models import Model
from microinfer.models.network import OrientationNetwork, build_network
from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ops.tokens import Tokens

MAX_DISKS = 76
BATCH = 512
WIDTH = 384


def paper_model(phases: tuple[CrystalPhase, ...]) -> Model:
    """The paper's architecture with random weights."""
    config = ModelConfig(kind="reference", width=WIDTH, blocks=3, heads=8)
    torch.manual_seed(0)
    return Model.of(build_network(config, phases, TokenSpec(max_disks=MAX_DISKS)))


def map_as_in_the_paper(path: Path, network: OrientationNetwork) -> dict[str, float]:
    """Map a file of py4DSTEM; seconds of the four steps of the paper's Fig. 3c."""
    import py4DSTEM
    from py4DSTEM.process.diffraction.utils import Orientation, OrientationMap

    marks = [time.perf_counter()]
    vectors = py4DSTEM.read(str(path))
    rows, columns = vectors.Rshape
    patterns = []
    for position in np.ndindex(rows, columns):
        points = vectors.cal[position]
        patterns.append(np.stack([points.qx, points.qy, points.I], axis=-1))
    marks.append(time.perf_counter())

    tokens = [polar_tokens(pattern, network.spec) for pattern in patterns]
    stacked = [torch.from_numpy(np.stack(column)) for column in zip(*tokens, strict=True)]
    marks.append(time.perf_counter())

    matrices = []
    with torch.inference_mode():
        for first in range(0, len(patterns), BATCH):
            batch = Tokens(*(column[first : first + BATCH].to(network.device) for column in stacked))
            matrices.append(network.candidates(batch).matrix[:, 0].cpu().numpy())
    marks.append(time.perf_counter())

    result = OrientationMap(num_x=rows, num_y=columns, num_matches=1)
    for index, matrix in enumerate(np.concatenate(matrices)):
        orientation = Orientation(num_matches=1)
        orientation.matrix[0] = matrix
        orientation.corr[0] = 1.0
        result.set_orientation(orientation, *divmod(index, columns))
    marks.append(time.perf_counter())
    return dict(zip(("load", "tokens", "inference", "assembly"), np.diff(marks), strict=True))


def polar_tokens(disks: np.ndarray, spec: TokenSpec) -> tuple[np.ndarray, ...]:
    """Tokens of one pattern, padded to `MAX_DISKS`, in the order of `Tokens`."""
    radius = np.hypot(disks[:, 0], disks[:, 1])
    keep = (radius > spec.direct_beam_radius) & (radius <= spec.radius_max)
    disks, radius = disks[keep][:MAX_DISKS], radius[keep][:MAX_DISKS]
    count = len(disks)
    angle = np.arctan2(disks[:, 1], disks[:, 0])
    intensity = disks[:, 2] / disks[:, 2].max(initial=1e-12)
    radius_bin = np.digitize(radius, np.linspace(0.0, spec.radius_max, spec.radius_bins + 1)) - 1
    angle_bin = np.digitize(angle, np.linspace(-np.pi, np.pi, spec.angle_bins + 1)) - 1
    intensity_bin = np.digitize(intensity, np.linspace(spec.intensity_min, 1.0, spec.intensity_bins + 1)) - 1

    def padded(values: np.ndarray, largest: int | None) -> np.ndarray:
        result = np.zeros(MAX_DISKS, np.float32 if largest is None else np.int32)
        result[:count] = values if largest is None else np.clip(values, 0, largest - 1)
        return result

    return (
        padded(radius, None),
        padded(angle, None),
        padded(intensity, None),
        padded(radius_bin, spec.radius_bins),
        padded(angle_bin, spec.angle_bins),
        padded(intensity_bin, spec.intensity_bins),
        np.arange(MAX_DISKS) < count,
        np.array(count, np.int32),
        np.array(count >= spec.min_disks),
    )
