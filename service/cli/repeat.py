"""`tandem repeat`: train a run and its baseline with more seeds."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import Controls, RunPrefix, list_controls
from service.cli.session import open_client, resolve_run_id

if TYPE_CHECKING:
    from service.api.schemas.runs import RepeatedPairView


def repeat(
    run_id: RunPrefix,
    seeds: Annotated[int, typer.Option(help="Total number of seeds.", min=2, max=32)] = 3,
    pack: Annotated[
        bool | None,
        typer.Option(
            "--pack/--no-pack",
            help="Train each new run and its baseline in one process; by default as the run.",
        ),
    ] = None,
    control: Controls = None,
    as_json: console.AsJson = False,
) -> None:
    """Train a distilled run and its baseline with more seeds, for a verdict over all of them."""
    with open_client() as client:
        repetition = client.repeat(
            resolve_run_id(client, run_id),
            seeds=seeds,
            pack=pack,
            controls=list_controls(control),
        )
    if as_json:
        console.print_json(repetition)
        return
    out = console.output()
    for pair in repetition.pairs:
        out.print(format_pair(pair))
    out.print(f"When all runs have succeeded, `tandem show {repetition.run_id}` shows the verdict.")


def format_pair(pair: "RepeatedPairView") -> str:
    """Format a pair: launched now, or existing, with the states of both runs."""
    if pair.is_new:
        state = "new" if pair.baseline_state == "queued" else pair.baseline_state
        return (
            f"Seed {pair.seed}: launched {pair.run_id}; its baseline is {pair.baseline_run_id} "
            f"({state})."
        )
    return (
        f"Seed {pair.seed}: {pair.run_id} ({pair.state}) and its baseline {pair.baseline_run_id} "
        f"({pair.baseline_state}) exist already."
    )
