"""`tandem report`: did it help, by how much, and where not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import watch_to_its_end
from service.cli.session import full_id, full_sweep_id, open_client

if TYPE_CHECKING:
    from service.client import TandemClient


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(report)


def report(
    about: Annotated[str, typer.Argument(metavar="SWEEP|RUN", help="The id, or enough of it.")],
    open_: Annotated[
        Path | None,
        typer.Option("--open", metavar="FILE", help="Write the page there and show it."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Of a run: have a new one made first.")
    ] = False,
) -> None:
    """Print the report about a sweep or a run; a run that has none gets one."""
    from service.api.asked import ReportQuery

    with open_client() as client:
        if about.startswith("s"):
            full = full_sweep_id(client, about)
        else:
            full = full_id(client, about)
            if (again or client.run(full).report is None) and not _made(client, full):
                return
        if open_ is None:
            typer.echo(client.report(full, ReportQuery(format="md")))
            return
        page = client.report(full)
    open_.parent.mkdir(parents=True, exist_ok=True)
    open_.write_text(page, encoding="utf-8")
    console.output().print(f"Written to {open_}", soft_wrap=True)
    typer.launch(str(open_))


def _made(client: "TandemClient", run_id: str) -> bool:
    """Whether a new report is there; false: nobody waits for it any more."""
    return watch_to_its_end(client, client.make_report(run_id).id) is not None
