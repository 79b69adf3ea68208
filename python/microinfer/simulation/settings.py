"""What is simulated: crystal phases, zone axes, thicknesses, the microscope."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from microinfer.crystals.cif import split_source
from microinfer.ranges import POSITIVE, RISING_ABOVE_0, SPACING, at_least, one_of, require
from microinfer.units import volts

TEST_SEEDS = 20_000_000
"""Seeds from here on are those of test sets, smaller ones those of libraries to train with.

Libraries draw from generators of [seed, phase index], test sets from those of a seed alone, but that does not keep them
apart: to NumPy a seed is its 32-bit words, and zeros at their end change nothing.
"""


@dataclass(frozen=True)
class PhaseConfig:
    """A crystal phase, and which symmetry counts.

    Attributes
    ----------
    structure : str
        A built-in name (``"Cu"``, ``"Cu2O"``) or a CIF file's path, with ``#BLOCK`` behind it where the file has
        several crystals.
    name : str
        The phase's name in maps; by default `display_name`.
    symmetry : str
        Orientations that count as the same are those of the Laue class (``"laue"``), of the crystal's own proper
        rotations (``"point_group"``), or of the Laue class of the operations that the file states, even where they
        are P1 and the atoms have more (``"as_written"``).
    """

    structure: str
    name: str = ""
    symmetry: str = "laue"

    def __post_init__(self) -> None:
        require(self, "phases", one_of("laue", "point_group", "as_written"), "symmetry")

    @property
    def display_name(self) -> str:
        """The name in maps: its own, or the built-in structure's, or the CIF block's or file's without the ending."""
        path, block = split_source(self.structure)
        return self.name or block or path.stem


_Phase = TypeVar("_Phase", bound=PhaseConfig)


def structures_beside(phases: tuple[_Phase, ...], file: Path) -> tuple[_Phase, ...]:
    """The phases of a configuration file, with CIF files that lie beside it by their paths."""
    try:
        return tuple(
            replace(phase, structure=str(beside))
            if split_source(beside := file.parent / phase.structure)[0].is_file()
            else phase
            for phase in phases
        )
    except OSError as error:  # of a name that no file can have
        raise ValueError(f"{file}: [[phases]]: structure: {error}") from error


@dataclass(frozen=True)
class SimulationConfig:
    """How the pattern library is simulated with py4DSTEM.

    Attributes
    ----------
    sampling : str
        ``"random"``: zone axes uniform over the fundamental cell. ``"standard_triangle"``: the paper's way
        (Supplementary Text S2), for cubic crystals: zone axes zone_axis_step apart by spherical interpolation, of the
        thicknesses those with the fewest and the most disks, one label for each distinguishable pattern.
    zone_axis_step : float
        In degrees (standard_triangle).
    zone_axes : int
        Random zone axes for each phase, over the proper fundamental cell (both mirror halves).
    thicknesses : int
        Thicknesses for each zone axis, drawn from thickness_nm.
    thickness_nm : tuple of float
        Thinnest and thickest crystal in nanometres.
    thickness_range : tuple of float
        The same in lattice constants a, as it was written until version 0.3; where it is given, thickness_nm does not
        count.
    thickness_sampling : str
        ``"uniform"``, or ``"logarithmic"`` for as many thin crystals as thick ones.
    method : str
        ``"bloch"`` (dynamical) or ``"kinematic"`` (thickness without effect).
    structure_factors : str
        py4DSTEM's method for the dynamical structure factors, e.g. ``"WK-CP"``.
    thermal_sigma : float
        Root-mean-square thermal displacement in Angstrom of the elements for which the CIF file gives no displacement
        factors; the others have the file's.
    voltage : float
        Accelerating voltage in volts; kilovolts are recognised (`microinfer.units.volts`).
    k_max : float
        Largest scattering vector in 1/Angstrom.
    excitation_error_sigma : float
        In 1/Angstrom; beams up to three times this far from the Ewald sphere take part.
    beam_intensity_min : float
        Beams whose kinematic intensity (py4DSTEM's units) is lower are left out: a truncation that saves time.
        Below zero: none is left out but those that the lattice centring forbids.
    intensity_min : float
        Disks weaker than this share of the strongest one are dropped.
    seed : int
        Seed of zone axes and thicknesses, below `TEST_SEEDS`.
    """

    sampling: str = "random"
    zone_axis_step: float = 2.0
    zone_axes: int = 12_000
    thicknesses: int = 12
    thickness_nm: tuple[float, float] = (1.0, 300.0)
    thickness_range: tuple[float, float] | tuple[()] = ()
    thickness_sampling: str = "uniform"
    method: str = "bloch"
    structure_factors: str = "WK-CP"
    thermal_sigma: float = 0.08
    voltage: float = 300e3
    k_max: float = 2.0992
    excitation_error_sigma: float = 0.04
    beam_intensity_min: float = -1.0
    intensity_min: float = 4e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require(self, "simulation", one_of("bloch", "kinematic"), "method")
        require(self, "simulation", one_of("random", "standard_triangle"), "sampling")
        require(self, "simulation", one_of("uniform", "logarithmic"), "thickness_sampling")
        require(self, "simulation", SPACING, "zone_axis_step")
        require(self, "simulation", at_least(2), "zone_axes")
        require(self, "simulation", at_least(1), "thicknesses")
        require(self, "simulation", RISING_ABOVE_0, "thickness_nm")
        if self.thickness_range:
            require(self, "simulation", RISING_ABOVE_0, "thickness_range")
        object.__setattr__(self, "voltage", volts(self.voltage, "simulation.voltage"))
        require(self, "simulation", POSITIVE, "k_max", "excitation_error_sigma")
        if not 0 <= self.seed < TEST_SEEDS:
            raise ValueError(
                f"simulation.seed must lie between 0 and {TEST_SEEDS - 1}, got {self.seed}: larger seeds make test "
                "sets, whose orientations no training may have seen"
            )

    def thickness_limits(self, lattice_constant: float) -> tuple[float, float]:
        """Thinnest and thickest crystal in Angstrom, for a phase whose lattice constant a is this in Angstrom."""
        limits, unit = (
            (self.thickness_range, lattice_constant) if self.thickness_range else (self.thickness_nm, 10.0)
        )
        low, high = limits
        return unit * low, unit * high


class LibrarySettings(Protocol):
    """What a pattern library is simulated by; a training's configuration is one."""

    @property
    def phases(self) -> tuple[PhaseConfig, ...]:
        """The crystal phases."""

    @property
    def simulation(self) -> SimulationConfig:
        """How their patterns are simulated."""
