"""The command line interface, `tandem`."""

import sys
from importlib import import_module
from typing import Annotated

import typer

from configs.version_option import create_version_option
from service.cli.console.help_pages import GroupedCommands
from service.cli.errors import ErrorMessage, explain_error

COMMANDS = {
    "stack": ("up", "down", "status", "serve"),
    "runs": ("run", "runs", "show", "logs"),
    "run_actions": ("cancel", "pause", "resume", "retry", "prioritize"),
    "repeat": ("repeat",),
    "sweeps": ("sweep", "sweeps", "trials", "stop", "extend", "promote"),
    "access": ("audit", "tokens", "projects"),
    "presets": ("presets",),
    "teachers": ("teachers",),
    "datasets": ("data",),
    "doctor": ("doctor",),
    "backup": ("backup", "restore"),
    "fsck": ("fsck", "prune"),
    "demo.commands": ("demo", "bccd", "sweep-demo", "demo-search"),
    "loss_shares": ("loss-shares",),
    "reports": ("report",),
    "jobs": ("evaluate", "export", "predict"),
}
"""Names of commands by the module of this package that registers them."""


def create_app(command: str | None = None) -> typer.Typer:
    """Create the command line with the module of `command` alone, which saves the import of others.

    All commands are registered if `command` is none of them, for the help page and typing errors.
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
    for module in [name for name, names in COMMANDS.items() if command in names] or COMMANDS:
        import_module(f"service.cli.{module}").register(app)
    return app


def _root(
    version: Annotated[bool, create_version_option("tandem")] = False,
) -> None:
    """Launch, follow and compare teacher-student distillation of dense detectors."""


def main() -> None:
    """Run `tandem`; errors that a user can act on are shown without a traceback."""
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
