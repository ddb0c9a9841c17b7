"""`tandem budget`: is the distillation doing anything, or everything?"""

from typing import TYPE_CHECKING

import typer

from service.cli import console
from service.cli.runs import RunPrefix
from service.cli.session import open_client, resolve_run_id

if TYPE_CHECKING:
    from rich.table import Table

    from service.api.schemas.runs import LossSharesView, TermShareView

_BAR = 20
_PLACES = ("p3", "p4", "p5", "p6", "p7")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(loss_shares)


def loss_shares(run_id: RunPrefix) -> None:
    """Show what each term of a run's loss does: its share of the gradient, and its direction."""
    with open_client() as client:
        found = client.loss_shares(resolve_run_id(client, run_id))
    out = console.output()
    if found.parts:
        out.print(build_loss_shares_table(found))
    out.print(found.verdict)


def build_loss_shares_table(found: "LossSharesView") -> "Table":
    """Terms of the detector, then of the teacher; shares in percent, by level too."""
    shown = console.table("term", "share", "", "with the labels", *_PLACES)
    by_place = {(part.term, part.level): part for part in found.parts}
    overall = sorted(
        (part for part in found.parts if part.level == "all"),
        key=lambda part: (part.is_distillation, -part.share),
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


def _bar(part: "TermShareView") -> str:
    colour = "cyan" if part.is_distillation else "green"
    return f"[{colour}]{'━' * round(part.share * _BAR)}[/]"


def _share_text(part: "TermShareView | None") -> str:
    return "" if part is None else f"{100 * part.share:.0f}"
