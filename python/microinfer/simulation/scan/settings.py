"""What a synthetic 4D-STEM scan is: its crystals, probe, background, camera and calibration, in one TOML file."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microinfer.ranges import (
    NOT_NEGATIVE,
    POSITIVE,
    RISING_ABOVE_0,
    Range,
    at_least,
    one_of,
    require,
)
from microinfer.simulation.settings import PhaseConfig, SimulationConfig, structures_beside
from microinfer.toml_config import read_toml, section
from microinfer.units import volts


def _numbers(words: str, count: int, holds: Callable[[Any], bool], kinds: Any = int | float) -> Range:
    """A tuple of `count` numbers, none of them true or false, of each of which something holds."""

    def all_hold(value: Any) -> bool:
        right = all(isinstance(entry, kinds) and not isinstance(entry, bool) for entry in value)
        return right and len(value) == count and all(map(holds, value))

    return words, all_hold


_SHAPE = _numbers("two whole numbers of at least 1", 2, lambda value: value >= 1, int)
_FRAME = _numbers("two whole numbers of at least 8", 2, lambda value: value >= 8, int)
_PAIR = _numbers("two finite numbers", 2, lambda value: abs(value) < 1e6)
_PART: Range = ("at least 0 and below 1", lambda value: 0 <= value < 1)
_BENDING: Range = ("between 0 and 20 degrees", lambda value: 0 <= value <= 20)
_RADII: Range = (
    "numbers above 0",
    lambda value: all(type(entry) in (int, float) and 0 < entry < 1e3 for entry in value),
)


@dataclass(frozen=True)
class ScanPhase(PhaseConfig):
    """A crystal phase, and its share of the grains.

    Attributes
    ----------
    share : float
        Relative to the other phases.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "phases", POSITIVE, "share")


@dataclass(frozen=True)
class PositionsConfig:
    """The scan positions.

    Attributes
    ----------
    shape : tuple of int
        Scan rows and columns (Rx, Ry).
    step : float
        Distance of neighbouring positions in nanometres.
    """

    shape: tuple[int, int] = (128, 128)
    step: float = 2.0

    def __post_init__(self) -> None:
        require(self, "scan", _SHAPE, "shape")
        require(self, "scan", POSITIVE, "step")


@dataclass(frozen=True)
class GrainsConfig:
    """The microstructure: Voronoi cells of random orientation.

    Attributes
    ----------
    count : int
        Grains.
    bending : float
        Degrees between the extremes of a bent grain's orientation, about an axis of its own.
    overlap : float
        Width in scan positions over which the two crystals of an inclined boundary lie above each other.
    channel : float
        Width in scan positions of the empty channels between grains; grains with channels do not overlap.
    vacuum : float
        Share of the positions that lie outside of the particle, which is round.
    thickness : str
        ``"grains"``: one thickness for each grain, uniform in thickness_nm. ``"wedge"``: from the first of thickness_nm
        in the first scan row to the second in the last.
    thickness_nm : tuple of float
        Thinnest and thickest crystal in nanometres.
    """

    count: int = 20
    bending: float = 0.0
    overlap: float = 0.0
    channel: float = 0.0
    vacuum: float = 0.0
    thickness: str = "grains"
    thickness_nm: tuple[float, float] = (10.0, 50.0)

    def __post_init__(self) -> None:
        require(self, "grains", at_least(1), "count")
        require(self, "grains", _BENDING, "bending")
        require(self, "grains", NOT_NEGATIVE, "overlap", "channel")
        require(self, "grains", _PART, "vacuum")
        require(self, "grains", one_of("grains", "wedge"), "thickness")
        require(self, "grains", RISING_ABOVE_0, "thickness_nm")
        if self.overlap and self.channel:
            raise ValueError(
                f"grains.overlap and grains.channel exclude each other, got {self.overlap:g} and {self.channel:g}: "
                "grains either overlap or have channels between them"
            )


@dataclass(frozen=True)
class DiffractionConfig:
    """How the crystals diffract: Bloch waves, as for pattern libraries.

    Attributes
    ----------
    voltage : float
        Accelerating voltage in volts; kilovolts are recognised.
    k_max : float
        Largest scattering vector in 1/Angstrom.
    thermal_sigma : float
        As in `microinfer.simulation.settings.SimulationConfig`.
    intensity_min : float
        Disks weaker than this share of the strongest diffracted one are left out.
    """

    voltage: float = 300e3
    k_max: float = 2.0992
    thermal_sigma: float = 0.08
    intensity_min: float = 4e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "voltage", volts(self.voltage, "diffraction.voltage"))
        require(self, "diffraction", POSITIVE, "k_max")
        require(self, "diffraction", NOT_NEGATIVE, "thermal_sigma")
        require(self, "diffraction", _PART, "intensity_min")

    def simulation(self) -> SimulationConfig:
        """The settings of the Bloch waves."""
        return SimulationConfig(**dataclasses.asdict(self))


