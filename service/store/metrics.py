"""Counts and sums over runs and attempts, by the database itself."""

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
    """Implements `stored.FiguresOfStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def count_runs(self) -> dict[tuple[RunState, str], int]:
        """How many runs there are, by state and project."""
        query = select(RunRow.state, RunRow.project, func.count()).group_by(
            RunRow.state, RunRow.project
        )
        return {
            (RunState(state), project): count
            for state, project, count in self._session.execute(query)
        }

    def count_attempts_by_reason(self) -> dict[str | None, int]:
        """How many attempts have ended, by cause."""
        query = (
            select(AttemptRow.reason, func.count())
            .where(AttemptRow.ended_at.is_not(None))
            .group_by(AttemptRow.reason)
        )
        return {reason: int(count) for reason, count in self._session.execute(query)}

    def oldest_by_project(self, state: RunState) -> dict[str, datetime]:
        """Since when the run is in a state that is longest in it, by project."""
        since = func.min(RunRow.updated_at, type_=UtcDateTime())
        query = select(RunRow.project, since).where(RunRow.state == state).group_by(RunRow.project)
        found = self._session.execute(query)
        return {project: at for project, at in found if at is not None}

    def active_runs(self) -> list[ActiveRun]:
        """Runs that start or train, oldest first; without their specs, which are long."""
        query = _AT_WORK.where(RunRow.state.in_(ACTIVE_STATES)).order_by(RunRow.sequence)
        return [_at_work(row) for row in self._session.execute(query)]

    def count_untracked(self) -> int:
        """Runs that are over, and not yet for the tracker."""
        query = select(func.count()).where(
            RunRow.state.in_(FINISHED_STATES), RunRow.mlflow_synced.is_(False)
        )
        return self._session.scalar(query) or 0

    def ended_usage(self, since: datetime | None) -> list[Usage]:
        """What attempts had that ended after a moment; none: all that ended. A pack has ended when
        all of its members have.
        """
        query = _USE.where(AttemptRow.ended_at.is_not(None))
        if since is not None:
            query = query.where(AttemptRow.ended_at > since)
        uses = [_use(row, until=row.ended_at) for row in self._session.execute(query)]
        packs = {use.pack_job for use in uses if use.pack_job is not None}
        whole = self._of_packs(packs)
        go_on = {row.pack_job for row in whole if row.ended_at is None}
        members = [_use(row, until=row.ended_at) for row in whole if row.pack_job not in go_on]
        return merge_packs([use for use in uses if use.pack_job is None] + members)

    def active_usage(self, now: datetime) -> list[Usage]:
        """What attempts have that go on."""
        query = _USE.where(AttemptRow.ended_at.is_(None), RunRow.state.in_(ACTIVE_STATES))
        uses = [_use(row, until=now) for row in self._session.execute(query)]
        packs = {use.pack_job for use in uses if use.pack_job is not None}
        members = [_use(row, until=now) for row in self._of_packs(packs)]
        return merge_packs([use for use in uses if use.pack_job is None] + members)

    def _of_packs(self, jobs: Collection[str]) -> Sequence[Any]:
        if not jobs:
            return []
        return self._session.execute(_USE.where(AttemptRow.pack_job.in_(jobs))).all()


def _use(row: Any, *, until: datetime) -> Usage:
    return Usage(
        project=row.project,
        processes=row.processes,
        num_cpus=row.num_cpus,
        num_gpus=row.num_gpus,
        since=row.created_at,
        until=until,
        pack_job=row.pack_job,
    )


def _at_work(row: Any) -> ActiveRun:
    return ActiveRun(
        id=row.id,
        name=row.name,
        project=row.project,
        state=RunState(row.state),
        attempt=row.attempt,
        progress=None if row.progress is None else Progress.model_validate_json(row.progress),
        latest=row.latest,
        pending_records=row.behind,
        last_seen_at=row.last_seen_at,
    )


_AT_WORK = select(
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
_USE = select(
    RunRow.project,
    AttemptRow.processes,
    AttemptRow.num_cpus,
    AttemptRow.num_gpus,
    AttemptRow.created_at,
    AttemptRow.ended_at,
    AttemptRow.pack_job,
).join(RunRow, RunRow.id == AttemptRow.run_id)
