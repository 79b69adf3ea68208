"""The command line.

``microinfer demo | info | peaks | calibrate | map | plot | convert | models | train | simulate | evaluate | export |
benchmark``.
"""

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from microinfer import __version__
from microinfer.cli.accuracy import evaluate
from microinfer.cli.benchmark import benchmark
from microinfer.cli.calibrate import calibrate
from microinfer.cli.convert import convert, plot
from microinfer.cli.demo import demo
from microinfer.cli.make import export, models, train
from microinfer.cli.peaks import peaks
from microinfer.cli.scan import info, map_scan
from microinfer.cli.show import errors, literal
from microinfer.cli.simulations import simulate
from microinfer.cli.stop import exit_status, terminable
from microinfer.extras import install_hint

_UsageError: Any = typer.BadParameter.__mro__[1]  # no version of typer lacks it, but its public name differs


class _Commands(TyperGroup):
    """Commands whose expected errors are one clear line: exit status 1, or 2 for wrong options."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with terminable():
                return super().invoke(ctx)
        except BrokenPipeError:  # who reads the output has enough of it: typer ends the program
            raise
        except _UsageError as error:  # typer would put it into a box, which breaks paths
            if error.ctx is not None:
                hint = f"{error.ctx.get_usage()} ({error.ctx.command_path} --help says more)"
                errors.print(literal(hint), soft_wrap=True)
            _print_error(error.format_message())
            raise typer.Exit(2) from error
        except (ValueError, OSError, ImportError) as error:
            _print_error(_sentence(error))
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
for command in (
    demo,
    info,
    peaks,
    calibrate,
    map_scan,
    plot,
    convert,
    models,
    train,
    simulate,
    evaluate,
    export,
    benchmark,
):
    if isinstance(command, typer.Typer):
        app.add_typer(command)
    else:
        app.command("map" if command is map_scan else command.__name__)(command)


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its number
            stream.reconfigure(errors="backslashreplace")
    app()


def _sentence(error: Exception) -> str:
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        text = f"{package} is not installed: {install_hint(package)}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    return text


def _print_error(text: str) -> None:
    shown = "\n".join(map(literal, text.split("\n")))
    errors.print(f"[bold red]Error:[/] {shown}", soft_wrap=True)
