"""Status of baselines, and comparisons as metrics and tags in MLflow."""

from dataclasses import replace

import structlog

from configs.conclusions import conclude
from configs.metric_keys import gain_metric
from configs.protocol.comparison import MAP_PARTS, Comparison
from configs.protocol.names import Tag
from service.domain.errors.systems import TrackerRefused
from service.domain.repositories.baselines import StoredComparison
from service.domain.runs import Event
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.usecases.context import Context
from service.usecases.tracking import describe_tracked_run

log = structlog.get_logger(__name__)


def update_baseline_status(run_id: str, *, ctx: Context) -> None:
    """Store whether a run's baseline failed or was cancelled; a change adds one event."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.lineage.baseline_run_id is None:
            return
        baseline = uow.runs.get(run.lineage.baseline_run_id)
        is_lost = baseline.state in (RunState.FAILED, RunState.CANCELLED)
        if is_lost == run.lineage.is_baseline_lost:
            return
        kind, details = (
            EventKind.BASELINE_RECOVERED,
            f"Its baseline, run {baseline.id}, is {baseline.state} again.",
        )
        if is_lost:
            kind = EventKind.BASELINE_LOST
            details = (
                f"Its baseline, run {baseline.id}, is {baseline.state}: without it there is no "
                f"verdict. `tandem retry {baseline.id}` retries it."
            )
        uow.runs.save(replace(run, lineage=replace(run.lineage, is_baseline_lost=is_lost)))
        uow.events.add(Event(run.id, now, "service", kind, details))


def sync_comparison(stored: StoredComparison, *, ctx: Context) -> None:
    """Send a comparison to MLflow; sending it again has no further effect."""
    with ctx.store.snapshot() as uow:
        run = uow.runs.get(stored.run_id)
    mlflow_run_id = run.tracking.mlflow_run_id or ctx.tracker.find(run.id, project=run.project)
    if mlflow_run_id is None and not run.tracking.mlflow_synced:
        return  # its MLflow run is created when its pending records are shipped
    if mlflow_run_id is not None:
        try:
            ctx.tracker.log_metrics(
                mlflow_run_id, comparison_metrics(stored.comparison), at=stored.at
            )
            ctx.tracker.set_tags(mlflow_run_id, comparison_tags(stored.comparison))
            describe_tracked_run(run, mlflow_run_id, ctx=ctx)
        except TrackerRefused as error:
            log.warning("comparison.rejected", run_id=run.id, reason=str(error))
    with ctx.store.transaction() as uow:
        uow.comparisons.record_synced(stored)


def comparison_metrics(comparison: Comparison) -> dict[str, float]:
    """The difference of every mAP part, by metric name."""
    return {gain_metric(part): gain.difference for part, gain in comparison.parts.items()}


def comparison_tags(comparison: Comparison) -> dict[str, str]:
    """Verdict, conclusion, baselines and confidence interval as MLflow tags."""
    tags: dict[str, str] = {
        Tag.VERDICT: comparison.verdict,
        Tag.SEED_SPREAD: comparison.seed_spread,
        Tag.BASELINE_RUN_ID: ",".join(comparison.baselines),
    }
    main_part = comparison.parts.get(MAP_PARTS[0])
    if main_part is not None:
        tags[Tag.CONCLUSION] = conclude(comparison)
    if main_part is not None and main_part.low is not None and main_part.high is not None:
        tags |= {Tag.GAIN_LOW: f"{main_part.low:.6g}", Tag.GAIN_HIGH: f"{main_part.high:.6g}"}
    return tags
