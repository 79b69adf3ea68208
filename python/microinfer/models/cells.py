"""The zone-axis cells of a posterior: a grid of directions that fills each phase's symmetry cell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import zone_axis_frames, zone_axis_grid


def zone_axis_cells(phases: Sequence[CrystalPhase], spacing: float) -> dict[str, NDArray[Any]]:
    """Cells of all phases, one phase after the other.

    Parameters
    ----------
    phases : sequence of CrystalPhase
        The phases.
    spacing : float
        Distance of neighbouring cells in degrees.

    Returns
    -------
    dict of str to ndarray
        ``cells`` (K, 3, 3) float32, each cell's rotation at in-plane angle 0; ``cell_phase`` (K,) int64, its phase.
    """
    frames = [zone_axis_frames(zone_axis_grid(phase.operators, spacing)) for phase in phases]
    return {
        "cells": np.concatenate(frames).astype(np.float32),
        "cell_phase": np.repeat(np.arange(len(phases)), [len(part) for part in frames]),
    }
