"""The one configuration of a model: its phases, their simulation, the network, its training."""

import dataclasses
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microinfer.models.settings import ModelConfig
from microinfer.ops.token_spec import TokenSpec
from microinfer.ranges import (
    INNER_SHARE,
    NOT_NEGATIVE,
    POSITIVE,
    RISING,
    SHARE,
    at_least,
    one_of,
    require,
)
from microinfer.simulation.settings import PhaseConfig, SimulationConfig, structures_beside
from microinfer.toml_config import read_toml, section
from microinfer.units import volts

QUICK_ZONE_AXES = 4000
"""Of each phase, in a quick training."""
QUICK_SAMPLES = 200_000


@dataclass(frozen=True)
class AugmentationConfig:
    """What experiments do to patterns, drawn afresh for every sample (after the paper's Supplementary Text S3).

    Each pattern has its own share, between none and all, of the standard deviations.

    Attributes
    ----------
    position_jitter : float
        Standard deviation of a disk's position in 1/Angstrom.
    radial_jitter, angular_jitter : float
        Standard deviations of a disk's radius in 1/Angstrom and of its polar angle in degrees.
    scale_error, ellipticity : float
        Standard deviations of a pattern's relative scale and of its stretch along one axis.
    centre_shift : float
        Standard deviation of a pattern's centre in 1/Angstrom.
    intensity_jitter : float
        Standard deviation of the logarithm of a disk's intensity.
    compress : float
        Share of patterns whose intensities are raised to a power between 0.3 and 1.
    flatten : float
        Share of patterns whose intensities are all made equal.
    lose_weak : float
        Share of patterns that lose the disks below a random threshold of up to lose_weak_threshold.
    lose_weak_threshold : float
        In units of the strongest disk.
    false_disks : float
        Mean number of false disks in a pattern; each pattern draws its own mean, up to twice this.
    cropped : float
        Share of patterns that end at the edge of a square detector.
    edge_range : tuple of float
        Where that edge is, in 1/Angstrom; the other patterns keep k_max.
    beam_stop : float
        Share of patterns that lose the disks behind the bar of a beam stop.
    no_crystal : float
        Share of samples that are random false disks alone, labelled "no crystal" (posterior).
    no_crystal_disks : tuple of float
        Range of the mean number of disks in such a sample.
    """

    position_jitter: float = 0.012
    radial_jitter: float = 0.003
    angular_jitter: float = 0.3
    scale_error: float = 0.008
    ellipticity: float = 0.006
    centre_shift: float = 0.004
    intensity_jitter: float = 0.4
    compress: float = 0.2
    flatten: float = 0.03
    lose_weak: float = 0.4
    lose_weak_threshold: float = 0.1
    false_disks: float = 0.6
    cropped: float = 0.25
    edge_range: tuple[float, float] = (1.0, 2.1)
    beam_stop: float = 0.05
    no_crystal: float = 0.03
    no_crystal_disks: tuple[float, float] = (1.0, 10.0)

    def __post_init__(self) -> None:
        # fmt: off
        shares = ("compress", "flatten", "lose_weak", "lose_weak_threshold", "cropped", "beam_stop", "no_crystal")
        # fmt: on
        ranges = ("edge_range", "no_crystal_disks")
        amounts = {entry.name for entry in dataclasses.fields(self)} - {*shares, *ranges}
        require(self, "augmentation", SHARE, *shares)
        require(self, "augmentation", NOT_NEGATIVE, *sorted(amounts))
        require(self, "augmentation", RISING, *ranges)


