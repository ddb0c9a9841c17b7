"""Counts and sums over runs and attempts, by the database itself."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.domain.figures import Use
from service.domain.states import ACTIVE, OVER, RunState
from service.store.tables import AttemptRow, RunRow, Utc


class SqlFigures:
    """Implements `stored.FiguresOfStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def runs(self) -> dict[tuple[RunState, str], int]:
        """How many runs there are, by state and project."""
        query = select(RunRow.state, RunRow.project, func.count()).group_by(
            RunRow.state, RunRow.project
        )
        return {
            (RunState(state), project): count
            for state, project, count in self._session.execute(query)
        }

    def attempts_by_reason(self) -> dict[str | None, int]:
        """How many attempts have ended, by cause."""
        query = (
            select(AttemptRow.reason, func.count())
            .where(AttemptRow.ended_at.is_not(None))
            .group_by(AttemptRow.reason)
        )
        return {reason: int(count) for reason, count in self._session.execute(query)}

    def oldest_by_project(self, state: RunState) -> dict[str, datetime]:
        """Since when the run is in a state that is longest in it, by project."""
        since = func.min(RunRow.changed_at, type_=Utc())
        query = select(RunRow.project, since).where(RunRow.state == state).group_by(RunRow.project)
        found = self._session.execute(query)
        return {project: at for project, at in found if at is not None}

    def last_words(self) -> list[datetime]:
        """When each worker that trains was last heard."""
        heard = func.coalesce(RunRow.heard_at, RunRow.changed_at, type_=Utc())
        return list(self._session.scalars(select(heard).where(RunRow.state == RunState.RUNNING)))

    def unsettled(self) -> int:
        """Runs that are over, and not yet for the tracker."""
        query = select(func.count()).where(RunRow.state.in_(OVER), RunRow.mlflow_agrees.is_(False))
        return self._session.scalar(query) or 0

    def ended(self, since: datetime | None) -> list[Use]:
        """What attempts had that ended after a moment; none: all that ended."""
        query = _USE.where(AttemptRow.ended_at.is_not(None))
        if since is not None:
            query = query.where(AttemptRow.ended_at > since)
        return [Use(*row[:5], until=row[5]) for row in self._session.execute(query) if row[5]]

    def active(self, now: datetime) -> list[Use]:
        """What attempts have that go on."""
        query = _USE.where(AttemptRow.ended_at.is_(None), RunRow.state.in_(ACTIVE))
        return [Use(*row[:5], until=now) for row in self._session.execute(query)]


_USE = select(
    RunRow.project,
    AttemptRow.processes,
    AttemptRow.num_cpus,
    AttemptRow.num_gpus,
    AttemptRow.created_at,
    AttemptRow.ended_at,
).join(RunRow, RunRow.id == AttemptRow.run_id)
