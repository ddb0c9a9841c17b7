"""Deletes what the policy no longer keeps, in small steps that may be interrupted anywhere."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog

from configs.protocol.sweep_log import replay_trials
from service.domain.ids import split_ids
from service.domain.ports import Job
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.retention import (
    FinishedRun,
    Pruned,
    PrunedKind,
    RunPart,
    RunRetention,
    RunRows,
    is_due,
)
from service.domain.states import RunState
from service.domain.trials import best_trial
from service.usecases.attempts.records import list_finished_attempts
from service.usecases.context import Context

_RUN_BATCH = 200
_ROW_BATCH = 5000
_JOB_BATCH = 50

_ATTEMPT_JOB = re.compile(r"(r[0-9a-z]{12}-a[0-9]+|p[0-9a-z]{12})(-cleanup|-flush[0-9]+)?")
_DRIVER_JOB = re.compile(r"(s[0-9a-z]{12})-d([0-9]+)")

log = structlog.get_logger(__name__)


def prune(ctx: Context, *, is_dry_run: bool = False) -> Iterator[Pruned]:
    """Delete what is older than the policy says; yields after each small step.

    A dry run deletes nothing, and yields what would be deleted. `ClusterUnreachable` is raised at
    the end, after everything but Ray's jobs.
    """
    return _Pruning(ctx, is_dry_run=is_dry_run).iter_steps()


class _Pruning:
    """One pass over everything that may be deleted."""

    def __init__(self, ctx: Context, *, is_dry_run: bool) -> None:
        self._ctx = ctx
        self._policy = ctx.policy.retention
        self._is_dry_run = is_dry_run
        self._now = ctx.clock.now()
        self._best_trials: dict[str, int | None] = {}

    def iter_steps(self) -> Iterator[Pruned]:
        if not self._is_dry_run:
            yield Pruned(PrunedKind.LEFTOVERS, self._ctx.disposal.finish())
        after: tuple[datetime, str] | None = None
        while runs := self._list_finished_runs(after):
            yield from self._prune_runs(runs)
            after = (runs[-1].finished_at, runs[-1].id)
        yield from self._prune_unowned_rows()
        yield from self._prune_jobs()

    def _list_finished_runs(self, after: tuple[datetime, str] | None) -> list[FinishedRun]:
        days = self._policy.min_run_days
        if days is None:
            return []
        before = self._now - timedelta(days=days)
        with self._ctx.store.snapshot() as uow:
            return uow.retention.finished_runs(before=before, after=after, limit=_RUN_BATCH)

    def _prune_runs(self, runs: list[FinishedRun]) -> Iterator[Pruned]:
        def select_due(field: str) -> list[str]:
            return [run.id for run in runs if self._is_run_due(run, field)]

        key_days = self._policy.idempotency_keys_days
        with_old_keys = [run.id for run in runs if is_due(key_days, run.finished_at, now=self._now)]
        yield from self._prune_rows(PrunedKind.IDEMPOTENCY_KEYS, with_old_keys)
        yield from self._prune_rows(PrunedKind.EVENTS, select_due("events_days"))
        yield from self._prune_rows(PrunedKind.METRICS, select_due("metrics_days"))
        yield from self._prune_files(PrunedKind.LOGS, "logs", select_due("logs_days"))
        delivered = {run.id for run in runs if _is_delivered(run)}
        spools = [run_id for run_id in select_due("spools_days") if run_id in delivered]
        yield from self._prune_files(PrunedKind.SPOOLS, "spool", spools)
        yield from self._prune_unreferenced(
            PrunedKind.CHECKPOINTS, "checkpoints", select_due("checkpoints_days")
        )
        yield from self._prune_unreferenced(
            PrunedKind.FOLDERS, "folder", select_due("folders_days")
        )

    def _is_run_due(self, run: FinishedRun, field: str) -> bool:
        policy: RunRetention = self._policy.of_project(run.project)
        return is_due(getattr(policy, field), run.finished_at, now=self._now)

    def _prune_rows(self, kind: PrunedKind, run_ids: list[str]) -> Iterator[Pruned]:
        rows: RunRows = kind.value  # type: ignore[assignment]
        while run_ids:
            with self._ctx.store.transaction() as uow:
                if self._is_dry_run:
                    number = uow.retention.count(rows, run_ids)
                else:
                    number = uow.retention.delete(rows, run_ids, limit=_ROW_BATCH)
                    if number and kind is PrunedKind.METRICS:
                        uow.retention.mark_files_deleted(run_ids, at=self._now)
            if number:
                yield Pruned(kind, number)
            if self._is_dry_run or number < _ROW_BATCH:
                return

    def _prune_unreferenced(
        self, kind: PrunedKind, part: RunPart, run_ids: list[str]
    ) -> Iterator[Pruned]:
        """Delete files of those runs that no other one needs."""
        run_ids = [
            run_id for run_id in run_ids if self._ctx.disposal.measure(run_id, part) is not None
        ]
        if not run_ids:
            return
        referenced = self._find_referenced(run_ids)
        if referenced:
            yield Pruned(kind, 0, num_protected=len(referenced))
        yield from self._prune_files(
            kind, part, [run_id for run_id in run_ids if run_id not in referenced]
        )

    def _find_referenced(self, run_ids: list[str]) -> set[str]:
        with self._ctx.store.snapshot() as uow:
            referenced = uow.retention.find_referenced(run_ids)
            trials = uow.retention.sweeps_of(run_ids)
            sweep_ids = {sweep_id for sweep_id, _ in trials.values()}
            for sweep_id in sweep_ids - self._best_trials.keys():
                self._best_trials[sweep_id] = _find_best_trial(uow, sweep_id)
        return referenced | {
            run_id
            for run_id, (sweep_id, trial) in trials.items()
            if self._best_trials[sweep_id] == trial
        }

    def _prune_files(self, kind: PrunedKind, part: RunPart, run_ids: list[str]) -> Iterator[Pruned]:
        for run_id in run_ids:
            size_bytes = self._ctx.disposal.measure(run_id, part)
            if size_bytes is None:
                continue
            if not self._is_dry_run:
                if part != "logs":
                    # Before the deletion, so that no retry starts from what is left of it.
                    with self._ctx.store.transaction() as uow:
                        uow.retention.mark_files_deleted([run_id], at=self._now)
                size_bytes = self._ctx.disposal.delete(run_id, part)
            if size_bytes is not None:
                yield Pruned(kind, 1, size_bytes)

    def _prune_unowned_rows(self) -> Iterator[Pruned]:
        """Delete rows that belong to no run."""
        if (before := self._cutoff(self._policy.idempotency_keys_days)) is not None:
            with self._ctx.store.transaction() as uow:
                number = uow.retention.prune_sweep_keys(before, is_dry_run=self._is_dry_run)
            yield Pruned(PrunedKind.IDEMPOTENCY_KEYS, number)
        if (before := self._cutoff(self._policy.tokens_days)) is not None:
            with self._ctx.store.transaction() as uow:
                number = uow.retention.prune_tokens(before, is_dry_run=self._is_dry_run)
            yield Pruned(PrunedKind.TOKENS, number)
        if (before := self._cutoff(self._policy.audit_days)) is not None:
            limit = None if self._is_dry_run else _ROW_BATCH
            number = _ROW_BATCH
            while number == _ROW_BATCH:
                with self._ctx.store.transaction() as uow:
                    number = uow.retention.prune_audit(before, limit=limit)
                yield Pruned(PrunedKind.AUDIT, number)
                if self._is_dry_run:
                    return

    def _cutoff(self, days: float | None) -> datetime | None:
        return None if days is None else self._now - timedelta(days=days)

    def _prune_jobs(self) -> Iterator[Pruned]:
        """Delete finished jobs of concluded attempts and of earlier drivers from Ray's table."""
        days = self._policy.ray_jobs_days
        if days is None:
            return
        old = [
            name
            for name, job in self._ctx.cluster.jobs().items()
            if _has_ended_before(job, self._now - timedelta(days=days))
        ]
        for batch in split_ids(old, size=_JOB_BATCH):
            concluded = [*_list_concluded_attempts(batch, self._ctx), *self._list_drivers(batch)]
            if not self._is_dry_run:
                for name in concluded:
                    self._ctx.cluster.delete(name)
            yield Pruned(PrunedKind.RAY_JOBS, len(concluded))

    def _list_drivers(self, names: list[str]) -> Iterator[str]:
        """Those of the jobs that are drivers, but not the current one of an unfinished sweep."""
        matches = {name: match for name in names if (match := _DRIVER_JOB.fullmatch(name))}
        for name, match in matches.items():
            with self._ctx.store.transaction() as uow:
                sweep = uow.sweeps.find(match[1])
            if sweep is not None and (sweep.is_over or sweep.driver_job != name):
                yield name


def _find_best_trial(uow: UnitOfWork, sweep_id: str) -> int | None:
    sweep = uow.sweeps.get(sweep_id)
    trials = replay_trials(uow.sweeps.entries(sweep_id))
    best = best_trial(trials.values(), sweep.spec.objectives[0])
    return None if best is None else best.number


def _is_delivered(run: FinishedRun) -> bool:
    """Whether nobody reads the spool of a run again: it cannot be retried, and MLflow has all."""
    return run.state is RunState.SUCCEEDED and run.is_synced


def _has_ended_before(job: Job, moment: datetime) -> bool:
    return job.is_over and job.ended_at is not None and job.ended_at < moment


def _list_concluded_attempts(names: list[str], ctx: Context) -> list[str]:
    """Those of the jobs that are of attempts or packs, or helped them, and which have ended."""
    attempts = {name: match[1] for name in names if (match := _ATTEMPT_JOB.fullmatch(name))}
    finished = set(list_finished_attempts(sorted(set(attempts.values())), ctx=ctx))
    return [name for name, attempt in attempts.items() if attempt in finished]
