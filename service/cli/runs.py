"""`tandem run`, `runs`, `show` and `logs`: launch and inspect runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import list_all_runs, open_client, resolve_run_id
from service.domain.states import RunState

if TYPE_CHECKING:
    from rich.table import Table

    from configs.protocol.records import PendingRecords
    from configs.protocol.report import NoiseFloor
    from service.api.schemas.runs import EventView, PlanView, RunRequest, RunView
    from service.client import TandemClient

_DEFAULT_LIMIT = 50
_NUM_LOG_LINES = 50
_NORMAL_BACKLOG = 20
"""A backlog up to this size is normal while a run trains, and is not shown."""

RunPrefix = Annotated[str, typer.Argument(metavar="ID", help="The id, or a unique prefix of it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `tandem run`, `runs`, `show` and `logs`."""
    for command in (run, runs, show, logs):
        app.command()(command)


def run(
    preset: Annotated[str, typer.Argument(help="A preset; `tandem presets` lists them.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change, e.g. schedule.epochs=3."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    project: Annotated[str | None, typer.Option(help="Project of the run.")] = None,
    priority: Annotated[int, typer.Option(help="Larger values start first.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show the resolved spec and findings.")
    ] = False,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Train and compare no baseline.")
    ] = False,
    pack: Annotated[
        bool,
        typer.Option("--pack", help="Train the run and its new baseline in one process."),
    ] = False,
) -> None:
    """Launch a run from a preset; a distilled run gets a baseline to compare it with."""
    from service.api.schemas.runs import RunRequest
    from service.cli.parsing import parse_changes

    request = RunRequest(
        preset=preset,
        changes=parse_changes(changes or ()),
        name=name,
        project=project,
        priority=priority,
        baseline="off" if no_baseline else "auto",
        pack=pack,
    )
    with open_client() as client:
        if plan:
            _show_plan(client, request)
            return
        launched = client.launch(request)
        console.output().print(f"Launched [bold]{launched.id}[/] ({launched.preset})")
        if launched.baseline_run_id:
            console.output().print(f"Its baseline is {launched.baseline_run_id}.")
        if watch:
            ended = watch_run(client, launched.id)
            if ended is not None:
                score = console.format_score(ended.best_map)
                console.output().print(f"mAP {score}  {ended.mlflow_url or ''}")
            return
    console.output().print(
        f"`tandem logs -f {launched.id}` follows its log, `tandem runs` lists all runs."
    )


def runs(
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help=f"All runs, not only the last {_DEFAULT_LIMIT}.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    with open_client() as client:
        views = list_all_runs(client, state=state) if all_ else _list_last_runs(client, state)
    if as_json:
        console.print_json([item.model_dump(mode="json") for item in views])
        return
    if not views:
        console.output().print("No runs yet; `tandem run quick/instant` launches one.")
        return
    console.output().print(build_runs_table(views))


def show(run_id: RunPrefix, as_json: AsJson = False) -> None:
    """Show a run: state, metrics and events; of a failed one also the end of its log."""
    from service.api.schemas.runs import LogQuery

    with open_client() as client:
        run = client.run(resolve_run_id(client, run_id))
        events = client.events(run.id)
        has_failed = run.state == "failed" or (run.reason is not None)
        noise = client.noise(run.id).noise if run.task == "train" else None
        query = LogQuery(tail=_NUM_LOG_LINES)
        log = client.logs(run.id, query) if has_failed and not as_json else ""
    if as_json:
        document = run.model_dump(mode="json")
        document["events"] = [event.model_dump(mode="json") for event in events]
        console.print_json(document)
        return
    from rich.text import Text

    out = console.output()
    out.print(_build_details(run, noise))
    out.print(_build_events_table(events))
    for line in log.splitlines():
        out.print(Text(f"  │ {line}", style="dim"), soft_wrap=True)


def logs(
    run_id: RunPrefix,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the run ends.")
    ] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last N lines.", min=1)] = None,
    search: Annotated[str | None, typer.Option(help="Only lines that contain this text.")] = None,
    attempt: Annotated[int | None, typer.Option(help="Only lines of this attempt.", min=1)] = None,
) -> None:
    """Print the log of a run."""
    from service.api.schemas.runs import LogQuery

    with open_client() as client:
        full_id = resolve_run_id(client, run_id)
        if not follow:
            query = LogQuery(tail=tail, search=search, attempt=attempt)
            typer.echo(client.logs(full_id, query), nl=False)
            return
        try:
            for text in client.follow_logs(full_id):
                typer.echo(text, nl=False)
        except KeyboardInterrupt:
            console.error_output().print(
                f"\nThe run continues; `tandem cancel {full_id}` cancels it."
            )


def build_runs_table(views: "list[RunView]") -> "Table":
    """Build a table with a line per run."""
    from rich.markup import escape

    table = console.create_table(
        "id", "name", "state", "epoch", "mAP", "duration", "launched", folding=("name",)
    )
    for item in views:
        progress = item.progress
        table.add_row(
            item.id,
            escape(item.name),
            console.format_state(item.state),
            f"{progress.epoch}/{progress.epochs}" if progress else "-",
            console.format_score(item.best_map),
            console.format_duration(run_duration_s(item)),
            console.format_time(item.created_at)[:-3],
        )
    return table


def run_duration_s(run: "RunView") -> float | None:
    """Seconds since the run started, up to its end; None if it has not started."""
    from datetime import UTC, datetime

    if run.started_at is None:
        return None
    return ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds()


def _list_last_runs(client: "TandemClient", state: RunState | None) -> "list[RunView]":
    from service.api.schemas.runs import RunQuery

    return list(client.runs(RunQuery(state=state, limit=_DEFAULT_LIMIT)).items)


def watch_run(client: "TandemClient", run_id: str) -> "RunView | None":
    """Watch a run until it succeeds; raise `CliError` if it fails.

    Return None if the user interrupts the watching; the run continues.
    """
    from service.cli.progress.runs import watch_runs

    try:
        (ended,) = watch_runs(client, {"run": run_id}).values()
    except KeyboardInterrupt:
        console.output().print(
            f"The run continues. `tandem logs -f {run_id}` follows its log, "
            f"`tandem cancel {run_id}` cancels it."
        )
        return None
    if ended.state != "succeeded":
        cause = ended.message or ended.reason or "unknown cause"
        log = f"Its log: tandem logs {ended.id}"
        raise CliError(
            ErrorMessage(f"{ended.id} {ended.state}: {cause}", advice=(ended.advice or "", log))
        )
    return ended


def _show_plan(client: "TandemClient", request: "RunRequest") -> None:
    from service.cli.comparisons import format_planned_baseline

    plan: PlanView = client.plan(request)
    wait = [f"It would wait for {plan.waiting_for}."] if plan.waiting_for else []
    details = [*wait, *format_planned_baseline(plan)]
    console.print_plan(plan.spec, plan.findings, details=details)


def _build_details(run: "RunView", noise: "NoiseFloor | None") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    from service.cli.comparisons import (
        format_baseline,
        format_gains,
        format_noise_floor,
        format_verdict,
    )

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    progress = run.progress
    rows = {
        "run": f"[bold]{run.id}[/] {escape(run.name)}",
        "preset": run.preset,
        "state": console.format_state(run.state),
        "project": run.project if run.project != "default" else None,
        "priority": str(run.priority) if run.priority else None,
        "queue position": f"{run.queue_position}" if run.queue_position else None,
        "waits for": escape(run.waiting_for or ""),
        "reason": run.reason,
        "message": escape(run.message),
        "advice": run.advice,
        "attempt": str(run.attempt),
        "epoch": f"{progress.epoch} of {progress.epochs} ({progress.phase})" if progress else None,
        "best mAP": _format_best(run),
        "teacher's mAP": console.format_score(run.teacher_map) if run.teacher_map else None,
        "baseline": format_baseline(run),
        "verdict": None if run.comparison is None else format_verdict(run.comparison),
        "gain by seed": None if run.comparison is None else format_gains(run.comparison),
        "noise floor": None if noise is None else format_noise_floor(noise),
        "report": run.report_run_id,
        "launched": console.format_time(run.created_at),
        "duration": console.format_duration(run_duration_s(run)) if run.started_at else None,
        "MLflow": run.mlflow_url,
        "pending records": format_pending_records(run.pending_records),
    }
    for label, value in rows.items():
        if value:
            grid.add_row(f"[dim]{label}[/]", value)
    for metric, score in sorted(run.latest.items()):
        if metric.startswith("loss_share/"):
            continue  # `tandem loss-shares` shows these
        grid.add_row(f"[dim]{metric}[/]", f"{score:.4g}")
    return grid


def _format_best(run: "RunView") -> str | None:
    if run.best_map is None:
        return None
    return f"{console.format_score(run.best_map)} after epoch {run.best_epoch}"


def format_pending_records(pending: "PendingRecords") -> str | None:
    """Format the backlog of each destination; None if no backlog is unusually large."""
    names = {"service": "the service", "mlflow": "MLflow"}
    backlogs = [
        f"{count} for {names[destination]}"
        for destination, count in sorted(pending.items())
        if count > _NORMAL_BACKLOG
    ]
    return ", ".join(backlogs) or None


def _build_events_table(events: "list[EventView]") -> "Table":
    from rich.markup import escape

    table = console.create_table(
        "time", "actor", "event", "from", "to", "reason", folding=("reason",)
    )
    for event in events:
        reason = " ".join(filter(None, (event.reason, event.details)))
        table.add_row(
            console.format_time(event.at),
            event.actor,
            event.kind,
            event.from_state or "",
            event.to_state or "",
            escape(reason),
        )
    return table
