"""The command `tandem reproduce`."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import open_client

if TYPE_CHECKING:
    from service.cli.reproduction.launches import Reproduction


def reproduce(
    table: Annotated[str, typer.Argument(help="A published table: bckd, crosskd, ld or pkd.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change in every row."),
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Only these rows, e.g. r50,r18; by default all.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Share of the training images of each epoch, e.g. 1/10.")
    ] = "1",
    project: Annotated[str | None, typer.Option(help="Project of the runs.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the rows, their plans and findings.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Show published beside measured mAP; launch nothing.")
    ] = False,
) -> None:
    """Launch the rows of a published table with their baselines; asking again launches nothing."""
    from service.cli.parsing import parse_changes
    from service.cli.reproduction.launches import launch_rows, plan_rows
    from service.cli.reproduction.report import show_report

    if report and (dry_run or changes or project):
        advice = ("Leave out --dry-run, --project and changes.",)
        raise CliError(ErrorMessage("--report launches nothing.", advice=advice))
    reproduction = _read_reproduction(table, rows, scale)
    _print_source(reproduction)
    with open_client() as client:
        if report:
            show_report(client, reproduction)
            return
        run_rows = plan_rows if dry_run else launch_rows
        run_rows(client, reproduction, changes=parse_changes(changes or ()), project=project)


def _read_reproduction(table: str, rows: str | None, scale: str) -> "Reproduction":
    from configs.tables.published import load_published_table, select_rows
    from configs.tables.scaling import parse_scale
    from service.cli.reproduction.launches import Reproduction

    published = load_published_table(table)
    names = tuple(name.strip() for name in rows.split(",")) if rows is not None else ()
    try:
        share = parse_scale(scale)
    except ValueError as error:
        raise CliError(ErrorMessage(str(error))) from error
    return Reproduction(table, published, select_rows(published, names), share)


def _print_source(reproduction: "Reproduction") -> None:
    from rich.markup import escape

    published, out = reproduction.table, console.output()
    out.print(f"{escape(published.summary)}.")
    source = published.source
    out.print(f"Published: {escape(source.paper)}; {escape(source.table)}, {source.url}")
    license_ = f", license {published.code.license}" if published.code.license else ""
    out.print(f"Code of the authors, of which Tandem has none: {published.code.url}{license_}")
