"""How many clearly different orientations explain a pattern's disks as well as the true one does.

An estimate of the share of right answers that is possible at all. What it assumes is said at `count_alternatives`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer import _core
from microinfer.crystals.diffraction import electron_wavelength, excitation_errors
from microinfer.crystals.errors import RIGHT
from microinfer.crystals.phase import CrystalPhase
from microinfer.crystals.symmetry import misorientation, zone_axis_frames, zone_axis_grid
from microinfer.ops.token_spec import TokenSpec
from microinfer.peaks.bragg_peaks import BraggPeaks
from microinfer.progress import track

_HOPELESS = 10.0
"""Nats behind the true orientation at which a candidate is not polished a second time."""


@dataclass(frozen=True)
class AmbiguitySettings:
    """What counts as explaining a pattern equally well.

    Attributes
    ----------
    spacing : float
        Distance of the zone axes that are tried, in degrees.
    log_likelihood_margin : float
        By how many nats an orientation's disk positions and excitation errors may be less likely than the true
        one's: enough for those that are the same but for where polishing ends.
    score_margin : float
        By how much its match score may be lower, which also counts predicted disks that were not measured.
    """

    spacing: float = 2.5
    log_likelihood_margin: float = 0.2
    score_margin: float = 0.02


class _Reflections(NamedTuple):
    """Reflections that the frames of a grid of zone axes bring near the Ewald sphere, by rising radius."""

    radius: NDArray[np.float64]  # (R,) in the detector plane, 1/Angstrom
    angle: NDArray[np.float64]  # (R,)
    frame: NDArray[np.int64]  # (R,)


def count_alternatives(
    peaks: BraggPeaks,
    spec: TokenSpec,
    label: NDArray[np.floating[Any]],
    label_phase: NDArray[np.integer[Any]],
    phases: tuple[CrystalPhase, ...],
    voltage: float,
    settings: AmbiguitySettings = AmbiguitySettings(),
    *,
    progress: bool = False,
) -> NDArray[np.int64]:
    """Count the orientations that explain each pattern as well as the true one, by simulation.

    Zone axes of a grid over each phase's symmetry cell are turned in the plane until one of their reflections
    lies on the pattern's strongest disk, polished as a map's refinement does, and compared with the true orientation,
    polished alike: by the likelihood of the disks' positions and excitation errors, and by the match score.
    Those farther than 3 degrees from it, or of another phase, are alternatives; of those within 3 degrees of
    each other one counts.

    The estimate assumes that the strongest disk is a reflection of the crystal, that all orientations are
    equally probable beforehand, and that intensities say no more than kinematic theory lets them: a model that
    reads dynamical intensities can do better than 1 / (1 + alternatives), and noise that by chance favours a
    wrong orientation makes it do worse.

    Parameters
    ----------
    peaks : BraggPeaks
        N patterns.
    spec : TokenSpec
        How their disks are chosen.
    label : ndarray, shape (N, 3, 3)
        True orientations.
    label_phase : ndarray of int, shape (N,)
        True phases.
    phases : tuple of CrystalPhase
        The phases among which to choose, with their reflections.
    voltage : float
        Accelerating voltage in V.
    settings : AmbiguitySettings, optional
        What counts as equal.
    progress : bool
        Show a progress bar.

    Returns
    -------
    ndarray of int64, shape (N,)
        Alternatives beside the true orientation; -1 for patterns with too few disks for any answer.
    """
    wide = _refinement(phases, voltage, tilt_error=0.6 * settings.spacing)
    again = _refinement(phases, voltage)
    frames = [zone_axis_frames(zone_axis_grid(phase.operators, settings.spacing)) for phase in phases]
    grids = [
        _reflections(phase, frame, voltage, wide, settings.spacing)
        for phase, frame in zip(phases, frames, strict=True)
    ]
    radius, angle, intensity, *_, count, valid = _core.tokenize(
        peaks.qx, peaks.qy, peaks.intensity, peaks.offsets, spec.core, spec.max_disks
    )
    found = np.full(len(label), -1, np.int64)
    rows = np.flatnonzero(valid)
    for row in track(rows, "counting alternatives", total=len(rows), visible=progress):
        one = slice(row, row + 1)
        disks = radius[one], angle[one], intensity[one], count[one]
        truth, phase = np.asarray(label[row], np.float64), int(label_phase[row])
        starts, of_phase = [truth[None]], [np.array([phase])]
        strongest = int(intensity[row].argmax())
        at = float(radius[row, strongest]), float(angle[row, strongest])
        for index, (grid, frame) in enumerate(zip(grids, frames, strict=True)):
            turned = _turned_to(at, grid, frame, wide.match_radius)
            starts.append(turned)
            of_phase.append(np.full(len(turned), index))
        # the second time from where the first ended, so that no answer pays for its distance from the grid
        which = np.concatenate(of_phase)
        matrix, likelihood, _ = wide.polish(*disks, *_starts(np.concatenate(starts), which))
        hopeful = np.flatnonzero(likelihood[0] >= likelihood[0, 0] - _HOPELESS)
        which = which[hopeful]
        (matrix,), (likelihood,), (score,) = again.polish(*disks, *_starts(matrix[0, hopeful], which))
        equal = (likelihood >= likelihood[0] - settings.log_likelihood_margin) & (
            score >= score[0] - settings.score_margin
        )
        equal[0] = False
        found[row] = 0
        for index, crystal in enumerate(phases):
            same = equal & (which == index)
            centre = truth if index == phase else None
            found[row] += _clusters(matrix[same], likelihood[same], centre, crystal.operators)
    return found


def ceiling(alternatives: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Chance of the right answer when one of the equally good ones is drawn, 1 / (1 + alternatives).

    Parameters
    ----------
    alternatives : ndarray of int, shape (N,)
        Of `count_alternatives`.

    Returns
    -------
    ndarray of float64, shape (N,)
        0 where there can be no answer.
    """
    return np.where(alternatives < 0, 0.0, 1.0 / (1.0 + np.maximum(alternatives, 0)))