@dataclass(frozen=True)
class ProbeConfig:
    """The electron probe.

    Attributes
    ----------
    convergence_angle : float
        Half angle in milliradians, which gives the disks their radius; 0 for spots.
    edge : float
        Standard deviation, in detector pixels, of the disks' soft edge, or of the spots.
    dose : float
        Electrons in a frame, on average.
    """

    convergence_angle: float = 2.0
    edge: float = 0.5
    dose: float = 1e4

    def __post_init__(self) -> None:
        require(self, "probe", NOT_NEGATIVE, "convergence_angle", "edge")
        require(self, "probe", POSITIVE, "dose")


@dataclass(frozen=True)
class BackgroundConfig:
    """What scatters beside the crystals, the same at every position.

    Attributes
    ----------
    amorphous : float
        Share of the electrons in the halo rings of a film or a liquid.
    halo_radii : tuple of float
        Of the rings, in 1/Angstrom; each has half the electrons of the one before.
    halo_width : float
        Standard deviation of a ring's radius in 1/Angstrom, to which the disks' radius adds.
    diffuse : float
        Share of the electrons in the diffuse and inelastic tail around the direct beam.
    diffuse_width : float
        The tail falls as (1 + q^2 / diffuse_width^2)^(-3/2), in 1/Angstrom.
    """

    amorphous: float = 0.0
    halo_radii: tuple[float, ...] = (0.3, 0.55)
    halo_width: float = 0.08
    diffuse: float = 0.0
    diffuse_width: float = 0.2

    def __post_init__(self) -> None:
        require(self, "background", _PART, "amorphous", "diffuse")
        require(self, "background", _RADII, "halo_radii")
        require(self, "background", POSITIVE, "halo_width", "diffuse_width")
        if self.amorphous and not self.halo_radii:
            raise ValueError("background.halo_radii must not be empty where background.amorphous is above 0")
        if self.share >= 1:
            raise ValueError(
                f"background.amorphous and background.diffuse must be less than 1 together, got {self.share:g}"
            )

    @property
    def share(self) -> float:
        """Share of the electrons in the background."""
        return self.amorphous + self.diffuse


@dataclass(frozen=True)
class CameraConfig:
    """The camera.

    Attributes
    ----------
    shape : tuple of int
        Detector pixels (Qx, Qy).
    pixel_size : float
        1/Angstrom per pixel.
    kind : str
        ``"counting"``: whole electrons, uint16, the camera saturates at 65535. ``"integrating"``: gain and read noise,
        float32.
    point_spread : float
        Standard deviation of the point spread in pixels. A counting camera counts an electron in one of the pixels, an
        integrating one spreads its signal over them.
    gain : float
        Signal of an electron (integrating).
    gain_variation : float
        Relative standard deviation of the pixels' sensitivities, which no gain reference has taken out.
    read_noise : float
        Standard deviation of a pixel's noise, in the units of the signal (integrating).
    hot_pixels, dead_pixels : int
        How many, at random places; a hot pixel has a hundredth of the dose in every frame, a dead
        one nothing.
    beam_stop : float
        Radius in pixels of a beam stop, a disk in the middle of the frame with a bar to its left edge; 0 for none.
    """

    shape: tuple[int, int] = (128, 128)
    pixel_size: float = 0.0328
    kind: str = "counting"
    point_spread: float = 0.0
    gain: float = 1.0
    gain_variation: float = 0.0
    read_noise: float = 0.0
    hot_pixels: int = 0
    dead_pixels: int = 0
    beam_stop: float = 0.0

    def __post_init__(self) -> None:
        require(self, "camera", _FRAME, "shape")
        require(self, "camera", POSITIVE, "pixel_size", "gain")
        require(self, "camera", one_of("counting", "integrating"), "kind")
        require(self, "camera", NOT_NEGATIVE, "point_spread", "gain_variation", "read_noise", "beam_stop")
        require(self, "camera", at_least(0), "hot_pixels", "dead_pixels")
        pixels = self.shape[0] * self.shape[1]
        if self.hot_pixels + self.dead_pixels > pixels:
            raise ValueError(f"camera.hot_pixels and camera.dead_pixels must be at most {pixels} together")
        if self.kind == "counting" and (self.gain != 1 or self.read_noise):
            raise ValueError(
                f"camera.gain and camera.read_noise are of integrating cameras, got {self.gain:g} and "
                f"{self.read_noise:g} with camera.kind 'counting'"
            )


