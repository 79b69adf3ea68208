"""The orientation map: what the mapper answers at every scan position."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microinfer import __version__
from microinfer.crystals.phase import CrystalPhase, phase_names
from microinfer.files import HDF5, require_output
from microinfer.maps.arrays import CANDIDATE_FIELDS, FIELDS, checked_arrays
from microinfer.maps.position import Answer, Position
from microinfer.peaks.scan import OfScan, Scan

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from orix.crystal_map import CrystalMap
    from py4DSTEM.process.diffraction import Crystal
    from py4DSTEM.process.diffraction.utils import OrientationMap as Py4dstemMap

    from microinfer.peaks.source import AnyScan


class Candidates(NamedTuple):
    """Ranked answers of every scan position, K of them, the best first."""

    matrix: NDArray[np.float32]
    """(Rx, Ry, K, 3, 3), NaN where there is none."""
    phase: NDArray[np.int16]
    """(Rx, Ry, K), -1 where there is none."""
    probability: NDArray[np.float32]
    """(Rx, Ry, K), 0 where there is none."""
    score: NDArray[np.float32]
    """(Rx, Ry, K), NaN where there is none, or it was not refined."""

    def __repr__(self) -> str:
        rows, columns, count = self.phase.shape
        return f"Candidates({count} at each of {rows} x {columns} positions)"


@dataclass(frozen=True, eq=False)
class MapDescription(OfScan):
    """What a map says beside its arrays.

    Attributes
    ----------
    phases : tuple of CrystalPhase
        The phases that the model knows.
    scan : Scan
        The scan. Lab x and y run along its rows and columns where it is QR-calibrated, else along the detector's.
    model_card : dict
        JSON-able: what the model is (name, voltage, kmax, recipe, figures).
    version : str
        Version of microinfer that made the map.
    dtype : str
        What the model's matrix products multiplied: ``"float32"`` or ``"bfloat16"``, or ``"unknown"``.
    warnings : tuple of str
        Why scan and model do not go together, as far as that was found when the map was made
        (`microinfer.mapping.check_scan`): scale, crystal, voltage, reach, or a model in doubt.

    Raises
    ------
    ValueError
        Without any phase.
    """

    phases: tuple[CrystalPhase, ...]
    scan: Scan
    model_card: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
    dtype: str = "unknown"
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple(self.phases))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        if not self.phases:
            raise ValueError("phases must name at least one crystal phase")


class OrientationMap(MapDescription):
    """Orientation, phase and confidence at every position of a scan.

    A map does not change, its arrays are read-only: `replace` makes another one. ``omap[i, j]`` is what it says of one
    scan position, a `microinfer.maps.position.Position`; ``omap[10:40, 5:45]`` is the map of a part of the scan.

    Parameters
    ----------
    matrix : array_like, shape (Rx, Ry, 3, 3) or (Rx, Ry, K, 3, 3)
        Orientations in py4DSTEM's convention, ``v_crystal = matrix @ v_lab``: the columns are the lab axes in
        the crystal's Cartesian frame, the third one the zone axis. One answer for each position, or K
        candidates, the best first.
    valid : array_like of bool, shape (Rx, Ry)
        Where there is an answer.
    phase : array_like of int, shape (Rx, Ry) or (Rx, Ry, K)
        Index into `phases`; -1 for a candidate that does not exist.
    confidence : array_like, shape (Rx, Ry) or (Rx, Ry, K)
        Probability that phase and orientation (to 3 degrees) are right: the field ``probability``.
    phases : sequence of CrystalPhase
        As in `MapDescription`.
    scan : Scan, optional
        By default nothing is known of the scan but its shape.
    model_card, version, dtype, warnings
        As in `MapDescription`.
    **fields : array_like
        The others of `microinfer.maps.arrays.FIELDS`, such as ``score``, shape (Rx, Ry) or (Rx, Ry, K): the
        correlation of the measured disks with the reflections that the answer predicts, in [0, 1], in the sense of
        py4DSTEM's template matching; NaN where it was not refined.

    Attributes
    ----------
    arrays : mapping of str to ndarray
        Every array of `microinfer.maps.arrays.FIELDS`, those of candidates with their axis K.
    matrix : ndarray of float32, shape (Rx, Ry, 3, 3)
        Of the best candidates, as every attribute named after a field; NaN where invalid.
    valid : ndarray of bool, shape (Rx, Ry)
        Where there is an answer.
    phase : ndarray of int16, shape (Rx, Ry)
        -1 where invalid.
    score : ndarray of float32, shape (Rx, Ry)
        NaN where invalid, or not refined.

    Raises
    ------
    ValueError, TypeError
        As `checked_arrays` and `MapDescription` say, and for a scan of another shape.
    """

    def __init__(
        self,
        matrix: ArrayLike,
        valid: ArrayLike,
        phase: ArrayLike,
        confidence: ArrayLike,
        phases: Sequence[CrystalPhase],
        *,
        scan: Scan | None = None,
        model_card: dict[str, Any] | None = None,
        version: str = __version__,
        dtype: str = "unknown",
        warnings: Sequence[str] = (),
        **fields: ArrayLike,
    ) -> None:
        scan = Scan(np.shape(valid)) if scan is None else scan  # type: ignore[arg-type]  # checked by Scan
        super().__init__(tuple(phases), scan, model_card or {}, version, dtype, tuple(warnings))
        fields |= {"matrix": matrix, "valid": valid, "phase": phase, "probability": confidence}
        self.arrays: Mapping[str, NDArray[Any]]
        object.__setattr__(self, "arrays", checked_arrays(fields, len(self.phases)))
        if self.valid.shape != self.scan_shape:
            raise ValueError(
                f"scan must have the shape {self.valid.shape} of the arrays, got {self.scan_shape}"
            )
        self._lock()

    def _lock(self) -> None:
        """Make the arrays, and the table of them, read-only."""
        for values in self.arrays.values():
            values.flags.writeable = False
        object.__setattr__(self, "arrays", MappingProxyType(dict(self.arrays)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"arrays": dict(self.arrays)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike], description: MapDescription) -> "OrientationMap":
        """Make a map of the arrays of `microinfer.maps.arrays.FIELDS` and the rest."""
        given = {"confidence" if name == "probability" else name: values for name, values in arrays.items()}
        return cls(**given, **{name: getattr(description, name) for name in _DESCRIPTION})  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> "OrientationMap":
        """Return a map with changes, checked as any other: a step on a finished map.

        Parameters
        ----------
        **changes
            Arrays by the names of `microinfer.maps.arrays.FIELDS` and ``confidence``, and attributes of
            `MapDescription`. An array of candidates has their axis, or is of the shape of the attribute of its
            name: that of the best ones, while their alternatives stay. A position that becomes invalid becomes blank.

        Returns
        -------
        OrientationMap

        Examples
        --------
        >>> certain = omap.replace(valid=omap.valid & (omap.confidence > 0.5))
        """
        described = {name: changes.pop(name, getattr(self, name)) for name in _DESCRIPTION}
        if "confidence" in changes:
            changes["probability"] = changes.pop("confidence")
        for name in CANDIDATE_FIELDS:
            if name in changes and np.ndim(changes[name]) == self.arrays[name].ndim - 1:
                all_of_them = self.arrays[name].copy()
                all_of_them[:, :, 0] = changes[name]
                changes[name] = all_of_them
        return self.from_arrays({**self.arrays, **changes}, MapDescription(**described))

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name not in FIELDS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        values = self.arrays[name]
        return values[:, :, 0] if name in CANDIDATE_FIELDS else values

    @overload
    def __getitem__(self, index: tuple[int, int]) -> Position: ...

    @overload
    def __getitem__(self, index: tuple[slice, int | slice] | tuple[int, slice]) -> "OrientationMap": ...

    def __getitem__(self, index: tuple[int | slice, int | slice]) -> "Position | OrientationMap":
        """Return one scan position, or the map of a part of the scan.

        Parameters
        ----------
        index : tuple
            Row Rx and column Ry. Two numbers give a `Position`: its answer and the alternatives. With slices it is
            an `OrientationMap` of these rows and columns, counted from 0 again.

        Raises
        ------
        IndexError
            Outside the scan, and for an empty part.
        TypeError
            For anything else.

        Examples
        --------
        >>> omap[20, 31]
        Position (20, 31): Cu near [0 1 1] (1.7° off), confidence 0.98, score 0.91
        >>> omap[10:40, 5:45].plot()
        """
        if not (isinstance(index, tuple) and len(index) == 2):
            raise TypeError(
                f"a map takes a row and a column, omap[i, j] or omap[10:40, 5:45], got {type(index).__name__}; "
                "to blank positions: omap.replace(valid=...)"
            )
        row, column = (_along(*one) for one in zip(index, self.scan_shape, ("row", "column"), strict=True))
        if isinstance(row, int) and isinstance(column, int):
            return self._position(row, column)
        rows, columns = (range(one, one + 1) if isinstance(one, int) else one for one in (row, column))
        steps = {part.step for part in (rows, columns) if len(part) > 1} or {1}
        if len(steps) > 1:
            raise IndexError(
                f"the slices must have one step along rows and columns, got {rows.step}, {columns.step}"
            )
        part = np.s_[rows.start : rows.stop : rows.step, columns.start : columns.stop : columns.step]
        scan = replace(self.scan, shape=(len(rows), len(columns)), step=self.scan_step * steps.pop())
        description = {name: getattr(self, name) for name in _DESCRIPTION} | {"scan": scan}
        return self.from_arrays(
            {name: values[part] for name, values in self.arrays.items()}, MapDescription(**description)
        )

    def _position(self, row: int, column: int) -> Position:
        found = {name: values[row, column] for name, values in self.arrays.items()}
        answers = (
            Answer(self.phases[phase], matrix, float(probability), float(score))
            for matrix, phase, probability, score in zip(
                *map(found.__getitem__, Candidates._fields), strict=True
            )
            if phase >= 0
        )
        return Position((row, column), tuple(answers))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a map does not change: omap.replace({name}=...) makes another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a map does not change: {name} cannot be deleted")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *FIELDS]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Probability that phase and orientation (to 3 degrees) are right, (Rx, Ry); 0 where invalid."""
        return self.probability

    @property
    def candidates(self) -> Candidates:
        """All ranked answers, the best first."""
        return Candidates._make(self.arrays[name] for name in Candidates._fields)

    @property
    def alternatives(self) -> Candidates:
        """Ranked answers after the best one."""
        return Candidates._make(values[:, :, 1:] for values in self.candidates)

    def __repr__(self) -> str:
        valid = self.valid
        count = len(self.warnings)
        warned = f"; {count} warning{'s' if count > 1 else ''}, see .warnings" if count else ""
        if not valid.any():
            return f"OrientationMap({self.scan}, none valid; phases: {phase_names(self.phases)}{warned})"
        share = np.bincount(self.phase[valid], minlength=len(self.phases)) / valid.sum()
        phases = ", ".join(
            f"{phase_names([phase])} {part:.1%}" for phase, part in zip(self.phases, share, strict=True)
        )
        return (
            f"OrientationMap({self.scan}, {valid.mean():.1%} valid, mean confidence "
            f"{self.confidence[valid].mean():.2f}; phases: {phases}{warned})"
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the map to an HDF5 file that `microinfer.load_map` opens.

        Parameters
        ----------
        path : str or Path
            The file, .h5 or .hdf5.
        overwrite : bool, default: False
            Replace a file that is there already, once the new one is complete.

        Raises
        ------
        ValueError
            For another suffix.
        OSError
            If the file cannot be written, nothing half-written stays; FileExistsError if one is there already.
        """
        from microinfer.maps.map_file import MapWriter

        require_output(path, "the map", HDF5, overwrite=overwrite)
        with MapWriter(path, self, self.arrays["phase"].shape[2]) as writer:
            writer.write_rows(0, self.arrays)

    def to_orix(self, *, py4dstem_compat: bool = False) -> "CrystalMap":
        """Return the map as an orix CrystalMap; see `microinfer.maps.to_orix`."""
        from microinfer.maps.to_orix import to_orix

        return to_orix(self, py4dstem_compat=py4dstem_compat)

    def to_py4dstem(self, crystal: "Crystal", phase: int = 0) -> "Py4dstemMap":
        """Return a phase as a py4DSTEM OrientationMap; see `microinfer.maps.to_py4dstem`."""
        from microinfer.maps.to_py4dstem import to_py4dstem

        return to_py4dstem(self, crystal, phase)

    def to_ang(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the map to an .ang file (EDAX, MTEX, orix); see `microinfer.maps.to_ang`."""
        from microinfer.maps.to_ang import to_ang

        to_ang(self, path, overwrite=overwrite)

    def to_ctf(self, path: str | Path, *, frame: str = "hkl", overwrite: bool = False) -> None:
        """Write the map to a .ctf file (HKL, MTEX; orix with ``frame="orix"``); see `microinfer.maps.to_ctf`."""
        from microinfer.maps.to_ctf import to_ctf

        to_ctf(self, path, frame=frame, overwrite=overwrite)

    def plot(
        self,
        path: str | Path | None = None,
        *,
        panels: str | Sequence[str] | None = None,
        dpi: float = 150,
        overwrite: bool = False,
        return_figure: bool = False,
    ) -> "Figure | None":
        """Show, or write to a file, the map in colours; see `microinfer.maps.figures.plot_map`."""
        from microinfer.maps.figures import plot_map

        return plot_map(self, path, panels=panels, dpi=dpi, overwrite=overwrite, return_figure=return_figure)

    def plot_pattern(
        self,
        i: int,
        j: int,
        peaks: "AnyScan",
        *,
        alternatives: bool | int = False,
        k_max: float | None = None,
        path: str | Path | None = None,
        dpi: float = 150,
        overwrite: bool = False,
        return_figure: bool = False,
    ) -> "Figure | None":
        """Show, or write to a file, a measured pattern; see `microinfer.maps.overlay.plot_pattern`."""
        from microinfer.maps.overlay import plot_pattern

        return plot_pattern(
            self,
            i,
            j,
            peaks,
            alternatives=alternatives,
            k_max=k_max,
            path=path,
            dpi=dpi,
            overwrite=overwrite,
            return_figure=return_figure,
        )


def _along(index: int | slice, size: int, name: str) -> int | range:
    """A row or column, or several, of a map that has `size` of them."""
    if isinstance(index, slice):
        several = range(size)[index]
        if not several or several.step < 0:
            raise IndexError(
                f"{name}s {index.start}:{index.stop} hold none of the map's {size} {name}s in their order"
            )
        return several
    one = operator.index(index)
    if not -size <= one < size:
        raise IndexError(f"{name} {one} lies outside the map, which has {size} {name}s")
    return one % size


_DESCRIPTION = tuple(one.name for one in fields(MapDescription))
