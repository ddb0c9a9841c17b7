"""Events of runs in the database."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import bindparam, func, insert, select
from sqlalchemy.orm import Session

from configs.protocol.failure import FailureReason
from service.domain.repositories.runs import ProjectEvent
from service.domain.runs import Event
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.store.tables import EventRow, RunRow, get_table

_PROJECT = select(RunRow.project).where(RunRow.id == bindparam("of_run")).scalar_subquery()
_INSERT = insert(get_table(EventRow)).values(project=func.coalesce(_PROJECT, ""))


class SqlEvents:
    """Implements `Events`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, *events: Event) -> None:
        # The ids are not read back, so that all rows are one statement.
        if events:
            self._session.execute(_INSERT, [_row_values(event) for event in events])

    def of_run(self, run_id: str) -> list[Event]:
        query = select(EventRow).where(EventRow.run_id == run_id).order_by(EventRow.id)
        return [_event_from_row(row) for row in self._session.scalars(query)]

    def after(
        self, last: int, *, run_id: str | None, project: str | None, limit: int
    ) -> list[Event]:
        query = select(EventRow).where(EventRow.id > last).order_by(EventRow.id).limit(limit)
        if run_id is not None:
            query = query.where(EventRow.run_id == run_id)
        if project is not None:
            query = query.where(EventRow.project == project)
        return [_event_from_row(row) for row in self._session.scalars(query)]

    def new(self, last: int, *, skipped: Collection[int], limit: int) -> list[ProjectEvent]:
        query = select(EventRow, RunRow.project).join(RunRow, RunRow.id == EventRow.run_id)
        late = query.where(EventRow.id.in_(skipped)).order_by(EventRow.id)
        newer = query.where(EventRow.id > last).order_by(EventRow.id).limit(limit)
        return [
            ProjectEvent(_event_from_row(row), project)
            for statement in (late, newer)
            for row, project in self._session.execute(statement)
        ]

    def ids_between(self, first: int, last: int) -> list[int]:
        return list(
            self._session.scalars(select(EventRow.id).where(EventRow.id.between(first, last)))
        )

    def last_transitions(self, run_ids: Collection[str]) -> dict[str, Event]:
        newest = (
            select(func.max(EventRow.id))
            .where(EventRow.run_id.in_(run_ids), EventRow.to_state.is_not(None))
            .group_by(EventRow.run_id)
        )
        rows = self._session.scalars(select(EventRow).where(EventRow.id.in_(newest)))
        return {row.run_id: _event_from_row(row) for row in rows}

    def last_id(self) -> int:
        return self._session.scalar(select(func.max(EventRow.id))) or 0


def _row_values(event: Event) -> dict[str, Any]:
    """The parameters of `_INSERT`: its columns without the id, which the database assigns."""
    values = {name: value for name, value in vars(event).items() if name != "id"}
    return values | {"of_run": event.run_id}


def _event_from_row(row: EventRow) -> Event:
    return Event(
        run_id=row.run_id,
        at=row.at,
        actor=row.actor,
        kind=EventKind(row.kind),
        details=row.details,
        from_state=None if row.from_state is None else RunState(row.from_state),
        to_state=None if row.to_state is None else RunState(row.to_state),
        reason=None if row.reason is None else FailureReason(row.reason),
        id=row.id,
    )
