"""`tandem loss-shares`: the share of each loss term in the gradient."""

from typing import TYPE_CHECKING

from service.cli import console
from service.cli.runs import RunPrefix
from service.cli.session import open_client, resolve_run_id

if TYPE_CHECKING:
    from service.api.schemas.runs import LevelLossShareView, LossSharesView
    from service.cli.console.tables import OutputTable

_BAR_WIDTH = 20
_LEVELS = ("p3", "p4", "p5", "p6", "p7")


def loss_shares(run_id: RunPrefix, as_json: console.AsJson = False) -> None:
    """Show each loss term's share of the gradient, and its cosine with the label loss."""
    with open_client() as client:
        view = client.loss_shares(resolve_run_id(client, run_id))
    if as_json:
        console.print_json(view)
        return
    out = console.output()
    if view.parts:
        out.print(build_loss_shares_table(view))
    out.print(view.verdict)


def build_loss_shares_table(view: "LossSharesView") -> "OutputTable":
    """Terms of the detector, then of the distillation; shares in percent, also by level."""
    table = console.create_table(
        *("term", "share", "", "cosine", *_LEVELS), numbers=("share", "cosine", *_LEVELS)
    )
    by_level = {(part.term, part.level): part for part in view.parts}
    overall = sorted(
        (part for part in view.parts if part.level == "all"),
        key=lambda part: (part.is_distillation, -part.share),
    )
    for part in overall:
        table.add_row(
            part.term,
            f"{100 * part.share:.0f} %",
            _bar(part),
            f"{part.cosine:+.2f}",
            *(_format_share(by_level.get((part.term, level))) for level in _LEVELS),
        )
    return table


def _bar(part: "LevelLossShareView") -> str:
    color = "cyan" if part.is_distillation else "green"
    return f"[{color}]{'━' * round(part.share * _BAR_WIDTH)}[/]"


def _format_share(part: "LevelLossShareView | None") -> str:
    return "" if part is None else f"{100 * part.share:.0f}"
