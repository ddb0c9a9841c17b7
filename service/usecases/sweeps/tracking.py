"""A sweep in MLflow: a parent run with its trials' runs below it, and its best values."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from configs.protocol.names import Tag
from configs.protocol.sweep_log import SweepEntry, replay_trials
from service.domain.errors import TrackerRefused
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
"""What MLflow shows of a sweep that is over."""

log = structlog.get_logger(__name__)


@dataclass
class SweepTracker:
    """What this process has shown already; after a restart all is shown once more."""

    nested_run_ids: set[str] = field(default_factory=set)
    """Runs that are below their sweep."""

    synced: dict[str, tuple[TrackerStatus, dict[str, float]]] = field(default_factory=dict)
    """Status and best values, by sweep."""

    def sync(self, sweep: Sweep, *, ctx: Context) -> None:
        """Bring what MLflow lacks of a sweep."""
        try:
            parent = sweep.mlflow_run_id or _parent_of(sweep, ctx=ctx)
            with ctx.store.transaction() as uow:
                runs = uow.runs.of_sweep(sweep.id)
                entries = uow.sweeps.entries(sweep.id)
            for run in runs:
                self._nest(run, parent, ctx=ctx)
            self._tell(sweep, parent, entries, ctx=ctx)
        except TrackerRefused as error:
            log.warning("sweep.tracking_refused", sweep_id=sweep.id, why=str(error))
            parent, runs = sweep.mlflow_run_id or "", []
        self._settle(sweep, parent, runs, ctx=ctx)

    def _nest(self, run: Run, parent: str, *, ctx: Context) -> None:
        if run.mlflow_run_id is None or run.id in self.nested_run_ids:
            return
        try:
            ctx.tracker.set_tag(run.mlflow_run_id, Tag.PARENT, parent)
        except TrackerRefused as error:  # somebody has deleted it there
            log.warning("run.nesting_refused", run_id=run.id, why=str(error))
        self.nested_run_ids.add(run.id)

    def _tell(
        self, sweep: Sweep, parent: str, entries: Sequence[SweepEntry], *, ctx: Context
    ) -> None:
        status = FINAL_SWEEP_STATUS.get(sweep.state, "RUNNING")
        best = _best_values(sweep, entries)
        known_status, known_best = self.synced.get(sweep.id, (None, {}))
        now = ctx.clock.now()
        if changed := {key: value for key, value in best.items() if known_best.get(key) != value}:
            ctx.tracker.log_metrics(parent, changed, at=now)
        if status != known_status:
            ctx.tracker.set_status(parent, status, at=sweep.finished_at or now)
        self.synced[sweep.id] = (status, best)

    def _settle(self, sweep: Sweep, parent: str, runs: Sequence[Run], *, ctx: Context) -> None:
        """Write down what is known now; a sweep that is over is left once all runs are below it."""
        has_all = all(
            run.id in self.nested_run_ids or (run.is_over and run.mlflow_synced) for run in runs
        )
        agrees = sweep.is_over and has_all
        if not agrees and (sweep.mlflow_run_id or "") == parent:
            return
        with ctx.store.transaction() as uow:
            current = uow.sweeps.get_for_update(sweep.id)
            is_same = current.state is sweep.state
            uow.sweeps.save(
                replace(current, mlflow_run_id=parent or None, mlflow_synced=agrees and is_same)
            )
        if agrees:
            self.synced.pop(sweep.id, None)
            self.nested_run_ids -= {run.id for run in runs}


def _parent_of(sweep: Sweep, *, ctx: Context) -> str:
    """The parent run, looked for before it is made: there is one."""
    found = ctx.tracker.find_sweep(sweep.id, project=sweep.project)
    if found is not None:
        return found
    tags = {Tag.SWEEP_ID: sweep.id, **sweep.spec.tags}
    if sweep.preset is not None:
        tags[Tag.PRESET] = sweep.preset
    return ctx.tracker.make_run(sweep.name, project=sweep.project, tags=tags, at=sweep.created_at)


def _best_values(sweep: Sweep, entries: Sequence[SweepEntry]) -> dict[str, float]:
    """The best value of each objective so far, by its metric."""
    trials = replay_trials(entries)
    best = {
        objective.metric: found.best_value(objective)
        for objective in sweep.spec.objectives
        if (found := best_trial(trials.values(), objective)) is not None
    }
    values = {metric: value for metric, value in best.items() if value is not None}
    return {**values, "sweep/trials": float(len(trials))}
