"""From a crystal or a configuration to a checkpoint."""

import os
from collections.abc import Sequence
from pathlib import Path

from microinfer.models.device import first_device
from microinfer.simulation.library import PatternLibrary
from microinfer.simulation.simulate import require_simulation, simulate_library
from microinfer.training.config import Config, configure
from microinfer.training.folder import LIBRARY, STATE, may_resume, read_library, require_no_training
from microinfer.training.threads import let_threads_sleep
from microinfer.unfinished import partial_path

Source = Config | str | Path | Sequence[str | Path]


def train(
    source: Source,
    out: str | Path,
    *,
    voltage: float | str | None = None,
    k_max: float | None = None,
    quick: bool = False,
    library: PatternLibrary | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
) -> Path:
    """Train a model for one or several crystals.

    Parameters
    ----------
    source : str, Path, sequence of them, or Config
        A CIF file (``"Ti.cif"``, or ``"FILE.cif#BLOCK"`` of one with several crystals), or a list of CIF files for a
        model that tells their phases apart; or a configuration: a TOML file, a shipped recipe's name, a `Config`.
    out : str or Path
        Folder for the library (where none is given), the log, the state to resume from and the checkpoint
        ``<name>.safetensors``: the weights with the lowest validation loss so far.
    voltage : float or str, optional
        Accelerating voltage in volts (``200e3``) or kilovolts (``200``), in place of the configuration's; 300 kV by
        default.
    k_max : float, optional
        Largest scattering vector that the camera sees, in 1/Angstrom, in place of the configuration's; 2.1 by default.
    quick : bool
        A smaller library and a shorter training: minutes, and a little less accurate.
    library : PatternLibrary, optional
        Patterns to train on; by default ``out/library.h5``, which is simulated where it is missing.
    resume : bool
        Go on with what an interruption, at any moment, has left in `out`.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    progress : bool
        Show progress bars with the remaining time.

    Returns
    -------
    Path
        The checkpoint, for `load_model` and `map_orientations`.

    Raises
    ------
    ValueError
        If the library or the state in `out` belongs to another configuration, or hardly any pattern can be used, or a
        value is out of range.
    ImportError
        If a library is to be simulated, and a package for that is missing.
    FileNotFoundError
        If there is nothing to resume, or no such file.
    FileExistsError
        If there is, without `resume`.

    Examples
    --------
    >>> path = mi.train("Ti.cif", "runs/ti", voltage=200e3, k_max=1.2)  # doctest: +SKIP
    >>> omap = mi.map_orientations("scan.h5", path)  # doctest: +SKIP
    """
    config = _configuration(source, voltage, k_max, quick)
    folder, target = Path(out), first_device(device)
    require_folder(folder, resume=resume, library_given=library is not None)
    let_threads_sleep()
    folder.mkdir(parents=True, exist_ok=True)
    if library is None:
        library = _library(config, folder, progress)
    from microinfer.training.trainer import Run

    run = Run(config, folder, library, target)
    if resume and run.state_file.exists():
        run.restore()
    run.go(progress)
    return run.checkpoint


def require_folder(folder: Path, *, resume: bool, library_given: bool = False) -> None:
    """Refuse a folder that a training cannot begin in or go on in, and find out whether it can simulate its library.

    Raises
    ------
    FileExistsError, FileNotFoundError, ImportError
        As `train`.
    """
    if not resume:
        require_no_training(folder)
    elif not ((folder / STATE).is_file() if library_given else may_resume(folder)):
        raise FileNotFoundError(f"{folder / STATE}: nothing to resume; train without resume first")
    if not library_given and not (folder / LIBRARY).is_file():
        require_simulation()


def _library(config: Config, folder: Path, progress: bool) -> PatternLibrary:
    path = folder / LIBRARY
    unfinished = partial_path(path)
    library = read_library(config, folder)
    if library is None:
        return simulate_library(config, path, resume=unfinished.exists(), progress=progress)
    unfinished.unlink(missing_ok=True)  # a process was killed between the two
    return library


def _configuration(source: Source, voltage: float | str | None, k_max: float | None, quick: bool) -> Config:
    if isinstance(source, str | os.PathLike) and _is_crystal(source):
        source = [source]
    if isinstance(source, Config | str | os.PathLike):
        return configure(source, voltage=voltage, k_max=k_max, quick=quick)
    return configure(None, source, voltage=voltage, k_max=k_max, quick=quick)


def _is_crystal(source: str | Path) -> bool:
    return Path(str(source).partition("#")[0]).suffix.lower() == ".cif"
