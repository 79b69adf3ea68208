"""How many floating-point operations the matrix products of a model take."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from microinfer.models.base import OrientationModel
from microinfer.models.decode import TOP_CELLS
from microinfer.models.encoder import Attention
from microinfer.models.posterior import PosteriorModel

_OF_DISKS = ("embedding", "blocks")  # layers that see every disk; the others see patterns
_OF_TABLES = ("angle_embedding", "cell_waves")  # no such layer: of a table's rows, and of the cells looked at


def matrix_operations(model: OrientationModel, lengths: NDArray[np.int64]) -> int:
    """Floating-point operations (a product and a sum are two) of a model's matrix products.

    In-plane waves count for the cells that decoding looks at.

    Parameters
    ----------
    model : OrientationModel
        The model.
    lengths : ndarray of int, shape (B,)
        Disks of each pattern.

    Returns
    -------
    int
    """
    of_disk = of_pattern = of_pair = 0
    for name, layer in model.named_modules():
        if isinstance(layer, Attention):
            of_pair += 4 * layer.out.in_features
        if not isinstance(layer, nn.Linear) or name.split(".")[0] in _OF_TABLES:
            continue
        operations = 2 * layer.in_features * layer.out_features
        if name.split(".")[0] in _OF_DISKS:
            of_disk += operations
        else:
            # sums over disks turned by a cosine and by a sine go through the in-plane weights
            of_pattern += operations * (2 if name == "disk_waves" else 1)
    if isinstance(model, PosteriorModel):
        looked_at = min(TOP_CELLS, len(model.cells))
        of_pattern += sum(
            8 * looked_at * nn.Module.get_parameter(layer, "weight").shape[1] for layer in model.cell_waves
        )
    disks = lengths.astype(np.int64)
    return int(disks.sum()) * of_disk + len(disks) * of_pattern + int((disks**2).sum()) * of_pair
