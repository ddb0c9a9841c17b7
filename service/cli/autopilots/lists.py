"""`tandem autopilots` and `decisions`: lists of autopilots, and of what one has decided."""

from typing import Annotated

import typer

from service.cli import console
from service.cli.session import open_client, resolve_autopilot_id

AutopilotPrefix = Annotated[
    str, typer.Argument(metavar="AUTOPILOT", help="The id, or a unique prefix of it.")
]


def autopilots(as_json: console.AsJson = False) -> None:
    """List autopilots, the newest first."""
    from service.cli.views.autopilots import build_autopilots_table

    with open_client() as client:
        views = client.autopilots().items
    if as_json:
        console.print_json(views)
        return
    if not views:
        hint = "`tandem autopilot --help` shows how to launch one."
        console.output().print(f"No autopilots yet; {hint}")
        return
    console.output().print(build_autopilots_table(views))


def decisions(autopilot_id: AutopilotPrefix, as_json: console.AsJson = False) -> None:
    """List what an autopilot has decided and why, with its runs."""
    from service.cli.views.autopilots import build_decisions_table

    with open_client() as client:
        views = client.decisions(resolve_autopilot_id(client, autopilot_id))
    if as_json:
        console.print_json(views)
        return
    if not views:
        console.output().print("It has decided nothing yet; its probes come first.")
        return
    console.output().print(build_decisions_table(views))
