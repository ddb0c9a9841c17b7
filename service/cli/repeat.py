"""`tandem repeat`: the pairs with further seeds that a verdict takes."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import RunPrefix
from service.cli.session import open_client, resolve_run_id

if TYPE_CHECKING:
    from service.api.schemas.runs import RepeatedPairView


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(repeat)


def repeat(
    run_id: RunPrefix,
    seeds: Annotated[int, typer.Option(help="With how many seeds in all.", min=2, max=32)] = 3,
    pack: Annotated[
        bool | None,
        typer.Option(
            "--pack/--no-pack",
            help="Train each new run and its baseline in one process; as the run itself if left "
            "out.",
        ),
    ] = None,
) -> None:
    """Train a distilled run and its baseline with further seeds: its verdict rests on all."""
    with open_client() as client:
        repeated = client.repeat(resolve_run_id(client, run_id), seeds=seeds, pack=pack)
    out = console.output()
    for pair in repeated.pairs:
        out.print(format_pair(pair), soft_wrap=True)
    out.print(
        f"When all have succeeded, `tandem show {repeated.run_id}` says whether distillation helps.",
        soft_wrap=True,
    )


def format_pair(pair: "RepeatedPairView") -> str:
    """One pair: launched now, or there already with the states of both runs."""
    if pair.is_new:
        beside = "new" if pair.baseline_state == "queued" else pair.baseline_state
        return f"Seed {pair.seed}: launched {pair.run_id}; its baseline is {pair.baseline_run_id} ({beside})."
    return (
        f"Seed {pair.seed}: {pair.run_id} ({pair.state}) and its baseline {pair.baseline_run_id} "
        f"({pair.baseline_state}) are there already."
    )
