"""Sweeps in MLflow: a parent run with the sweep's runs nested below it, and its best values."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from configs.protocol.names import Tag
from configs.protocol.sweep_log import SweepEntry, replay_trials
from service.domain.errors.systems import TrackerRefused
from service.domain.mlflow_views import build_sweep_view_tags
from service.domain.ports import TrackerStatus
from service.domain.runs import Run
from service.domain.sweeps import Sweep, SweepState
from service.domain.trials import best_trial
from service.usecases.context import Context

FINAL_SWEEP_STATUS: Final[dict[SweepState, TrackerStatus]] = {
    SweepState.SUCCEEDED: "FINISHED",
    SweepState.FAILED: "FAILED",
    SweepState.STOPPED: "KILLED",
}
"""MLflow status of finished sweeps."""

log = structlog.get_logger(__name__)


@dataclass
class SweepTracker:
    """Sends sweeps to MLflow, and caches what it has sent; after a restart it sends all again."""

    nested_run_ids: set[str] = field(default_factory=set)
    """Runs that are nested below their sweep in MLflow."""

    synced: dict[str, tuple[TrackerStatus, dict[str, float]]] = field(default_factory=dict)
    """Status and best values that were sent, by sweep id."""

    def sync(self, sweep: Sweep, *, ctx: Context) -> None:
        """Send new runs, best values and the status of a sweep to MLflow."""
        try:
            parent = sweep.mlflow_run_id or _prepare_parent(sweep, ctx=ctx)
            with ctx.store.snapshot() as uow:
                runs = uow.runs.of_sweep(sweep.id)
                entries = uow.sweeps.entries(sweep.id)
            for run in runs:
                self._nest(run, parent, ctx=ctx)
            self._sync_values(sweep, parent, entries, ctx=ctx)
        except TrackerRefused as error:
            log.warning("sweep.tracking_rejected", sweep_id=sweep.id, reason=str(error))
            parent, runs = sweep.mlflow_run_id or "", []
        self._save_sync_state(sweep, parent, runs, ctx=ctx)

    def _nest(self, run: Run, parent: str, *, ctx: Context) -> None:
        if run.tracking.mlflow_run_id is None or run.id in self.nested_run_ids:
            return
        try:
            ctx.tracker.set_tags(run.tracking.mlflow_run_id, {Tag.PARENT: parent})
        except TrackerRefused as error:  # the run was deleted in MLflow
            log.warning("run.nesting_rejected", run_id=run.id, reason=str(error))
        self.nested_run_ids.add(run.id)

    def _sync_values(
        self, sweep: Sweep, parent: str, entries: Sequence[SweepEntry], *, ctx: Context
    ) -> None:
        status = FINAL_SWEEP_STATUS.get(sweep.state, "RUNNING")
        best = _best_values(sweep, entries)
        synced_status, synced_best = self.synced.get(sweep.id, (None, {}))
        now = ctx.clock.now()
        if changed := {key: value for key, value in best.items() if synced_best.get(key) != value}:
            ctx.tracker.log_metrics(parent, changed, at=now)
        if status != synced_status:
            ctx.tracker.set_status(parent, status, at=sweep.finished_at or now)
        self.synced[sweep.id] = (status, best)

    def _save_sync_state(
        self, sweep: Sweep, parent: str, runs: Sequence[Run], *, ctx: Context
    ) -> None:
        """Store the parent's id; a finished sweep is synced once all of its runs are nested."""
        is_nested = all(
            run.id in self.nested_run_ids or (run.is_over and run.tracking.mlflow_synced)
            for run in runs
        )
        is_synced = sweep.is_over and is_nested
        if not is_synced and (sweep.mlflow_run_id or "") == parent:
            return
        with ctx.store.transaction() as uow:
            current = uow.sweeps.get_for_update(sweep.id)
            is_same_state = current.state is sweep.state
            uow.sweeps.save(
                replace(
                    current, mlflow_run_id=parent or None, mlflow_synced=is_synced and is_same_state
                )
            )
        if is_synced:
            self.synced.pop(sweep.id, None)
            self.nested_run_ids -= {run.id for run in runs}


def _prepare_parent(sweep: Sweep, *, ctx: Context) -> str:
    """Find or create the parent run, and add a view of the sweep's trials to the experiment."""
    parent = _find_or_create_parent(sweep, ctx=ctx)
    experiment = ctx.tracker.find_or_create_experiment(sweep.project)
    view = build_sweep_view_tags(replace(sweep, mlflow_run_id=parent))
    ctx.tracker.set_experiment_tags(experiment.id, view)
    return parent


def _find_or_create_parent(sweep: Sweep, *, ctx: Context) -> str:
    """The id of the parent run; searched for before it is created, so that there is only one."""
    parent = ctx.tracker.find_sweep(sweep.id, project=sweep.project)
    if parent is not None:
        return parent
    tags = {**sweep.spec.tags, Tag.SWEEP_ID: sweep.id}
    if sweep.preset is not None:
        tags[Tag.PRESET] = sweep.preset
    return ctx.tracker.make_run(sweep.name, project=sweep.project, tags=tags, at=sweep.created_at)


def _best_values(sweep: Sweep, entries: Sequence[SweepEntry]) -> dict[str, float]:
    """The best value of each objective so far by metric, and the number of trials."""
    trials = replay_trials(entries)
    best = {
        objective.metric: trial.best_value(objective)
        for objective in sweep.spec.objectives
        if (trial := best_trial(trials.values(), objective)) is not None
    }
    values = {metric: value for metric, value in best.items() if value is not None}
    return {**values, "sweep/trials": float(len(trials))}
