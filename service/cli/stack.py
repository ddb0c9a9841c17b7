"""`tandem up`, `down`, `status` and `serve`: start, stop and inspect the stack."""

from typing import TYPE_CHECKING

from service.cli import console
from service.cli.session import load_settings, load_stack_config, open_client

if TYPE_CHECKING:
    from pydantic import JsonValue

    from service.api.schemas.health import HealthView
    from service.cli.console.tables import OutputTable
    from service.stack.lifecycle import ComponentStatus


def up() -> None:
    """Start Ray, MLflow and the service, if they do not run yet."""
    from service.cli.datasets import provide_tiny_digits

    start_stack_with_progress()
    provide_tiny_digits()
    with open_client() as client:
        mlflow_url = client.health().mlflow_url
    out = console.output()
    out.print(f"API docs  {_service_url()}/docs")
    if mlflow_url is not None:
        out.print(f"MLflow    {mlflow_url}")
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
    health = _get_health(components)
    counts = {} if health is None else health.runs_by_state
    if as_json:
        documents: list[JsonValue] = [_to_document(item) for item in components]
        runs = {state: count for state, count in counts.items() if count}
        console.print_json({"components": documents, "runs": runs})
        return
    out = console.output()
    out.print(_build_table(components))
    if any(counts.values()):
        listed = (f"{n} {console.format_state(state)}" for state, n in counts.items() if n)
        out.print("Runs: " + ", ".join(listed))
    if health is not None and health.mlflow_url is not None:
        out.print(f"Runs in MLflow: {health.mlflow_url}")
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


def _get_health(components: "tuple[ComponentStatus, ...]") -> "HealthView | None":
    """Get the service's answer about its dependencies and runs; None if it does not run."""
    if components[-1].state not in {"up", "elsewhere"}:
        return None
    with open_client() as client:
        return client.health()


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
