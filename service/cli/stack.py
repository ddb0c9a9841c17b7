"""`tandem up`, `down`, `status` and `serve`."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.session import load_settings, load_stack_config

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.table import Table

    from service.stack.lifecycle import ComponentStatus


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(serve)


def up() -> None:
    """Start what is missing: Ray, MLflow and the service."""
    start_stack_with_progress()
    config = load_stack_config()
    out = console.output()
    out.print(f"API docs  {_service_url()}/docs")
    out.print(f"MLflow    {config.mlflow_url}")
    out.print("Stop everything with [bold]tandem down[/].")


def down() -> None:
    """End the service, MLflow and Ray; runs go on at the next `tandem up`."""
    from service.cli.progress.stack import StackProgress
    from service.stack.lifecycle import stop_stack

    with StackProgress() as watch:
        stop_stack(load_stack_config(), on_progress=watch)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how the parts are, and the runs by state."""
    from service.stack.lifecycle import get_stack_status

    found = get_stack_status(load_stack_config())
    counts = _runs_by_state(found)
    if as_json:
        parts: list[JsonValue] = [_document(part) for part in found]
        console.print_json({"parts": parts, "runs": dict(counts)})
        return
    out = console.output()
    out.print(_table(found))
    if counts:
        out.print("Runs: " + ", ".join(f"{n} {console.format_state(s)}" for s, n in counts.items()))
    out.print(f"Logs: {found[0].log.parent}", soft_wrap=True)
    if any(part.state not in {"up", "elsewhere"} for part in found):
        out.print("`tandem up` starts what is missing.")


def serve() -> None:
    """Run the service in the foreground."""
    from service.main import serve as serve_service

    serve_service(load_settings())


def start_stack_with_progress() -> None:
    """Starts the stack and shows how it comes up."""
    from service.cli.progress.stack import StackProgress
    from service.stack.lifecycle import start_stack

    with StackProgress() as watch:
        start_stack(load_stack_config(), on_progress=watch)


def _service_url() -> str:
    from service.stack.components import build_components

    return build_components(load_stack_config())[-1].url


def _runs_by_state(parts: "tuple[ComponentStatus, ...]") -> dict[str, int]:
    from service.cli.session import count_runs_by_state

    return count_runs_by_state() if parts[-1].state in {"up", "elsewhere"} else {}


def _document(part: "ComponentStatus") -> "JsonValue":
    return {
        "name": part.name,
        "state": part.state,
        "url": part.url,
        "pid": part.pid,
        "uptime_s": _uptime_s(part),
        "memory_bytes": part.memory_bytes,
        "log": str(part.log),
        "detail": part.detail,
    }


def _table(parts: "tuple[ComponentStatus, ...]") -> "Table":
    shown = console.table("part", "state", "pid", "url", "up for", "memory")
    for part in parts:
        shown.add_row(
            part.title,
            console.format_state(part.state),
            str(part.pid or "-"),
            part.url,
            console.format_duration(_uptime_s(part)),
            console.format_memory(part.memory_bytes),
        )
    return shown


def _uptime_s(part: "ComponentStatus") -> float | None:
    from time import time

    return None if part.started_at is None else time() - part.started_at
