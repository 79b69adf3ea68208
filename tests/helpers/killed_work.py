"""Work of microinfer that `helpers.kills` kills: a map, a pattern library, a training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

import microinfer as mi
from helpers.kills import Work
from microinfer.mapping import map_to_file
from microinfer.mapping.unfinished import UnfinishedMap


def after(owner: type, name: str, then: Callable[[], Any]) -> None:
    """Call something after each call of a method."""
    original = owner.__dict__.get(f"unwatched_{name}", owner.__dict__[name])

    def method(*arguments: Any) -> Any:
        result = original(*arguments)
        then()
        return result

    setattr(owner, f"unwatched_{name}", original)
    setattr(owner, name, method)


def content(path: str) -> list[Any]:
    """All that an HDF5 file of ours says."""
    with h5py.File(path) as file:
        attributes = sorted((name, str(value)) for name, value in file.attrs.items())
        return [attributes, *((name, item.dtype, item[()].tobytes()) for name, item in file.items())]


def a_map(source: Path) -> Work:
    """A map of four scan rows, in blocks of one; `source` has scan and model."""
    scan, model = (
        mi.read_peaks(source / "scan.h5").read_rows(0, 4),
        mi.load_model(source / "small.safetensors"),
    )

    def run(*, resume: bool = False) -> int:
        # killed after the map had its name, the unfinished one is still there
        report = map_to_file(
            scan, model, "map.h5", resume=resume, overwrite=resume, device="cpu", block_rows=1, check=False
        )
        return report.resumed // scan.scan_shape[1]

    def begin(done: Callable[[], None]) -> None:
        after(UnfinishedMap, "write", done)
        run()

    def go_on() -> int:
        unfinished = Path("map.h5.part").exists()
        return 4 if Path("map.h5").exists() and not unfinished else run(resume=unfinished)

    return Work(begin, go_on, lambda: content("map.h5"))


def _config(**training: Any) -> Any:
    from microinfer.models.settings import ModelConfig
    from microinfer.simulation.settings import PhaseConfig, SimulationConfig
    from microinfer.training.config import Config, TrainingConfig

    return Config(
        "tiny",
        (PhaseConfig("Cu"),),
        SimulationConfig(zone_axes=4, thicknesses=2, method="kinematic", k_max=1.0),
        model=ModelConfig(width=16, blocks=1, heads=2, zone_axis_spacing=12.0, channels=4),
        training=TrainingConfig(batch_size=8, validation_share=0.3, **training),
    )


def a_library(source: Path) -> Work:
    """A library of four zone axes, each a task of its own that is written at once."""
    from microinfer.simulation import simulate, unfinished

    simulate.BLOCK, unfinished.SECONDS = 1, 0.0

    def run(*, resume: bool = False) -> None:
        simulate.simulate_library(_config(), "library.h5", resume=resume, processes=1)

    def begin(done: Callable[[], None]) -> None:
        after(unfinished.UnfinishedLibrary, "add", done)
        run()

    def go_on() -> int:
        called: list[int] = []
        after(unfinished.UnfinishedLibrary, "add", lambda: called.append(1))
        begun = Path("library.h5.part").exists()
        if begun or not Path("library.h5").exists():
            run(resume=begun)
        return 4 - len(called)

    return Work(begin, go_on, lambda: content("library.h5"))


def a_training(source: Path) -> Work:
    """A training of five steps whose state is written after each; `source` has the library."""
    from microinfer.simulation import load_library
    from microinfer.training import calibration, train, trainer

    trainer.SECONDS, trainer.VALIDATIONS, calibration.PATTERNS = 0.0, 2, 40
    library, config = load_library(source / "library.h5"), _config(samples=40, warmup_steps=2)

    def run(*, resume: bool = False) -> None:
        train(config, "run", library=library, resume=resume, device="cpu")

    def begin(done: Callable[[], None]) -> None:
        after(trainer.Run, "save_state", done)
        run()

    def go_on() -> int:
        called: list[int] = []
        after(trainer.Run, "save_state", lambda: called.append(1))
        run(resume=Path("run/state.pt").exists())
        return whole - len(called)

    def result() -> list[Any]:
        log = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
        for record in log:
            del record["seconds"]
        return [
            mi.load_model("run/tiny.safetensors").digest,
            log,
            sorted(p.name for p in Path("run").iterdir()),
        ]

    called: list[int] = []
    after(trainer.Run, "save_state", lambda: called.append(1))
    run()
    whole = len(called)
    return Work(begin, go_on, result)
