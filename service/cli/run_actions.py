"""`tandem cancel`, `pause`, `resume`, `retry` and `prioritize`: actions on a run; those that an
autopilot has as well find it by its id."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.runs import RunPrefix
from service.cli.session import open_client, resolve_run_id

if TYPE_CHECKING:
    from service.api.schemas.runs import RunView


def cancel(run_id: RunPrefix, as_json: console.AsJson = False) -> None:
    """Cancel a run; its checkpoints are kept."""
    with open_client() as client:
        run = client.cancel(resolve_run_id(client, run_id))
    _print_state(run, "" if run.is_over else ": it writes a checkpoint and ends", as_json=as_json)


def pause(run_id: RunPrefix, as_json: console.AsJson = False) -> None:
    """Stop a run or an autopilot with checkpoints, and free its resources, until it is resumed."""
    from service.domain.ids import is_autopilot_id

    if is_autopilot_id(run_id):
        from service.cli.autopilots.actions import pause_autopilot

        pause_autopilot(run_id, as_json=as_json)
        return
    with open_client() as client:
        run = client.pause(resolve_run_id(client, run_id))
    suffix = "" if run.state == "paused" else ": it writes a checkpoint and stops"
    _print_state(run, suffix, as_json=as_json)


def resume(run_id: RunPrefix, as_json: console.AsJson = False) -> None:
    """Continue a paused run from its last checkpoint, or a paused autopilot."""
    from service.domain.ids import is_autopilot_id

    if is_autopilot_id(run_id):
        from service.cli.autopilots.actions import resume_autopilot

        resume_autopilot(run_id, as_json=as_json)
        return
    with open_client() as client:
        run = client.resume(resolve_run_id(client, run_id))
    _print_state(run, as_json=as_json)


def retry(run_id: RunPrefix, as_json: console.AsJson = False) -> None:
    """Queue a failed or cancelled run; it resumes from its last checkpoint."""
    with open_client() as client:
        run = client.retry(resolve_run_id(client, run_id))
    _print_state(run, as_json=as_json)


def prioritize(
    run_id: RunPrefix,
    priority: Annotated[int, typer.Argument(help="Larger values start first.", min=-100, max=100)],
    as_json: console.AsJson = False,
) -> None:
    """Change the priority of a run."""
    with open_client() as client:
        run = client.prioritize(resolve_run_id(client, run_id), priority)
    _print_state(run, f": its priority is {run.priority}", as_json=as_json)


def _print_state(run: "RunView", suffix: str = "", *, as_json: bool) -> None:
    if as_json:
        console.print_json(run)
        return
    console.output().print(f"{run.id} is {console.format_state(run.state)}{suffix}")
