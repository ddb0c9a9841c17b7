"""What commands of `tandem-worker` that a person runs write to a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from configs.protocol.names import ExitCode


def open_output() -> Console:
    """Standard output, as it is at this moment."""
    return Console(highlight=False)


def open_errors() -> Console:
    """Standard error, as it is at this moment."""
    return Console(stderr=True, highlight=False)


def exit_with_refusal(message: str) -> NoReturn:
    """Print why nothing was written, and exit with the code for a refusal."""
    open_errors().print(message, style="bold red", markup=False, soft_wrap=True)
    raise typer.Exit(ExitCode.REFUSED)


@contextmanager
def show_progress(
    title: str, count: ProgressColumn, *, total: int | None
) -> Iterator[Callable[..., None]]:
    """Show a bar if standard error is a terminal; yields `Progress.update` of the bar.

    `count`: how the work done so far is written. `total` is None until it is known.
    """
    columns = (TextColumn(title), BarColumn(), count, TimeRemainingColumn())
    console = open_errors()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield partial(progress.update, progress.add_task(title, total=total))
