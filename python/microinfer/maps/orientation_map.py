"""The orientation map: what the mapper answers at every scan position."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer import __version__
from microinfer.crystals.phase import CrystalPhase

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from orix.crystal_map import CrystalMap
    from py4DSTEM.process.diffraction import Crystal
    from py4DSTEM.process.diffraction.utils import OrientationMap as Py4dstemMap

    from microinfer.peaks.bragg_peaks import BraggPeaks


ALTERNATIVES = 2
"""Answers that a map keeps for each position beside the best one."""

FIELDS: dict[str, tuple[type, tuple[int, ...], float]] = {
    "matrix": (np.float32, (3, 3), np.nan),
    "valid": (np.bool_, (), False),
    "phase": (np.int16, (), -1),
    "confidence": (np.float32, (), 0.0),
    "score": (np.float32, (), np.nan),
    "alternative_matrix": (np.float32, (ALTERNATIVES, 3, 3), np.nan),
    "alternative_phase": (np.int16, (ALTERNATIVES,), -1),
    "alternative_probability": (np.float32, (ALTERNATIVES,), 0.0),
}
"""The arrays of a map: type, shape at one scan position, and what stands where there is no answer."""


class MapBlock(NamedTuple):
    """Answers for a block of scan positions; the last four may be left out."""

    matrix: ArrayLike  # (rows, Ry, 3, 3)
    valid: ArrayLike  # (rows, Ry)
    phase: ArrayLike  # (rows, Ry)
    confidence: ArrayLike  # (rows, Ry)
    score: ArrayLike | None = None  # (rows, Ry)
    alternative_matrix: ArrayLike | None = None  # (rows, Ry, ALTERNATIVES, 3, 3)
    alternative_phase: ArrayLike | None = None  # (rows, Ry, ALTERNATIVES)
    alternative_probability: ArrayLike | None = None  # (rows, Ry, ALTERNATIVES)


class Alternatives(NamedTuple):
    """Ranked answers after the best one."""

    matrix: NDArray[np.float32]
    """(Rx, Ry, ALTERNATIVES, 3, 3), NaN where there is none."""
    phase: NDArray[np.int16]
    """(Rx, Ry, ALTERNATIVES), -1 where there is none."""
    probability: NDArray[np.float32]
    """(Rx, Ry, ALTERNATIVES), 0 where there is none."""


def blank_arrays(shape: tuple[int, ...]) -> dict[str, Any]:
    """Every array of a map for scan positions without an answer."""
    return {name: np.full((*shape, *cell), fill, dtype) for name, (dtype, cell, fill) in FIELDS.items()}


def checked_arrays(block: MapBlock, n_phases: int, first_row: int = 0) -> dict[str, Any]:
    """Check the answers for a block of scan positions and blank the invalid ones.

    Parameters
    ----------
    block : MapBlock
        ``matrix`` are orientations, ``v_crystal = matrix @ v_lab``; ``valid`` says where there is an answer;
        ``phase`` are indices of phases; ``confidence``, ``score`` (NaN where there is none) and the
        probabilities of the alternatives lie in [0, 1].
    n_phases : int
        Number of phases.
    first_row : int, default: 0
        Scan row of the block's first row, for error messages.

    Returns
    -------
    dict of str to ndarray
        The arrays of `FIELDS`. What stands at an invalid position is blank, as are arrays that were left out.

    Raises
    ------
    ValueError
        For shapes that do not fit, and for valid positions without a proper rotation, with a phase that does
        not exist, a confidence or a score outside [0, 1]. The message names the argument and the first bad
        scan position.
    TypeError
        For a mask that is not boolean, or a phase that is not an integer.
    """
    valid = np.asarray(block.valid)
    if valid.dtype != np.bool_:
        raise TypeError(f"valid must be a boolean mask, got {valid.dtype}")
    if valid.ndim != 2:
        raise ValueError(f"valid must have the shape (Rx, Ry), got {valid.shape}")
    for name in ("phase", "alternative_phase"):
        given = getattr(block, name)
        if given is not None and not np.issubdtype(np.asarray(given).dtype, np.integer):
            raise TypeError(f"{name} must hold integers, got {np.asarray(given).dtype}")
    arrays = blank_arrays(valid.shape)
    for name, values in block._asdict().items():
        if values is not None:
            dtype, cell, _ = FIELDS[name]
            wide: NDArray[Any] = np.asarray(values, np.int64 if dtype is np.int16 else dtype)
            if wide.shape != (*valid.shape, *cell):
                raise ValueError(f"{name} must have the shape {(*valid.shape, *cell)}, got {wide.shape}")
            arrays[name] = np.array(wide)
    checks = {
        "matrix must hold proper rotations": _are_rotations(arrays["matrix"]),
        f"phase must lie in [0, {n_phases})": (arrays["phase"] >= 0) & (arrays["phase"] < n_phases),
        "confidence must lie in [0, 1]": _are_shares(arrays["confidence"]),
        "score must be NaN or lie in [0, 1]": np.isnan(arrays["score"]) | _are_shares(arrays["score"]),
        "alternative_probability must lie in [0, 1]": _are_shares(arrays["alternative_probability"]).all(-1),
        f"alternative_phase must lie in [-1, {n_phases})": (
            (arrays["alternative_phase"] >= -1) & (arrays["alternative_phase"] < n_phases)
        ).all(-1),
        "alternative_matrix must hold proper rotations where alternative_phase is not -1,": (
            (arrays["alternative_phase"] == -1) | _are_rotations(arrays["alternative_matrix"])
        ).all(-1),
    }
    for rule, holds in checks.items():
        bad = np.argwhere(valid & ~holds)
        if len(bad):
            row, column = (int(i) for i in bad[0])
            raise ValueError(
                f"{rule} at valid positions; scan position ({first_row + row}, {column}) does not"
            )
    for name, (dtype, _, fill) in FIELDS.items():
        arrays[name][~valid] = fill
        arrays[name] = arrays[name].astype(dtype, copy=False)
    return arrays


def _are_rotations(matrix: NDArray[np.float32]) -> NDArray[np.bool_]:
    rows = np.ascontiguousarray(
        np.moveaxis(matrix, (-2, -1), (0, 1))
    )  # (3, 3, Rx, Ry): whole arrays at a time
    rotations = np.ones(matrix.shape[:-2], np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(3):
            for j in range(i, 3):
                # float32 products of three terms: a rotation is orthonormal to a few 1e-7, a wrong matrix is
                # not to 1e-3
                rotations &= np.abs((rows[i] * rows[j]).sum(axis=0) - float(i == j)) < 1e-3
        rotations &= (np.cross(rows[0], rows[1], axis=0) * rows[2]).sum(axis=0) > 0
    return rotations


def _are_shares(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray((values >= 0) & (values <= 1))


@dataclass(eq=False)
class OrientationMap:
    """Orientation, phase and confidence at every position of a scan.

    Attributes
    ----------
    matrix : ndarray of float32, shape (Rx, Ry, 3, 3)
        Orientations in py4DSTEM's convention, ``v_crystal = matrix @ v_lab``: the columns are the lab axes in
        the crystal's Cartesian frame, the third one the zone axis. NaN where invalid.
    valid : ndarray of bool, shape (Rx, Ry)
        Where there is an answer.
    phase : ndarray of int16, shape (Rx, Ry)
        Index into ``phases``; -1 where invalid.
    confidence : ndarray of float32, shape (Rx, Ry)
        Probability that phase and orientation (to 3 degrees) are right; 0 where invalid.
    phases : tuple of CrystalPhase
        The phases that the model knows.
    scan_step : float
        Distance of neighbouring scan positions, in ``scan_units``.
    scan_units : str
        E.g. ``"nm"``; ``"pixels"`` where the scan is not calibrated.
    qr_calibrated : bool
        True where the rotation between diffraction and scan was applied, so that lab x and y run along the
        scan's rows and columns. Otherwise lab x and y are the detector's axes.
    model_card : dict
        JSON-able: what the model is (name, voltage, kmax, recipe, figures).
    version : str
        Version of microinfer that made the map.
    dtype : str
        What the model's matrix products multiplied: ``"float32"`` or ``"bfloat16"``, or ``"unknown"``.
    score : ndarray of float32, shape (Rx, Ry)
        Correlation of the measured disks with the reflections that the answer predicts, in [0, 1], in the
        sense of py4DSTEM's template matching; NaN where invalid, or not refined.
    alternative_matrix, alternative_phase, alternative_probability : ndarray
        What `alternatives` returns together.

    Raises
    ------
    ValueError, TypeError
        As `checked_arrays` says.
    """

    matrix: NDArray[np.float32]
    valid: NDArray[np.bool_]
    phase: NDArray[np.int16]
    confidence: NDArray[np.float32]
    phases: tuple[CrystalPhase, ...]
    scan_step: float = 1.0
    scan_units: str = "pixels"
    qr_calibrated: bool = False
    model_card: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
    dtype: str = "unknown"
    score: NDArray[np.float32] | None = None
    alternative_matrix: NDArray[np.float32] | None = None
    alternative_phase: NDArray[np.int16] | None = None
    alternative_probability: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        self.phases = tuple(self.phases)
        if not self.phases:
            raise ValueError("phases must name at least one crystal phase")
        if not (np.isfinite(self.scan_step) and self.scan_step > 0):
            raise ValueError(f"scan_step must be positive, got {self.scan_step}")
        given = MapBlock(**{name: getattr(self, name) for name in FIELDS})
        for name, values in checked_arrays(given, len(self.phases)).items():
            setattr(self, name, values)

    @property
    def alternatives(self) -> Alternatives:
        """Ranked answers after the best one, with their probabilities."""
        assert self.alternative_matrix is not None
        assert self.alternative_phase is not None
        assert self.alternative_probability is not None
        return Alternatives(self.alternative_matrix, self.alternative_phase, self.alternative_probability)

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Number of scan rows and columns (Rx, Ry)."""
        rows, columns = self.valid.shape
        return rows, columns

    def __repr__(self) -> str:
        share = self.valid.mean() if self.valid.size else 0.0
        names = ", ".join(phase.name for phase in self.phases)
        return (
            f"OrientationMap({self.scan_shape[0]} x {self.scan_shape[1]} positions, {share:.1%} valid, "
            f"phases: {names}, step {self.scan_step:g} {self.scan_units})"
        )

    def save(self, path: str | Path) -> None:
        """Write the map to an HDF5 file that `microinfer.load_map` opens.

        Parameters
        ----------
        path : str or Path
            The file; an older one is replaced once the new one is complete.

        Raises
        ------
        OSError
            If the file cannot be written; nothing half-written stays.
        """
        from microinfer.maps.map_file import MapWriter

        with MapWriter(
            path,
            self.scan_shape,
            self.phases,
            scan_step=self.scan_step,
            scan_units=self.scan_units,
            qr_calibrated=self.qr_calibrated,
            model_card=self.model_card,
            version=self.version,
            dtype=self.dtype,
        ) as writer:
            writer.write_rows(0, MapBlock(**{name: getattr(self, name) for name in FIELDS}))

    def to_orix(self, *, py4dstem_compat: bool = False) -> "CrystalMap":
        """Return the map as an orix CrystalMap; see `microinfer.maps.to_orix`."""
        from microinfer.maps.to_orix import to_orix

        return to_orix(self, py4dstem_compat=py4dstem_compat)

    def to_py4dstem(self, crystal: "Crystal", phase: int = 0) -> "Py4dstemMap":
        """Return a phase as a py4DSTEM OrientationMap; see `microinfer.maps.to_py4dstem`."""
        from microinfer.maps.to_py4dstem import to_py4dstem

        return to_py4dstem(self, crystal, phase)

    def to_ang(self, path: str | Path) -> None:
        """Write the map to an .ang file (EDAX, MTEX, orix); see `microinfer.maps.to_ang`."""
        from microinfer.maps.to_ang import to_ang

        to_ang(self, path)

    def to_ctf(self, path: str | Path) -> None:
        """Write the map to a .ctf file (HKL, MTEX); see `microinfer.maps.to_ctf`."""
        from microinfer.maps.to_ctf import to_ctf

        to_ctf(self, path)

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw inverse pole figure maps and the confidence; see `microinfer.maps.figures.plot_map`."""
        from microinfer.maps.figures import plot_map

        return plot_map(self, path)

    def plot_pattern(
        self,
        i: int,
        j: int,
        peaks: "BraggPeaks",
        *,
        k_max: float | None = None,
        path: str | Path | None = None,
    ) -> "Figure":
        """Draw a measured pattern over the answer's reflections; see `microinfer.maps.figures.plot_pattern`."""
        from microinfer.maps.figures import plot_pattern

        return plot_pattern(self, i, j, peaks, k_max=k_max, path=path)
