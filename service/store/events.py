"""Events of runs in the database."""

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, String, bindparam, func, insert, select

from configs.protocol.failure import FailureReason
from service.domain.ids import split_ids
from service.domain.repositories.runs import ProjectEvent
from service.domain.runs import Event
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.store.engine import MAX_IDS
from service.store.tables import EventRow, RunRow, UtcDateTime, get_table
from service.store.writers.new_rows import BatchingSession, BulkInsert


def _find_project(new: dict[str, ColumnElement[Any]]) -> dict[str, ColumnElement[Any]]:
    project = select(RunRow.project).where(RunRow.id == new["run_id"]).scalar_subquery()
    return {"project": func.coalesce(project, "")}


_COLUMNS = [field.name for field in fields(Event) if field.name != "id"]
_ADD_EVENTS = BulkInsert(EventRow, _COLUMNS, compute=_find_project)
_INSERT_OF_RUNS = insert(get_table(EventRow)).from_select(
    ["run_id", "project", "at", "actor", "kind", "details"],
    select(
        RunRow.id,
        RunRow.project,
        bindparam("at", type_=UtcDateTime()),
        bindparam("actor", type_=String()),
        bindparam("kind", type_=String()),
        bindparam("details", type_=String()),
    ).where(RunRow.id.in_(bindparam("of_runs", expanding=True))),
    include_defaults=False,
)


class SqlEvents:
    """Implements `Events`."""

    def __init__(self, session: BatchingSession) -> None:
        self._session = session

    def add(self, *events: Event) -> None:
        rows = [{name: getattr(event, name) for name in _COLUMNS} for event in events]
        self._session.insert_later(_ADD_EVENTS, rows)

    def add_to_runs(
        self, run_ids: Collection[str], *, at: datetime, actor: str, kind: EventKind, details: str
    ) -> None:
        values = {"at": at, "actor": actor, "kind": kind.value, "details": details}
        for ids in split_ids(run_ids, size=MAX_IDS):
            self._session.connection().execute(_INSERT_OF_RUNS, values | {"of_runs": ids})

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