def _reflections(
    phase: CrystalPhase,
    frames: NDArray[np.float64],
    voltage: float,
    refinement: _core.Refinement,
    spacing: float,
) -> _Reflections:
    wavelength = electron_wavelength(voltage)
    vectors = phase.reflections[:, :3] @ phase.reciprocal
    length = np.linalg.norm(vectors, axis=1)
    # within reach once the zone axis has been tilted by as much as the grid leaves open
    reach = 3.0 * refinement.excitation_error + length * math.radians(0.6 * spacing)
    radius, angle, frame = [], [], []
    for index, matrix in enumerate(frames):
        lab = vectors @ matrix
        near = np.abs(excitation_errors(lab, wavelength)) <= reach
        radius.append(np.hypot(lab[near, 0], lab[near, 1]))
        angle.append(np.arctan2(lab[near, 1], lab[near, 0]))
        frame.append(np.full(int(near.sum()), index))
    order = np.argsort(np.concatenate(radius), kind="stable")
    return _Reflections(*(np.concatenate(part)[order] for part in (radius, angle, frame)))


def _turned_to(
    disk: tuple[float, float], grid: _Reflections, frames: NDArray[np.float64], match_radius: float
) -> NDArray[np.float64]:
    """Frames turned in the plane so that one of their reflections lies in the disk's direction, (n, 3, 3)."""
    radius, angle = disk
    inside = slice(*np.searchsorted(grid.radius, [radius - match_radius, radius + match_radius]))
    turn = angle - grid.angle[inside]
    cos, sin, zero = np.cos(turn), np.sin(turn), np.zeros_like(turn)
    # M Rz(turn) transposed
    transposed = np.array([[cos, sin, zero], [-sin, cos, zero], [zero, zero, zero + 1.0]])
    return np.asarray(frames[grid.frame[inside]] @ np.moveaxis(transposed, -1, 0))


def _refinement(phases: tuple[CrystalPhase, ...], voltage: float, **spec: float) -> _core.Refinement:
    reflections = [
        np.column_stack([phase.reflections[:, :3] @ phase.reciprocal, phase.reflections[:, 3]])
        for phase in phases
    ]
    offsets = np.cumsum([0, *(len(part) for part in reflections)])
    return _core.Refinement(np.concatenate(reflections), offsets, electron_wavelength(voltage), **spec)


def _starts(
    matrix: NDArray[np.float64], phase: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Candidates of one pattern, as `_core.Refinement.polish` takes them."""
    return matrix.astype(np.float32)[None], phase[None]


def _clusters(
    matrix: NDArray[np.float64],
    likelihood: NDArray[np.float64],
    truth: NDArray[np.float64] | None,
    operators: NDArray[np.float64],
) -> int:
    """How many answers there are that lie farther than 3 degrees from the truth and from each other."""
    left = matrix[np.argsort(-likelihood, kind="stable")]
    count, centre = 0, truth
    while len(left):
        if centre is not None:
            same = np.broadcast_to(centre, left.shape)
            left = left[np.degrees(misorientation(left, same, operators)) > RIGHT]
            if not len(left):
                break
        centre, count = left[0], count + 1
        left = left[1:]
    return count
