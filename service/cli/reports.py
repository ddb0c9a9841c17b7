"""`tandem report`: did it help, by how much, and where not."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import RunPrefix, watch_to_its_end
from service.cli.session import full_id, open_client

if TYPE_CHECKING:
    from service.client import TandemClient


class Form(StrEnum):
    """What a report is read with."""

    MD = "md"
    HTML = "html"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(report)


def report(
    run_id: RunPrefix,
    form: Annotated[
        Form, typer.Option("--format", help="Text, a page, or for programs.")
    ] = Form.MD,
    out: Annotated[Path | None, typer.Option(help="Write it into this file.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Have a new one made first.")] = False,
) -> None:
    """Show the report of a run; one is made if there is none."""
    with open_client() as client:
        found = full_id(client, run_id)
        if (again or client.run(found).report is None) and not _made(client, found):
            return
        content = client.report(found, format=form.value)
    if out is None:
        typer.echo(content, nl=False)
        return
    out.write_text(content, encoding="utf-8")
    console.output().print(f"Wrote {out}.")


def _made(client: "TandemClient", run_id: str) -> bool:
    """Whether a new report is there; false: nobody waits for it any more."""
    return watch_to_its_end(client, client.make_report(run_id).id) is not None
