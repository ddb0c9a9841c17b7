"""`tandem report`: did it help, by how much, and where not."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import watch_run
from service.cli.session import open_client, resolve_run_id, resolve_sweep_id

if TYPE_CHECKING:
    from service.client import TandemClient


class OutputFormat(StrEnum):
    """What a report is read with."""

    MD = "md"
    HTML = "html"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(report)


def report(
    about: Annotated[
        str, typer.Argument(metavar="RUN|SWEEP", help="The id, or enough of its beginning.")
    ],
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="Text, a page, or for programs.")
    ] = OutputFormat.MD,
    out: Annotated[Path | None, typer.Option(help="Write it into this file.")] = None,
    open_: Annotated[
        Path | None,
        typer.Option("--open", metavar="FILE", help="Write the page into this file and show it."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Of a run: have a new one made first.")
    ] = False,
) -> None:
    """Show the report of a run or a sweep; of a run one is made if there is none."""
    with open_client() as client:
        found = _found(client, about, again=again)
        if found is None:
            return
        content = client.report(found, format="html" if open_ else output_format.value)
    target = open_ or out
    if target is None:
        typer.echo(content, nl=False)
        return
    target.write_text(content, encoding="utf-8")
    console.output().print(f"Wrote {target}.")
    if open_ is not None:
        typer.launch(str(open_))


def _found(client: "TandemClient", about: str, *, again: bool) -> str | None:
    """The whole id of what has a report; none: nobody waits for one any more."""
    if about.startswith("s"):
        return resolve_sweep_id(client, about)
    found = resolve_run_id(client, about)
    if (again or client.run(found).report_run_id is None) and not _made(client, found):
        return None
    return found


def _made(client: "TandemClient", run_id: str) -> bool:
    """Whether a new report is there; false: nobody waits for it any more."""
    return watch_run(client, client.create_report(run_id).id) is not None
