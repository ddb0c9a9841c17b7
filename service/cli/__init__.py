"""The command line interface, `tandem`."""

import sys
from importlib import import_module
from typing import Annotated

import typer

from configs.terminal_output import escape_unprintable
from configs.version_option import create_version_option
from service.cli.console.commands import MODULES
from service.cli.console.help_pages import GroupedCommands
from service.cli.errors import ErrorMessage, explain_error


def create_app(command: str | None = None) -> typer.Typer:
    """Create the command line with `command` alone, which saves the import of the other modules.

    It has all commands if `command` is none of them, for the help page and typing errors.
    """
    app = typer.Typer(
        name="tandem",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        cls=GroupedCommands,
        rich_markup_mode=None,
        context_settings={"max_content_width": 100},
    )
    app.callback()(_root)
    for name in [command] if command in MODULES else MODULES:
        _add(app, name)
    return app


def _add(app: typer.Typer, name: str) -> None:
    module = import_module(f"service.cli.{MODULES[name]}")
    command = getattr(module, name.replace("-", "_"))
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _root(
    version: Annotated[bool, create_version_option("tandem")] = False,
) -> None:
    """Launch, follow and compare teacher-student distillation of dense detectors."""


def main() -> None:
    """Run `tandem`; errors that a user can act on are shown without a traceback."""
    escape_unprintable()
    try:
        create_app(next(iter(sys.argv[1:]), None))()
    except Exception as error:
        message = explain_error(error)
        if message is None:
            raise
        sys.exit(_print_error(message))


def _print_error(message: ErrorMessage) -> int:
    from service.cli.console import error_output
    from service.cli.errors import render_error

    error_output().print(render_error(message))
    return 1
