"""The command line.

``microinfer map | info | demo | convert | benchmark | train | simulate | evaluate | export | models``.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from microinfer import __version__
from microinfer.cli.accuracy import evaluate
from microinfer.cli.benchmark import benchmark
from microinfer.cli.convert import convert
from microinfer.cli.make import export, models, simulate, train
from microinfer.cli.scan import demo, info, map_scan
from microinfer.cli.show import errors
from microinfer.cli.stop import exit_status, terminable


class _Commands(TyperGroup):
    """Commands whose expected errors are one clear line and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with terminable():
                return super().invoke(ctx)
        except BrokenPipeError:  # who reads the output has enough of it: typer ends the program
            raise
        except (ValueError, OSError, ImportError) as error:
            errors.print(f"[bold red]Error:[/] {_sentence(error)}", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stopped:
            errors.print("Stopped")
            raise typer.Exit(exit_status(stopped)) from None


app = typer.Typer(
    cls=_Commands,
    name="microinfer",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("map")(map_scan)
app.command("info")(info)
app.command("demo")(demo)
app.command("convert")(convert)
app.command("benchmark")(benchmark)
app.command("train")(train)
app.command("simulate")(simulate)
app.command("evaluate")(evaluate)
app.command("export")(export)
app.command("models")(models)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"microinfer {__version__}")
        raise typer.Exit


def _print_cmake_dir(wanted: bool) -> None:
    if wanted:
        from microinfer import _core

        typer.echo(Path(_core.__file__).parent / "lib" / "cmake" / "microinfer")
        raise typer.Exit


@app.callback()
def _microinfer(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    cmake_dir: Annotated[
        bool,
        typer.Option(
            "--cmake-dir",
            callback=_print_cmake_dir,
            is_eager=True,
            help="Show the folder of the C++ package, for CMAKE_PREFIX_PATH.",
        ),
    ] = False,
) -> None:
    """From the Bragg peaks of a 4D-STEM scan to a map of crystal orientation and phase."""


def main() -> None:
    """Run the command line."""
    app()


def _sentence(error: Exception) -> str:
    from rich.markup import escape

    if isinstance(error, OSError) and error.strerror and error.filename:
        return escape(f"{error.filename}: {error.strerror}")
    return escape(str(error))
