"""`tandem run`, `runs`, `show` and `logs`."""

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

_LISTED = 50
_LAST_LINES = 50
_ON_THEIR_WAY = 20
"""Records that a place may lack without being behind."""

RunPrefix = Annotated[str, typer.Argument(metavar="ID", help="The id, or enough of its beginning.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (run, runs, show, logs):
        app.command()(command)


def run(
    preset: Annotated[str, typer.Argument(help="What to train; `tandem presets` lists them.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change, as in schedule.epochs=3."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the run.")] = None,
    project: Annotated[str | None, typer.Option(help="Whose share of the cluster.")] = None,
    priority: Annotated[int, typer.Option(help="The larger goes first.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what it would be.")] = False,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Do not compare it with the student alone.")
    ] = False,
    pack: Annotated[
        bool,
        typer.Option("--pack", help="Train it and its new baseline side by side in one process."),
    ] = False,
) -> None:
    """Launch a run from a preset; a taught one is compared with the same student alone."""
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
            _plan(client, request)
            return
        launched = client.launch(request)
        console.output().print(f"Launched [bold]{launched.id}[/] ({launched.preset})")
        if launched.baseline_run_id:
            console.output().print(
                f"It is compared with the student alone: {launched.baseline_run_id}."
            )
        if watch:
            ended = watch_run(client, launched.id)
            if ended is not None:
                score = console.format_score(ended.best_map)
                console.output().print(f"mAP {score}  {ended.mlflow_url or ''}")
            return
    console.output().print(f"`tandem logs -f {launched.id}` follows it, `tandem runs` lists all.")


def runs(
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Not only the last {_LISTED}.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    with open_client() as client:
        found = list_all_runs(client, state=state) if everything else _last_runs(client, state)
    if as_json:
        console.print_json([item.model_dump(mode="json") for item in found])
        return
    if not found:
        console.output().print("No runs yet; `tandem run quick/instant` launches one.")
        return
    console.output().print(build_runs_table(found))


def show(run_id: RunPrefix, as_json: AsJson = False) -> None:
    """Show a run: its numbers, what happened to it, and the last lines of one that ended badly."""
    from service.api.schemas.runs import LogQuery

    with open_client() as client:
        found = client.run(resolve_run_id(client, run_id))
        events = client.events(found.id)
        has_ended_badly = found.state == "failed" or (found.reason is not None)
        noise = client.noise(found.id).noise if found.task == "train" else None
        query = LogQuery(tail=_LAST_LINES)
        last = client.logs(found.id, query) if has_ended_badly and not as_json else ""
    if as_json:
        document = found.model_dump(mode="json")
        document["events"] = [event.model_dump(mode="json") for event in events]
        console.print_json(document)
        return
    from rich.text import Text

    out = console.output()
    out.print(_facts(found, noise))
    out.print(_events_table(events))
    for line in last.splitlines():
        out.print(Text(f"  │ {line}", style="dim"), soft_wrap=True)


def logs(
    run_id: RunPrefix,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the run ends.")] = False,
    tail: Annotated[int | None, typer.Option(help="Only so many last lines.", min=1)] = None,
    search: Annotated[str | None, typer.Option(help="Only lines with this text.")] = None,
    attempt: Annotated[int | None, typer.Option(help="Only of this attempt.", min=1)] = None,
) -> None:
    """Print the log of a run."""
    from service.api.schemas.runs import LogQuery

    with open_client() as client:
        found = resolve_run_id(client, run_id)
        if not follow:
            query = LogQuery(tail=tail, search=search, attempt=attempt)
            typer.echo(client.logs(found, query), nl=False)
            return
        try:
            for text in client.follow_logs(found):
                typer.echo(text, nl=False)
        except KeyboardInterrupt:
            console.error_output().print(f"\nThe run goes on; `tandem cancel {found}` ends it.")


def build_runs_table(found: "list[RunView]") -> "Table":
    """Runs, one a line."""
    from rich.markup import escape

    shown = console.table(
        "id", "name", "state", "epoch", "mAP", "took", "launched", folding=("name",)
    )
    for item in found:
        progress = item.progress
        shown.add_row(
            item.id,
            escape(item.name),
            console.format_state(item.state),
            f"{progress.epoch}/{progress.epochs}" if progress else "-",
            console.format_score(item.best_map),
            console.format_duration(run_duration_s(item)),
            console.format_time(item.created_at)[:-3],
        )
    return shown


def run_duration_s(run: "RunView") -> float | None:
    """How long a run trained, or has trained so far."""
    from datetime import UTC, datetime

    if run.started_at is None:
        return None
    return ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds()


def _last_runs(client: "TandemClient", state: RunState | None) -> "list[RunView]":
    from service.api.schemas.runs import RunQuery

    return list(client.runs(RunQuery(state=state, limit=_LISTED)).items)


def watch_run(client: "TandemClient", run_id: str) -> "RunView | None":
    """The run when it has ended well; none if nobody waits any more. A bad end is refused."""
    from service.cli.progress.runs import watch_runs

    try:
        (ended,) = watch_runs(client, {"run": run_id}).values()
    except KeyboardInterrupt:
        console.output().print(
            f"The run goes on. `tandem logs -f {run_id}` follows it, "
            f"`tandem cancel {run_id}` ends it."
        )
        return None
    if ended.state != "succeeded":
        cause = ended.message or ended.reason or "no cause is known"
        log = f"Its log: tandem logs {ended.id}"
        raise CliError(
            ErrorMessage(f"{ended.id} {ended.state}: {cause}", advice=(ended.advice or "", log))
        )
    return ended


def _plan(client: "TandemClient", request: "RunRequest") -> None:
    import yaml
    from rich.markup import escape

    from service.cli.comparisons import format_planned_baseline

    planned: PlanView = client.plan(request)
    typer.echo(yaml.safe_dump(planned.spec.model_dump(mode="json"), sort_keys=False), nl=False)
    out = console.output()
    for finding in planned.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        out.print(
            f"[{colour}]{finding.severity}[/] {finding.field or 'spec'}: {escape(finding.message)}"
        )
    if planned.waiting_for:
        out.print(f"It would wait for {planned.waiting_for}.")
    for line in format_planned_baseline(planned):
        out.print(line)
    if any(finding.severity == "error" for finding in planned.findings):
        raise typer.Exit(1)


def _facts(found: "RunView", noise: "NoiseFloor | None") -> "Table":
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
    progress = found.progress
    facts = {
        "run": f"[bold]{found.id}[/] {escape(found.name)}",
        "preset": found.preset,
        "state": console.format_state(found.state),
        "project": found.project if found.project != "default" else None,
        "priority": str(found.priority) if found.priority else None,
        "in the queue": f"place {found.queue_position}" if found.queue_position else None,
        "waits for": escape(found.waiting_for or ""),
        "reason": found.reason,
        "message": escape(found.message),
        "advice": found.advice,
        "attempt": str(found.attempt),
        "epoch": f"{progress.epoch} of {progress.epochs} ({progress.phase})" if progress else None,
        "best mAP": _best(found),
        "teacher's mAP": console.format_score(found.teacher_map) if found.teacher_map else None,
        "baseline": format_baseline(found),
        "verdict": None if found.comparison is None else format_verdict(found.comparison),
        "gain by seed": None if found.comparison is None else format_gains(found.comparison),
        "seeds alone": None if noise is None else format_noise_floor(noise),
        "report": found.report_run_id,
        "launched": console.format_time(found.created_at),
        "took": console.format_duration(run_duration_s(found)) if found.started_at else None,
        "MLflow": found.mlflow_url,
        "behind": format_pending_records(found.pending_records),
    }
    for label, value in facts.items():
        if value:
            grid.add_row(f"[dim]{label}[/]", value)
    for metric, number in sorted(found.latest.items()):
        if metric.startswith("loss_share/"):
            continue  # `tandem budget` shows these
        grid.add_row(f"[dim]{metric}[/]", f"{number:.4g}")
    return grid


def _best(found: "RunView") -> str | None:
    if found.best_map is None:
        return None
    return f"{console.format_score(found.best_map)} after epoch {found.best_epoch}"


def format_pending_records(behind: "PendingRecords") -> str | None:
    """Who lacks records, and how many; none: no more than are always on their way."""
    names = {"service": "the service", "mlflow": "MLflow"}
    lacking = [
        f"{names[place]} lacks {count} records"
        for place, count in sorted(behind.items())
        if count > _ON_THEIR_WAY
    ]
    return " and ".join(lacking) or None


def _events_table(events: "list[EventView]") -> "Table":
    from rich.markup import escape

    shown = console.table("at", "who", "what", "from", "to", "why", folding=("why",))
    for event in events:
        why = " ".join(filter(None, (event.reason, event.details)))
        shown.add_row(
            console.format_time(event.at),
            event.actor,
            event.kind,
            event.from_state or "",
            event.to_state or "",
            escape(why),
        )
    return shown
