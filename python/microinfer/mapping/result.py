"""The orientation map: what the mapper answers at every scan position."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer import __version__
from microinfer.crystal import CrystalPhase

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from orix.crystal_map import CrystalMap

    from microinfer.peaks import BraggPeaks


class MapBlock(NamedTuple):
    """Answers for a block of scan positions, invalid ones carrying NaN, phase -1 and confidence 0."""

    matrix: NDArray[np.float32]  # (rows, Ry, 3, 3)
    valid: NDArray[np.bool_]  # (rows, Ry)
    phase: NDArray[np.int16]  # (rows, Ry)
    confidence: NDArray[np.float32]  # (rows, Ry)
    score: NDArray[np.float32]  # (rows, Ry)


def validate_block(
    matrix: ArrayLike,
    valid: ArrayLike,
    phase: ArrayLike,
    confidence: ArrayLike,
    score: ArrayLike | None,
    n_phases: int,
    first_row: int = 0,
) -> MapBlock:
    """Check the answers for a block of scan positions and blank the invalid ones.

    Parameters
    ----------
    matrix : array_like, shape (rows, Ry, 3, 3)
        Orientations, ``v_crystal = matrix @ v_lab``. Whatever stands at an invalid position becomes NaN.
    valid : array_like of bool, shape (rows, Ry)
        Where there is an answer.
    phase : array_like of int, shape (rows, Ry)
        Index of the phase; becomes -1 where invalid.
    confidence : array_like, shape (rows, Ry)
        In [0, 1]; becomes 0 where invalid.
    score : array_like, shape (rows, Ry), optional
        In [0, 1], NaN where there is none; becomes NaN where invalid.
    n_phases : int
        Number of phases.
    first_row : int, default: 0
        Scan row of the block's first row, for error messages.

    Returns
    -------
    MapBlock

    Raises
    ------
    ValueError
        For shapes that do not fit, and for valid positions without a proper rotation, with a phase that does
        not exist, a confidence or a score outside [0, 1]. The message names the argument and the first bad scan
        position.
    TypeError
        For a mask that is not boolean, or a phase that is not an integer.
    """
    valid, phase = np.asarray(valid), np.asarray(phase)
    if valid.dtype != np.bool_:
        raise TypeError(f"valid must be a boolean mask, got {valid.dtype}")
    if not np.issubdtype(phase.dtype, np.integer):
        raise TypeError(f"phase must hold integers, got {phase.dtype}")
    if valid.ndim != 2:
        raise ValueError(f"valid must have the shape (Rx, Ry), got {valid.shape}")
    rotation = np.array(matrix, np.float32)
    index = phase.astype(np.int64)
    probability = np.asarray(confidence, np.float32)
    match = np.full(valid.shape, np.nan, np.float32) if score is None else np.asarray(score, np.float32)
    for name, array, cell in (
        ("matrix", rotation, (3, 3)),
        ("phase", index, ()),
        ("confidence", probability, ()),
        ("score", match, ()),
    ):
        if array.shape != (*valid.shape, *cell):
            raise ValueError(f"{name} must have the shape {(*valid.shape, *cell)}, got {array.shape}")

    # float32 products of three terms: a rotation is orthonormal to a few 1e-7, a wrong matrix is not to 1e-3
    with np.errstate(invalid="ignore", over="ignore"):
        gram = np.einsum("xyij,xykj->xyik", rotation, rotation)
        orthonormal = (np.abs(gram - np.eye(3, dtype=np.float32)) < 1e-3).all(axis=(2, 3))
        third = np.cross(rotation[..., 0, :], rotation[..., 1, :])
        proper = np.einsum("xyi,xyi->xy", third, rotation[..., 2, :]) > 0
        likely = (probability >= 0) & (probability <= 1)
        scored = np.isnan(match) | ((match >= 0) & (match <= 1))
    checks = {
        "matrix must hold proper rotations": orthonormal & proper,
        f"phase must lie in [0, {n_phases})": (index >= 0) & (index < n_phases),
        "confidence must lie in [0, 1]": likely,
        "score must be NaN or lie in [0, 1]": scored,
    }
    for rule, holds in checks.items():
        bad = np.argwhere(valid & ~holds)
        if len(bad):
            row, column = (int(i) for i in bad[0])
            raise ValueError(
                f"{rule} at valid positions; scan position ({first_row + row}, {column}) does not"
            )

    rotation[~valid] = np.nan
    return MapBlock(
        matrix=rotation,
        valid=valid,
        phase=np.where(valid, index, -1).astype(np.int16),
        confidence=np.where(valid, probability, np.float32(0)),
        score=np.where(valid, match, np.float32(np.nan)),
    )


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
    score : ndarray of float32, shape (Rx, Ry)
        Correlation of the measured disks with the reflections that the answer predicts, in [0, 1], in the
        sense of py4DSTEM's template matching; NaN where invalid, or not refined.

    Raises
    ------
    ValueError, TypeError
        As `validate_block` says.
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
    score: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        self.phases = tuple(self.phases)
        if not self.phases:
            raise ValueError("phases must name at least one crystal phase")
        if not (np.isfinite(self.scan_step) and self.scan_step > 0):
            raise ValueError(f"scan_step must be positive, got {self.scan_step}")
        block = validate_block(
            self.matrix, self.valid, self.phase, self.confidence, self.score, len(self.phases)
        )
        self.matrix, self.valid, self.phase, self.confidence, self.score = block

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
        from microinfer.mapping.mapfile import MapWriter

        with MapWriter(
            path,
            self.scan_shape,
            self.phases,
            scan_step=self.scan_step,
            scan_units=self.scan_units,
            qr_calibrated=self.qr_calibrated,
            model_card=self.model_card,
            version=self.version,
        ) as writer:
            writer.write_rows(0, self.matrix, self.valid, self.phase, self.confidence, self.score)

    def to_orix(self, *, py4dstem_compat: bool = False) -> "CrystalMap":
        """Return the map as an orix CrystalMap; see `microinfer.mapping.exports.to_orix`."""
        from microinfer.mapping.exports import to_orix

        return to_orix(self, py4dstem_compat=py4dstem_compat)

    def to_ang(self, path: str | Path) -> None:
        """Write the map to an .ang file (EDAX, MTEX, orix); see `microinfer.mapping.exports.to_ang`."""
        from microinfer.mapping.exports import to_ang

        to_ang(self, path)

    def to_ctf(self, path: str | Path) -> None:
        """Write the map to a .ctf file (HKL, MTEX); see `microinfer.mapping.exports.to_ctf`."""
        from microinfer.mapping.exports import to_ctf

        to_ctf(self, path)

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw inverse pole figure maps and the confidence; see `microinfer.plot.plot_map`."""
        from microinfer.plot import plot_map

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
        """Draw a measured pattern over the answer's reflections; see `microinfer.plot.plot_pattern`."""
        from microinfer.plot import plot_pattern

        return plot_pattern(self, i, j, peaks, k_max=k_max, path=path)
