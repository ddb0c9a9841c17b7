"""What becomes of a pair: a baseline that is lost or back, and what MLflow is told of both."""

from collections.abc import Iterable
from dataclasses import replace

import structlog

from configs.conclusions import conclude
from configs.protocol.names import Tag, gain_metric
from configs.protocol.report import MAP_PARTS, Comparison
from service.domain.errors import TrackerRefused
from service.domain.repositories.baselines import StoredComparison
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.usecases.context import Context

log = structlog.get_logger(__name__)


def get_comparisons(runs: Iterable[Run], *, ctx: Context) -> dict[str, Comparison]:
    """What is known of some runs beside their baselines, by run."""
    with ctx.store.transaction() as uow:
        return uow.comparisons.of_runs([run.id for run in runs])


def update_baseline_status(run_id: str, *, ctx: Context) -> None:
    """Say once that a run's baseline is lost, or that it counts again."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.baseline_run_id is None:
            return
        twin = uow.runs.get(run.baseline_run_id)
        is_lost = twin.state in (RunState.FAILED, RunState.CANCELLED)
        if is_lost == run.is_baseline_lost:
            return
        kind, details = "baseline_recovered", f"Its baseline, run {twin.id}, counts again."
        if is_lost:
            kind = "baseline_lost"
            details = (
                f"Its baseline, run {twin.id}, is {twin.state}: without it there is no verdict. "
                f"`tandem retry {twin.id}` has it tried again."
            )
        uow.runs.save(replace(run, is_baseline_lost=is_lost))
        uow.events.add(Event(run.id, now, "service", kind, details))


def sync_comparison(kept: StoredComparison, *, ctx: Context) -> None:
    """Bring a comparison to MLflow; told again, it shows the same numbers at the same time."""
    with ctx.store.transaction() as uow:
        run = uow.runs.get(kept.run_id)
    mlflow_run_id = run.mlflow_run_id or ctx.tracker.find(run.id, project=run.project)
    if mlflow_run_id is None and not run.mlflow_synced:
        return  # its records are on their way there: they make its MLflow run
    if mlflow_run_id is not None:
        try:
            ctx.tracker.log_metrics(mlflow_run_id, comparison_metrics(kept.comparison), at=kept.at)
            for tag, value in comparison_tags(kept.comparison).items():
                ctx.tracker.set_tag(mlflow_run_id, tag, value)
        except TrackerRefused as error:
            log.warning("comparison.refused", run_id=run.id, why=str(error))
    with ctx.store.transaction() as uow:
        uow.comparisons.record_synced(kept)


def comparison_metrics(comparison: Comparison) -> dict[str, float]:
    """Every difference as a metric."""
    return {gain_metric(part): found.difference for part, found in comparison.parts.items()}


def comparison_tags(comparison: Comparison) -> dict[str, str]:
    """The verdict, the sentence, what it was compared with, and how sure it is."""
    tags: dict[str, str] = {
        Tag.VERDICT: comparison.verdict,
        Tag.SEED_SPREAD: comparison.seed_spread,
        Tag.BASELINE_RUN_ID: ",".join(comparison.baselines),
    }
    decides = comparison.parts.get(MAP_PARTS[0])
    if decides is not None:
        tags[Tag.CONCLUSION] = conclude(comparison)
    if decides is not None and decides.low is not None and decides.high is not None:
        tags |= {Tag.GAIN_LOW: f"{decides.low:.6g}", Tag.GAIN_HIGH: f"{decides.high:.6g}"}
    return tags
