"""`tandem report`: show or create the report of a run, a sweep or an autopilot."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import watch_run
from service.cli.session import (
    open_client,
    resolve_autopilot_id,
    resolve_run_id,
    resolve_sweep_id,
)

if TYPE_CHECKING:
    from service.client import TandemClient


class OutputFormat(StrEnum):
    """File format of a report."""

    MD = "md"
    HTML = "html"
    JSON = "json"


def report(
    id_prefix: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SWEEP|AUTOPILOT",
            help="The id, or a unique prefix of it.",
        ),
    ],
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="Markdown, an HTML page, or JSON.")
    ] = OutputFormat.MD,
    out: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    open_: Annotated[
        Path | None,
        typer.Option(
            "--open", metavar="FILE", help="Write the HTML page to this file and open it."
        ),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--again", help="Create a new report of a run first.")
    ] = False,
) -> None:
    """Show the report of a run, a sweep or an autopilot; create one for a run that has none."""
    with open_client() as client:
        subject_id = _find_report_subject(client, id_prefix, refresh=refresh)
        if subject_id is None:
            return
        content = client.report(subject_id, format="html" if open_ else output_format.value)
    target = open_ or out
    if target is None:
        typer.echo(content, nl=False)
        return
    target.write_text(content, encoding="utf-8")
    console.output().print(f"Wrote {target}.")
    if open_ is not None:
        open_page(open_)


def open_page(file: Path) -> None:
    """Open a page in a browser; without one, print its address."""
    import webbrowser

    try:
        webbrowser.get()
    except webbrowser.Error:
        address = file.resolve().as_uri()
        console.output().print(f"There is no browser on this machine. The page is {address}")
        return
    typer.launch(str(file))


def _find_report_subject(client: "TandemClient", id_prefix: str, *, refresh: bool) -> str | None:
    """Resolve the id of the subject of a report, creating the report of a run if necessary.

    Return None if the user interrupts the creation.
    """
    from service.domain.ids import is_autopilot_id, is_sweep_id

    if is_autopilot_id(id_prefix):
        return resolve_autopilot_id(client, id_prefix)
    if is_sweep_id(id_prefix):
        return resolve_sweep_id(client, id_prefix)
    run_id = resolve_run_id(client, id_prefix)
    if (refresh or client.run(run_id).report_run_id is None) and not _create_report(client, run_id):
        return None
    return run_id


def _create_report(client: "TandemClient", run_id: str) -> bool:
    """Create a report and wait for it; return False if the user interrupts."""
    return watch_run(client, client.create_report(run_id).id) is not None
