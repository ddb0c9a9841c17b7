"""`tandem cancel`, `pause`, `resume`, `retry` and `prioritize`."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import RunPrefix
from service.cli.session import open_client, resolve_run_id

if TYPE_CHECKING:
    from service.api.schemas.runs import RunView


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (cancel, pause, resume, retry, prioritize):
        app.command()(command)


def cancel(run_id: RunPrefix) -> None:
    """End a run; its checkpoints stay."""
    with open_client() as client:
        found = client.cancel(resolve_run_id(client, run_id))
    _say(found, "" if found.is_over else ": it writes a checkpoint and ends")


def pause(run_id: RunPrefix) -> None:
    """Have a run leave what it takes, with a checkpoint, until it is resumed."""
    with open_client() as client:
        found = client.pause(resolve_run_id(client, run_id))
    _say(found, "" if found.state == "paused" else ": it writes a checkpoint and leaves")


def resume(run_id: RunPrefix) -> None:
    """Queue a paused run again; it goes on from its last checkpoint."""
    with open_client() as client:
        _say(client.resume(resolve_run_id(client, run_id)))


def retry(run_id: RunPrefix) -> None:
    """Queue a failed or cancelled run again, from its last checkpoint."""
    with open_client() as client:
        _say(client.retry(resolve_run_id(client, run_id)))


def prioritize(
    run_id: RunPrefix,
    priority: Annotated[int, typer.Argument(help="The larger goes first.", min=-100, max=100)],
) -> None:
    """Give a run another place in the queue."""
    with open_client() as client:
        found = client.prioritize(resolve_run_id(client, run_id), priority)
    _say(found, f": its priority is {found.priority}")


def _say(found: "RunView", what_follows: str = "") -> None:
    console.output().print(f"{found.id} is {console.format_state(found.state)}{what_follows}")
