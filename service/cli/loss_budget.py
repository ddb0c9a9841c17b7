"""`tandem budget`: is the distillation doing anything, or everything?"""

from typing import TYPE_CHECKING

import typer

from service.cli import console
from service.cli.runs import RunPrefix
from service.cli.session import full_id, open_client

if TYPE_CHECKING:
    from rich.table import Table

    from service.api.schemas.runs import BudgetPartView, BudgetView

_BAR = 20
_PLACES = ("p3", "p4", "p5", "p6", "p7")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(budget)


def budget(run_id: RunPrefix) -> None:
    """Show what each term of a run's loss does: its share of the gradient, and its direction."""
    with open_client() as client:
        found = client.budget(full_id(client, run_id))
    out = console.output()
    if found.parts:
        out.print(table_of(found))
    out.print(found.verdict)


def table_of(found: "BudgetView") -> "Table":
    """Terms of the detector, then of the teacher; shares in percent, by level too."""
    shown = console.table("term", "share", "", "with the labels", *_PLACES)
    by_place = {(part.term, part.place): part for part in found.parts}
    overall = sorted(
        (part for part in found.parts if part.place == "all"),
        key=lambda part: (part.is_taught, -part.share),
    )
    for part in overall:
        shown.add_row(
            part.term,
            f"{100 * part.share:.0f} %",
            _bar(part),
            f"{part.cosine:+.2f}",
            *(_share_text(by_place.get((part.term, place))) for place in _PLACES),
        )
    return shown


def _bar(part: "BudgetPartView") -> str:
    colour = "cyan" if part.is_taught else "green"
    return f"[{colour}]{'━' * round(part.share * _BAR)}[/]"


def _share_text(part: "BudgetPartView | None") -> str:
    return "" if part is None else f"{100 * part.share:.0f}"
