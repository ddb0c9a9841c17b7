"""`tandem up`, `down`, `status` and `serve`: start, stop and inspect the stack."""

from typing import TYPE_CHECKING

import typer

from service.cli import console
from service.cli.session import find_mlflow_page, load_settings, load_stack_config

if TYPE_CHECKING:
    from pydantic import JsonValue

    from service.cli.console.tables import OutputTable
    from service.stack.lifecycle import ComponentStatus


def register(app: typer.Typer) -> None:
    """Add `tandem up`, `down`, `status` and `serve`."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(serve)


def up() -> None:
    """Start Ray, MLflow and the service, if they do not run yet."""
    from service.cli.datasets import provide_tiny_digits

    start_stack_with_progress()
    provide_tiny_digits()
    out = console.output()
    out.print(f"API docs  {_service_url()}/docs")
    out.print(f"MLflow    {find_mlflow_page()}")
    out.print("Stop everything with [bold]tandem down[/].")


def down() -> None:
    """Stop the service, MLflow and Ray; runs resume after the next `tandem up`."""
    from service.cli.progress.stack import StackProgress
    from service.stack.lifecycle import stop_stack

    with StackProgress() as progress:
        stop_stack(load_stack_config(), on_progress=progress)


def status(
    as_json: console.AsJson = False,
) -> None:
    """Show the state of each component and the number of runs by state."""
    from service.stack.lifecycle import get_stack_status

    components = get_stack_status(load_stack_config())
    counts = _count_runs(components)
    if as_json:
        documents: list[JsonValue] = [_to_document(item) for item in components]
        console.print_json({"components": documents, "runs": dict(counts)})
        return
    out = console.output()
    out.print(_build_table(components))
    if counts:
        out.print("Runs: " + ", ".join(f"{n} {console.format_state(s)}" for s, n in counts.items()))
    out.print(f"Logs: {components[0].log.parent}")
    if any(item.state not in {"up", "elsewhere"} for item in components):
        out.print("`tandem up` starts the components that do not run.")


def serve() -> None:
    """Run the service in the foreground."""
    from service.main import serve as serve_service

    serve_service(load_settings())


def start_stack_with_progress() -> None:
    """Start the stack and show the progress of each component."""
    from service.cli.progress.stack import StackProgress
    from service.stack.lifecycle import start_stack

    with StackProgress() as progress:
        start_stack(load_stack_config(), on_progress=progress)


def _service_url() -> str:
    from service.stack.components import build_components

    return build_components(load_stack_config())[-1].url


def _count_runs(components: "tuple[ComponentStatus, ...]") -> dict[str, int]:
    from service.cli.session import count_runs_by_state

    return count_runs_by_state() if components[-1].state in {"up", "elsewhere"} else {}


def _to_document(component: "ComponentStatus") -> "JsonValue":
    return {
        "name": component.name,
        "state": component.state,
        "url": component.url,
        "pid": component.pid,
        "uptime_s": _uptime_s(component),
        "memory_bytes": component.memory_bytes,
        "log": str(component.log),
        "detail": component.detail,
    }


def _build_table(components: "tuple[ComponentStatus, ...]") -> "OutputTable":
    table = console.create_table(
        *("component", "state", "pid", "up for", "memory", "address"),
        below=("address",),
        numbers=("pid", "memory"),
    )
    for component in components:
        table.add_row(
            component.title,
            console.format_state(component.state),
            str(component.pid or "-"),
            console.format_duration(_uptime_s(component)),
            console.format_memory(component.memory_bytes),
            component.url,
        )
    return table


def _uptime_s(component: "ComponentStatus") -> float | None:
    from time import time

    return None if component.started_at is None else time() - component.started_at
