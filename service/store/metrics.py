"""Counts and sums over runs and attempts, from the totals and from the rows that are not over."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from configs.protocol.records import Progress
from service.domain.metrics.runs import ActiveRun
from service.domain.metrics.series import ResourceTotals, Usage, merge_packs
from service.domain.states import ACTIVE_STATES, FINISHED_STATES, RunState
from service.store.tables import (
    AttemptRow,
    AttemptTotalRow,
    RunCountRow,
    RunRow,
    UtcDateTime,
)
from service.store.totals import select_usages, usage_from_row


class SqlMetricsQueries:
    """Implements `MetricsQueries`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def count_runs(self) -> dict[tuple[RunState, str], int]:
        query = select(RunCountRow).where(RunCountRow.runs > 0)
        return {
            (RunState(row.state), row.project): row.runs for row in self._session.scalars(query)
        }

    def list_projects(self) -> list[str]:
        query = select(RunCountRow.project).distinct().order_by(RunCountRow.project)
        return list(self._session.scalars(query))

    def count_attempts_by_reason(self) -> dict[str | None, int]:
        attempts = func.sum(AttemptTotalRow.attempts)
        query = select(AttemptTotalRow.reason, attempts).group_by(AttemptTotalRow.reason)
        return {reason or None: int(count) for reason, count in self._session.execute(query)}

    def ended_totals(self) -> dict[str, ResourceTotals]:
        query = select(
            AttemptTotalRow.project,
            func.sum(AttemptTotalRow.cpu_s),
            func.sum(AttemptTotalRow.gpu_s),
        ).group_by(AttemptTotalRow.project)
        return {
            project: ResourceTotals(cpu_s, gpu_s)
            for project, cpu_s, gpu_s in self._session.execute(query)
        }

    def oldest_by_project(self, state: RunState) -> dict[str, datetime]:
        since = func.min(RunRow.updated_at, type_=UtcDateTime())
        # Written as a constant, or SQLite would not use the index of queued runs.
        is_in_state = RunRow.state == literal_column(f"'{state}'")
        query = select(RunRow.project, since).where(is_in_state).group_by(RunRow.project)
        rows = self._session.execute(query)
        return {project: at for project, at in rows if at is not None}

    def active_runs(self) -> list[ActiveRun]:
        query = _ACTIVE_RUNS.where(RunRow.state.in_(ACTIVE_STATES)).order_by(RunRow.sequence)
        return [_active_run_from_row(row) for row in self._session.execute(query)]

    def count_untracked(self) -> int:
        query = select(func.count()).where(
            RunRow.mlflow_synced.is_(False), (RunRow.state + "").in_(FINISHED_STATES)
        )
        return self._session.scalar(query) or 0

    def active_usage(self, now: datetime) -> list[Usage]:
        query = select_usages().where(
            AttemptRow.ended_at.is_(None), RunRow.state.in_(ACTIVE_STATES)
        )
        usages = [usage_from_row(row, until=now) for row in self._session.execute(query)]
        packs = {usage.pack_job for usage in usages if usage.pack_job is not None}
        of_packs = select_usages().where(AttemptRow.pack_job.in_(packs))
        members = [usage_from_row(row, until=now) for row in self._session.execute(of_packs)]
        return merge_packs([usage for usage in usages if usage.pack_job is None] + members)


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
