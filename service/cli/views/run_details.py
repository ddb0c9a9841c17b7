"""What `tandem show` prints about a run: its fields, its metrics and its events."""

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.markup import escape
from rich.text import Text

from configs.protocol.comparison import NoiseFloor
from configs.protocol.records import PendingRecords
from service.api.schemas.run_details import EventView, RunDetails
from service.api.schemas.run_lists import RunSummaryView
from service.cli import console
from service.cli.comparisons import (
    format_baseline,
    format_gains,
    format_noise_floor,
    format_verdict,
)
from service.cli.console.tables import OutputFields, OutputTable
from service.cli.views.metrics import iter_metrics

_NORMAL_BACKLOG = 20
"""A backlog up to this size is normal while a run trains, and is not shown."""


def build_details(run: RunDetails, noise: NoiseFloor | None) -> OutputFields:
    """Build the list of a run's fields, followed by its newest metrics."""
    comparison = run.comparison
    fields: dict[str, str | Text | None] = {
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
        "epoch": _format_progress(run),
        "best mAP": format_best_map(run),
        "teacher's mAP": console.format_score(run.teacher_map) if run.teacher_map else None,
        "baseline": format_baseline(run),
        "verdict": None if comparison is None else format_verdict(comparison),
        "gain by seed": None if comparison is None else format_gains(comparison),
        "noise floor": None if noise is None else format_noise_floor(noise),
        "report": run.report_run_id,
        "launched": console.format_time(run.created_at),
        "duration": console.format_duration(run_duration_s(run)) if run.started_at else None,
        "MLflow": run.mlflow_url,
        "mAP in MLflow": run.compare_url,
        "pending records": format_pending_records(run.pending_records),
    }
    return console.create_fields(fields | dict(iter_metrics(run.latest)))


def build_events_table(events: Iterable[EventView]) -> OutputTable:
    """Build a table with a row per event."""
    table = console.create_table(
        "time", "actor", "event", "from", "to", "reason", folding=("reason",)
    )
    for event in events:
        reason = " ".join(filter(None, (event.reason, event.details)))
        table.add_row(
            console.format_time(event.at),
            escape(event.actor),
            event.kind,
            event.from_state or "",
            event.to_state or "",
            escape(reason),
        )
    return table


def run_duration_s(run: RunDetails | RunSummaryView) -> float | None:
    """Seconds since the run started, up to its end; None if it has not started."""
    if run.started_at is None:
        return None
    return ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds()


def format_best_map(run: RunDetails) -> str | None:
    """Format the best mAP and its epoch; None before the first evaluation."""
    if run.best_map is None:
        return None
    epoch = f" after epoch {run.best_epoch}" if run.best_epoch else ""
    return f"{console.format_score(run.best_map)}{epoch}"


def format_pending_records(pending: PendingRecords) -> str | None:
    """Format the backlog of each destination; None if no backlog is unusually large."""
    names = {"service": "the service", "mlflow": "MLflow"}
    backlogs = [
        f"{count} for {names[destination]}"
        for destination, count in sorted(pending.items())
        if count > _NORMAL_BACKLOG
    ]
    return ", ".join(backlogs) or None


def _format_progress(run: RunDetails) -> str | None:
    progress = run.progress
    if progress is None or not progress.epochs:
        return None
    parts = [f"{progress.epoch} of {progress.epochs}", f"step {progress.step} of {progress.steps}"]
    if run.state == "running":
        parts.append(progress.phase)
        if progress.eta_s is not None:
            parts.append(f"{console.format_duration(progress.eta_s)} left")
    return ", ".join(parts)