@dataclass(frozen=True)
class CalibrationConfig:
    """Where the pattern lies on the camera, how it is distorted, and what the file says wrongly of it.

    Attributes
    ----------
    centre : tuple of float
        Mean position (qx0, qy0) of the direct beam in pixels; empty for the middle of the frame.
    drift : tuple of float
        Pixels by which the centre moves, along qx and qy, from the first scan position to the last (descan).
    jitter : float
        Standard deviation in pixels of the centre at each position, along either axis.
    ellipse : float
        Long over short axis of the elliptic distortion, a / b in py4DSTEM; pixel_size holds along the short axis.
    ellipse_angle : float
        Of the long axis, in degrees from qx towards qy: py4DSTEM's theta.
    pixel_size_error : float
        Relative error of the pixel size that the file states.
    """

    centre: tuple[float, ...] = ()
    drift: tuple[float, float] = (0.0, 0.0)
    jitter: float = 0.0
    ellipse: float = 1.0
    ellipse_angle: float = 0.0
    pixel_size_error: float = 0.0

    def __post_init__(self) -> None:
        if self.centre:
            require(self, "calibration", _PAIR, "centre")
        require(self, "calibration", _PAIR, "drift")
        require(self, "calibration", NOT_NEGATIVE, "jitter")
        require(self, "calibration", ("between 1 and 2", lambda value: 1 <= value <= 2), "ellipse")
        require(self, "calibration", ("between -360 and 360", lambda v: abs(v) <= 360), "ellipse_angle")
        require(self, "calibration", ("between -0.5 and 0.5", lambda v: abs(v) <= 0.5), "pixel_size_error")


_SECTIONS: dict[str, type[Any]] = {
    "scan": PositionsConfig,
    "grains": GrainsConfig,
    "diffraction": DiffractionConfig,
    "probe": ProbeConfig,
    "background": BackgroundConfig,
    "camera": CameraConfig,
    "calibration": CalibrationConfig,
}


@dataclass(frozen=True)
class ScanSettings:
    """A synthetic scan; the seed decides everything random in it."""

    phases: tuple[ScanPhase, ...]
    seed: int = 0
    scan: PositionsConfig = field(default_factory=PositionsConfig)
    grains: GrainsConfig = field(default_factory=GrainsConfig)
    diffraction: DiffractionConfig = field(default_factory=DiffractionConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of 0 or more, got {self.seed!r}")
        names = [phase.display_name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"each phase needs a name of its own, got {', '.join(names)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "settings") -> "ScanSettings":
        """Return the settings that a dictionary (of a TOML or JSON file) describes.

        Raises
        ------
        ValueError
            For a missing, unknown or ill-typed entry; the message names it.
        """
        values = dict(values)
        phases, seed = values.pop("phases", None), values.pop("seed", 0)
        parts: dict[str, Any] = {
            key: section(kind, values.pop(key, {}), f"{where}: [{key}]") for key, kind in _SECTIONS.items()
        }
        if values:
            raise ValueError(
                f"{where}: unknown entries {sorted(values)}; known are {['phases', 'seed', *parts]}"
            )
        if not isinstance(phases, list | tuple) or not phases:
            raise ValueError(f"{where}: phases must be a list of at least one [[phases]] table")
        crystals = tuple(section(ScanPhase, phase, f"{where}: [[phases]]") for phase in phases)
        try:
            return cls(crystals, seed, **parts)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def load_scan_settings(path: str | Path) -> ScanSettings:
    """Read the TOML settings of a synthetic scan; CIF paths in it are relative to the file.

    Parameters
    ----------
    path : str or Path
        The file, or the name of a shipped scan.

    Raises
    ------
    FileNotFoundError
        If there is neither such a file nor such a scan.
    ValueError, OSError
        If the file cannot be read or holds a wrong entry.
    """
    shipped = shipped_scans()
    path = shipped.get(str(path), Path(path))
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: neither a file of a scan's settings nor a shipped scan ({', '.join(shipped)})"
        )
    settings = ScanSettings.from_dict(read_toml(path), str(path))
    return dataclasses.replace(settings, phases=structures_beside(settings.phases, path))


def shipped_scans() -> dict[str, Path]:
    """Names and files of the scans' settings inside the package."""
    folder = Path(__file__).parents[2] / "recipes" / "scans"
    return {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)}
