"""Events of runs in the database."""

from collections.abc import Collection

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from configs.protocol.failure import FailureReason
from service.domain.repositories.runs import ProjectEvent
from service.domain.runs import Event, EventKind
from service.domain.states import RunState
from service.store.batches import BATCH_SIZE, batched
from service.store.tables import EventRow, RunRow


class SqlEvents:
    """Implements `Events`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, event: Event) -> None:
        project = select(RunRow.project).where(RunRow.id == event.run_id).scalar_subquery()
        self._session.add(EventRow(**vars(event), project=func.coalesce(project, "")))
        self._session.flush()

    def add_all(self, events: Collection[Event]) -> None:
        if events:
            rows = [{**vars(event)} for event in events]
            for row in rows:
                del row["id"]  # the database assigns it
            self._session.execute(insert(EventRow), rows)

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
        queries = [
            query.where(EventRow.id.in_(batch)).order_by(EventRow.id)
            for batch in batched(sorted(skipped), BATCH_SIZE)
        ]
        queries.append(query.where(EventRow.id > last).order_by(EventRow.id).limit(limit))
        return [
            ProjectEvent(_event_from_row(row), project)
            for statement in queries
            for row, project in self._session.execute(statement)
        ]

    def ids_between(self, first: int, last: int) -> list[int]:
        return list(
            self._session.scalars(select(EventRow.id).where(EventRow.id.between(first, last)))
        )

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