@dataclass(frozen=True)
class TrainingConfig:
    """The course of the training.

    Attributes
    ----------
    samples : int
        Patterns seen in all.
    batch_size : int
        Patterns in a batch, all with the same number of disks.
    learning_rate, weight_decay, clip_norm : float
        Of AdamW; the rate rises linearly over warmup_steps and falls along a cosine to a hundredth.
    warmup_steps : int
        Steps of the rise.
    validation_share : float
        Share of the library kept for validation.
    validation_split : str
        Whether ``"zone_axes"`` are kept, so that validation sees other ones than training, or ``"patterns"``, as in
        the paper.
    seed : int
        Seed of weights, order and augmentation.
    """

    samples: int = 400_000
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_steps: int = 200
    validation_share: float = 0.02
    validation_split: str = "zone_axes"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self, "training", at_least(1), "samples", "warmup_steps")
        require(self, "training", at_least(2), "batch_size")
        require(self, "training", POSITIVE, "learning_rate", "clip_norm")
        require(self, "training", NOT_NEGATIVE, "weight_decay", "seed")
        require(self, "training", INNER_SHARE, "validation_share")
        require(self, "training", one_of("zone_axes", "patterns"), "validation_split")


@dataclass(frozen=True)
class Config:
    """Everything that makes a model; one TOML file holds it."""

    name: str
    phases: tuple[PhaseConfig, ...]
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    tokens: TokenSpec = field(default_factory=TokenSpec)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        require_name(self.name)
        names = [phase.display_name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: each phase needs a name of its own, got {', '.join(names)}")
        if self.simulation.k_max > self.tokens.radius_max:
            raise ValueError(
                f"simulation.k_max must be at most tokens.radius_max, {self.tokens.radius_max:g} 1/Angstrom, got "
                f"{self.simulation.k_max:g}: it is in 1/Angstrom (10 1/nm are 1 1/Angstrom), without 2 pi"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "config") -> "Config":
        """Return the configuration that a dictionary (of a TOML or JSON file) describes.

        Raises
        ------
        ValueError
            For a missing, unknown or ill-typed entry; the message names it.
        """
        values = dict(values)
        sections = {
            "simulation": SimulationConfig,
            "tokens": TokenSpec,
            "model": ModelConfig,
            "augmentation": AugmentationConfig,
            "training": TrainingConfig,
        }
        try:
            name, phases = values.pop("name"), values.pop("phases")
        except KeyError as missing:
            raise ValueError(f"{where}: the entry {missing} is missing") from None
        parts: dict[str, Any] = {
            key: section(kind, values.pop(key, {}), f"{where}: [{key}]") for key, kind in sections.items()
        }
        if values:
            raise ValueError(f"{where}: unknown entries {sorted(values)}")
        if not isinstance(phases, list | tuple) or not phases:
            raise ValueError(f"{where}: phases must be a list of at least one [[phases]] table")
        crystals = tuple(section(PhaseConfig, phase, f"{where}: [[phases]]") for phase in phases)
        try:
            return cls(name, crystals, **parts)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def for_structures(self, *structures: str | Path) -> "Config":
        """Return these settings for other crystals, CIF files or built-in names, in place of the phases.

        Configuration and phases are named after them.

        Raises
        ------
        ValueError
            If there are several phases, and not as many crystals.
        """
        if len(self.phases) not in (1, len(structures)):
            raise ValueError(
                f"{self.name}: has {len(self.phases)} phases: give as many crystals, or a configuration of one phase; "
                f"got {len(structures)}"
            )
        old = self.phases * len(structures) if len(self.phases) == 1 else self.phases
        phases = tuple(
            PhaseConfig(str(structure), symmetry=phase.symmetry)
            for structure, phase in zip(structures, old, strict=True)
        )
        return dataclasses.replace(self, name="-".join(map(_name_of, structures)), phases=phases)

    def with_k_max(self, k_max: float) -> "Config":
        """Return these settings for a camera that ends at `k_max` in 1/Angstrom; `edge_range` keeps its share of it."""
        share = k_max / self.simulation.k_max
        low, high = self.augmentation.edge_range
        return dataclasses.replace(
            self,
            simulation=dataclasses.replace(self.simulation, k_max=k_max),
            augmentation=dataclasses.replace(self.augmentation, edge_range=(share * low, share * high)),
        )

    def quick(self) -> "Config":
        """Return these settings with no more than `QUICK_ZONE_AXES` and `QUICK_SAMPLES`."""
        return dataclasses.replace(
            self,
            simulation=dataclasses.replace(
                self.simulation, zone_axes=min(QUICK_ZONE_AXES, self.simulation.zone_axes)
            ),
            training=dataclasses.replace(self.training, samples=min(QUICK_SAMPLES, self.training.samples)),
        )


def configure(
    source: "Config | str | Path | None" = None,
    crystals: Sequence[str | Path] = (),
    *,
    voltage: float | str | None = None,
    k_max: float | None = None,
    quick: bool = False,
) -> Config:
    """Put a configuration together.

    Parameters
    ----------
    source : Config, str or Path, optional
        A configuration, or the file or shipped recipe that holds it; by default that of `crystals` with all else as it
        is by default.
    crystals : sequence of str or Path
        CIF files, also as ``FILE#BLOCK``, or built-in names: they take the place of the configuration's phases.
    voltage : float or str, optional
        In volts or kilovolts, in place of the configuration's.
    k_max : float, optional
        Where the camera ends in 1/Angstrom, in place of the configuration's.
    quick : bool
        As `Config.quick`.

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        As `load_config` and `Config.for_structures`, and for values out of range.
    """
    if source is None:
        if not crystals:
            raise ValueError("give a configuration, or a crystal")
        source = default_config(*crystals)
    elif not isinstance(source, Config):
        source = load_config(source)
    config = source.for_structures(*crystals) if crystals else source
    if voltage is not None:
        simulation = dataclasses.replace(config.simulation, voltage=volts(voltage))
        config = dataclasses.replace(config, simulation=simulation)
    if k_max is not None:
        config = config.with_k_max(k_max)
    return config.quick() if quick else config


def require_name(name: Any) -> None:
    """Raise a ValueError for what cannot name a file: with separators of paths, say."""
    if (
        not isinstance(name, str)
        or not re.fullmatch(r"[^/\\\x00-\x1f\x7f]{1,100}", name)
        or name.startswith(".")
    ):
        raise ValueError(
            "name must be a text of at most 100 characters that can name a file: it has no / and no \\, and does not "
            f"begin with a dot; got {name!r}"
        )


def load_config(path: str | Path) -> Config:
    """Read a TOML configuration; CIF paths in it are relative to the file.

    The old key ``thickness_range``, in lattice constants, is read with a warning.

    Parameters
    ----------
    path : str or Path
        The file, or the name of a shipped recipe.

    Raises
    ------
    FileNotFoundError
        If there is neither such a file nor such a recipe.
    ValueError, OSError
        If the file cannot be read or holds a wrong entry.
    """
    recipes = shipped_recipes()
    path = recipes.get(str(path), Path(path))
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: neither a configuration file nor a shipped recipe ({', '.join(recipes)})"
        )
    values = read_toml(path)
    config = Config.from_dict(values, str(path))
    if config.simulation.thickness_range and path not in recipes.values():
        if "thickness_nm" in values["simulation"]:
            raise ValueError(f"{path}: [simulation]: give thickness_nm or the old thickness_range, not both")
        warnings.warn(
            f"{path}: [simulation]: thickness_range is in lattice constants; write thickness_nm, in nanometres",
            UserWarning,
            stacklevel=2,
        )
    return dataclasses.replace(config, phases=structures_beside(config.phases, path))


def shipped_recipes() -> dict[str, Path]:
    """Names and files of the configurations inside the package."""
    folder = Path(__file__).parents[1] / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)}


def default_config(*structures: str | Path) -> Config:
    """Sensible defaults for crystals given as CIF files or built-in names, one phase each."""
    phases = tuple(PhaseConfig(str(structure)) for structure in structures)
    return Config("-".join(map(_name_of, structures)), phases)


def _name_of(structure: str | Path) -> str:
    return re.sub(r"[^\w.-]", "_", PhaseConfig(str(structure)).display_name.lower())
