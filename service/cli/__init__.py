"""The command line interface, `tandem`."""

import sys
from typing import Annotated

import typer

from configs.version_option import create_version_option
from service.cli import (
    access,
    backup,
    datasets,
    doctor,
    fsck,
    jobs,
    loss_shares,
    presets,
    repeat,
    reports,
    run_actions,
    runs,
    stack,
    sweeps,
    teachers,
)
from service.cli.console.help_pages import GroupedCommands
from service.cli.demo import commands
from service.cli.errors import ErrorMessage, explain_error

app = typer.Typer(
    name="tandem",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    cls=GroupedCommands,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)


@app.callback()
def _root(
    version: Annotated[bool, create_version_option("tandem")] = False,
) -> None:
    """Launch, follow and compare teacher-student distillation of dense detectors."""


stack.register(app)
runs.register(app)
run_actions.register(app)
repeat.register(app)
sweeps.register(app)
access.register(app)
presets.register(app)
teachers.register(app)
datasets.register(app)
doctor.register(app)
backup.register(app)
fsck.register(app)
commands.register(app)
loss_shares.register(app)
reports.register(app)
jobs.register(app)


def main() -> None:
    """Run `tandem`; errors that a user can act on are shown without a traceback."""
    try:
        app()
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
