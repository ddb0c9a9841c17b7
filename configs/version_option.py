"""The option `--version` of both programs."""

from typing import Any

import typer


def create_version_option(program: str) -> Any:
    """Create an option that prints `program` and the version of Tandem, and exits."""

    def print_version(is_requested: bool) -> None:
        if is_requested:
            # Imported here, because every other command starts without it.
            from importlib.metadata import version  # noqa: PLC0415

            typer.echo(f"{program} {version('tandem-distill')}")
            raise typer.Exit

    return typer.Option(
        "--version", help="Print the version.", is_eager=True, callback=print_version
    )
