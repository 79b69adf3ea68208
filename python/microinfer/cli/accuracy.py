"""The command that says how good a model is."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microinfer.cli.outputs import Output, Overwrite, check_outputs
from microinfer.cli.show import say, warnings_as_lines

if TYPE_CHECKING:
    from microinfer.evaluation import LabelledSet
    from microinfer.evaluation.run import Matching
    from microinfer.models import Model
    from microinfer.simulation.settings import PhaseConfig
    from microinfer.training.config import Config


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A shipped model's name, or a checkpoint's path.")
    ],
    test: Annotated[
        list[Path] | None,
        typer.Option(metavar="LIB.h5", help="A pattern library to test on; give it again for another one."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The report (Markdown); figures go to a folder beside it.")
    ] = Path("evaluation.md"),
    count: Annotated[
        int, typer.Option(min=1, help="Patterns to simulate for each test set, where no --test is given.")
    ] = 4000,
    template_matching: Annotated[
        int, typer.Option(metavar="N", min=0, help="Match the first N patterns with py4DSTEM too.")
    ] = 0,
    tuning: Annotated[
        int, typer.Option(metavar="N", min=2, help="Patterns on which template matching is tuned.")
    ] = 500,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECKPOINT", help="Another model of an ensemble; give it again for more."),
    ] = None,
    cif: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A CIF file (or Cu, Cu2O) for each of the model's phases, in their order, in place of the card's.",
        ),
    ] = None,
    ceiling: Annotated[
        int, typer.Option(metavar="N", min=1, help="Patterns for which ambiguity is counted.")
    ] = 500,
    write_card: Annotated[
        bool, typer.Option("--write-card", help="Put the figures into the model's card.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure a model on labelled patterns, beside template matching, and write a report.

    Without **--test** a clean and a noisy test set are simulated for the model's own crystals, with a seed that
    no training uses, and written beside the report.
    """
    _check(model, test or [], out, template_matching > 0, write_card, overwrite)
    from microinfer.evaluation import card_figures, labelled_set, write_report
    from microinfer.evaluation import evaluate as run
    from microinfer.models import load_model, model_path
    from microinfer.simulation import load_library

    loaded = load_model(model)
    members = [load_model(member) for member in ensemble or ()]
    with warnings_as_lines():
        if test:
            tests = [labelled_set(path.stem, load_library(path), loaded.phases) for path in test]
            _require_unlike_names(tests)
        else:
            tests = _simulated(loaded, cif, count, out)
        evaluation = run(
            loaded,
            tests,
            name=str(loaded.card.get("name", Path(model).stem)),
            device=device,
            matching=_matching(loaded, cif, template_matching, tuning) if template_matching else None,
            ensemble=members,
            ambiguity_patterns=ceiling,
            progress=True,
        )
        write_report(evaluation, out)
    for name, figures in card_figures(evaluation).items():
        say(
            f"{name}: mean error {figures['mean_error_deg']:.2f} deg, median {figures['median_error_deg']:.2f} deg, "
            f"within 3 deg {figures['within_3_deg']:.1%}"
        )
    if write_card:
        replace(loaded, card=loaded.card | {"figures": card_figures(evaluation)}).save(model_path(model))
        say(f"Figures written to the card of {model_path(model)}")
    say(f"Report written to {out}")


def _check(
    model: str, tests: list[Path], out: Path, matching: bool, write_card: bool, overwrite: bool
) -> None:
    """Find out before the work whether what it needs is there, and its results can be written."""
    from microinfer.extras import require_packages
    from microinfer.file_kinds import FileKind, require_kind
    from microinfer.files import require_writable
    from microinfer.models import model_path

    require_packages("microinfer evaluate", "torch")
    if not tests:
        require_packages("microinfer evaluate without --test", "py4DSTEM")
    if matching:
        require_packages("--template-matching", "py4DSTEM")
    outputs = [Output("the report", out)]
    for path in tests:
        require_kind(path, FileKind.LIBRARY)
    if not tests:
        outputs += [Output(f"the {name} test set", path) for name, path in _test_set_paths(out).items()]
    inputs = {"the model": model_path(model)} | {f"the test set {path}": path for path in tests}
    check_outputs(outputs, inputs, overwrite=overwrite)
    if write_card:
        require_writable(model_path(model))


def _simulated(model: "Model", cif: list[str] | None, count: int, out: Path) -> "list[LabelledSet]":
    """Simulate the test sets for a model's recipe and write them beside the report."""
    from microinfer.evaluation import labelled_set
    from microinfer.simulation import simulate_test_sets

    recipe = _recipe(model, "without --test")
    sets = simulate_test_sets(_phases(recipe, cif), recipe.simulation, count, progress=True)
    tests, paths = [], _test_set_paths(out)
    for name, library in sets._asdict().items():
        library.save(paths[name])
        say(f"Test set written to {paths[name]}")
        tests.append(labelled_set(name, library, model.phases))
    return tests


def _test_set_paths(out: Path) -> dict[str, Path]:
    """Where simulated test sets go, beside the report."""
    from microinfer.simulation import TestSets

    return {name: out.with_name(f"{out.stem}_{name}.h5") for name in TestSets._fields}


def _matching(model: "Model", cif: list[str] | None, count: int, tuning: int) -> "Matching":
    """Tune template matching, on as many clean as noisy patterns of a seed of their own."""
    from microinfer.crystals.structure import load_structure
    from microinfer.evaluation.run import Matching
    from microinfer.evaluation.template_matching import MatchParameters, tune, tuning_set

    recipe = _recipe(model, "--template-matching")
    phases = _phases(recipe, cif)
    structures = [load_structure(phase.structure, phase.name) for phase in phases]
    tuned = tune(
        structures,
        recipe.simulation,
        tuning_set(phases, recipe.simulation, tuning, model.phases),
        progress=True,
    )
    parameters = {
        "template matching, defaults": MatchParameters(),
        f"template matching, tuned on {tuning} patterns": tuned,
    }
    return Matching(structures, recipe.simulation, parameters, count)


def _recipe(model: "Model", what: str) -> "Config":
    from microinfer.training.config import Config

    if "recipe" not in model.card:
        raise ValueError(
            f"{what} needs the model's recipe, which its card does not give: give test sets with --test"
        )
    return Config.from_dict(model.card["recipe"], "the model's recipe")


def _phases(recipe: "Config", cif: list[str] | None) -> "tuple[PhaseConfig, ...]":
    """The recipe's phases, with other structures where they are given."""
    from dataclasses import replace

    from microinfer.crystals.structure import load_structure

    if cif is not None:
        if len(cif) != len(recipe.phases):
            raise ValueError(f"--cif: the model has {len(recipe.phases)} phases, got {len(cif)} structures")
        named = zip(recipe.phases, cif, strict=True)
        return tuple(
            replace(phase, structure=structure, name=phase.display_name) for phase, structure in named
        )
    for phase in recipe.phases:
        try:
            load_structure(phase.structure, phase.name)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}: give the model's crystals with --cif") from error
    return recipe.phases


def _require_unlike_names(tests: "list[LabelledSet]") -> None:
    names = [test.name for test in tests]
    if len(set(names)) < len(names):
        raise ValueError(f"--test: the files need names of their own, got {', '.join(names)}")
