"""Counts and sums over runs and attempts, computed by the database."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from configs.protocol.records import Progress
from service.domain.metrics.runs import ActiveRun
from service.domain.metrics.series import Usage, merge_packs
from service.domain.states import ACTIVE_STATES, FINISHED_STATES, RunState
from service.store.tables import AttemptRow, RunRow, UtcDateTime


class SqlMetricsQueries:
    """Implements `MetricsQueries`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def count_runs(self) -> dict[tuple[RunState, str], int]:
        query = select(RunRow.state, RunRow.project, func.count()).group_by(
            RunRow.state, RunRow.project
        )
        return {
            (RunState(state), project): count
            for state, project, count in self._session.execute(query)
        }

    def count_attempts_by_reason(self) -> dict[str | None, int]:
        query = (
            select(AttemptRow.reason, func.count())
            .where(AttemptRow.ended_at.is_not(None))
            .group_by(AttemptRow.reason)
        )
        return {reason: int(count) for reason, count in self._session.execute(query)}

    def oldest_by_project(self, state: RunState) -> dict[str, datetime]:
        since = func.min(RunRow.updated_at, type_=UtcDateTime())
        query = select(RunRow.project, since).where(RunRow.state == state).group_by(RunRow.project)
        rows = self._session.execute(query)
        return {project: at for project, at in rows if at is not None}

    def active_runs(self) -> list[ActiveRun]:
        query = _ACTIVE_RUNS.where(RunRow.state.in_(ACTIVE_STATES)).order_by(RunRow.sequence)
        return [_active_run_from_row(row) for row in self._session.execute(query)]

    def count_untracked(self) -> int:
        query = select(func.count()).where(
            RunRow.state.in_(FINISHED_STATES), RunRow.mlflow_synced.is_(False)
        )
        return self._session.scalar(query) or 0

    def ended_usage(self, since: datetime | None) -> list[Usage]:
        query = _USAGES.where(AttemptRow.ended_at.is_not(None))
        if since is not None:
            query = query.where(AttemptRow.ended_at > since)
        usages = [_usage_from_row(row, until=row.ended_at) for row in self._session.execute(query)]
        packs = {usage.pack_job for usage in usages if usage.pack_job is not None}
        rows = self._of_packs(packs)
        running = {row.pack_job for row in rows if row.ended_at is None}
        members = [
            _usage_from_row(row, until=row.ended_at) for row in rows if row.pack_job not in running
        ]
        return merge_packs([usage for usage in usages if usage.pack_job is None] + members)

    def active_usage(self, now: datetime) -> list[Usage]:
        query = _USAGES.where(AttemptRow.ended_at.is_(None), RunRow.state.in_(ACTIVE_STATES))
        usages = [_usage_from_row(row, until=now) for row in self._session.execute(query)]
        packs = {usage.pack_job for usage in usages if usage.pack_job is not None}
        members = [_usage_from_row(row, until=now) for row in self._of_packs(packs)]
        return merge_packs([usage for usage in usages if usage.pack_job is None] + members)

    def _of_packs(self, jobs: Collection[str]) -> Sequence[Any]:
        if not jobs:
            return []
        return self._session.execute(_USAGES.where(AttemptRow.pack_job.in_(jobs))).all()


def _usage_from_row(row: Any, *, until: datetime) -> Usage:
    return Usage(
        project=row.project,
        processes=row.processes,
        num_cpus=row.num_cpus,
        num_gpus=row.num_gpus,
        since=row.created_at,
        until=until,
        pack_job=row.pack_job,
    )


def _active_run_from_row(row: Any) -> ActiveRun:
    return ActiveRun(
        id=row.id,
        name=row.name,
        project=row.project,
        state=RunState(row.state),
        attempt=row.attempt,
        progress=None if row.progress is None else Progress.model_validate_json(row.progress),
        latest=row.latest,
        pending_records=row.pending_records,
        last_seen_at=row.last_seen_at,
    )


_ACTIVE_RUNS = select(
    RunRow.id,
    RunRow.name,
    RunRow.project,
    RunRow.state,
    RunRow.attempt,
    RunRow.progress,
    RunRow.latest,
    RunRow.pending_records,
    func.coalesce(RunRow.last_seen_at, RunRow.updated_at, type_=UtcDateTime()).label(
        "last_seen_at"
    ),
)
_USAGES = select(
    RunRow.project,
    AttemptRow.processes,
    AttemptRow.num_cpus,
    AttemptRow.num_gpus,
    AttemptRow.created_at,
    AttemptRow.ended_at,
    AttemptRow.pack_job,
).join(RunRow, RunRow.id == AttemptRow.run_id)
