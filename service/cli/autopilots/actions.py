"""`tandem show`, `pause`, `resume`, `stop` and `extend` of an autopilot."""

from typing import TYPE_CHECKING

from service.cli import console
from service.cli.autopilots.launch import follow
from service.cli.autopilots.parsing import parse_budget
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import open_client, resolve_autopilot_id

if TYPE_CHECKING:
    from service.api.schemas.autopilots import AutopilotView


def show_autopilot(id_prefix: str, *, as_json: bool) -> None:
    """Print stages, spending, conclusion and jobs of an autopilot."""
    from service.cli.views.autopilots import print_details

    with open_client() as client:
        view = client.autopilot(resolve_autopilot_id(client, id_prefix))
    if as_json:
        console.print_json(view)
    else:
        print_details(view)


def pause_autopilot(id_prefix: str, *, as_json: bool) -> None:
    """Pause an autopilot; print its phase."""
    with open_client() as client:
        view = client.pause_autopilot(resolve_autopilot_id(client, id_prefix))
    _print_phase(view, ": its runs write checkpoints and stop", as_json=as_json)


def resume_autopilot(id_prefix: str, *, as_json: bool) -> None:
    """Resume an autopilot; print its phase."""
    with open_client() as client:
        view = client.resume_autopilot(resolve_autopilot_id(client, id_prefix))
    _print_phase(view, as_json=as_json)


def stop_autopilot(id_prefix: str, *, as_json: bool) -> None:
    """Stop an autopilot; print its phase, and whether it still concludes."""
    with open_client() as client:
        view = client.stop_autopilot(resolve_autopilot_id(client, id_prefix))
    suffix = "" if view.is_over else ": its runs stop, and it concludes from those that are over"
    _print_phase(view, suffix, as_json=as_json)


def extend_autopilot(id_prefix: str, budget: str | None, *, watch: bool, as_json: bool) -> None:
    """Grant an autopilot more budget. Raises `CliError` without one."""
    if budget is None:
        advice = ("Say how much more it may spend, e.g. --budget 2h.",)
        raise CliError(ErrorMessage("An autopilot is extended by --budget.", advice=advice))
    amount = parse_budget(budget)
    with open_client() as client:
        view = client.extend_autopilot(resolve_autopilot_id(client, id_prefix), amount)
        _print_phase(view, as_json=as_json)
        if watch:
            follow(client, view.id)


def _print_phase(view: "AutopilotView", suffix: str = "", *, as_json: bool) -> None:
    from service.cli.views.autopilots import format_phase

    if as_json:
        console.print_json(view)
        return
    console.output().print(f"{view.id} is {format_phase(view)}{suffix}")
