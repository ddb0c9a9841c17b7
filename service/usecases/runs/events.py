"""Events of one run or all runs, listed and followed."""

from datetime import datetime
from itertools import islice

from service.domain.repositories.runs import ProjectEvent
from service.domain.runs import Event
from service.usecases.context import Context

READ_LIMIT = 500
"""The most new events of one read."""

_MAX_COMMIT_DELAY_S = 30.0
"""An event gets its id when it is inserted, but is visible only after its commit: on PostgreSQL a
smaller id may become visible later. Ids that were skipped are queried again for this long."""

_MAX_SKIPPED_IDS = 1000


def list_run_events(run_id: str, *, after: int, limit: int, ctx: Context) -> list[Event]:
    """Events of a run with ids larger than `after`, in order; `RunNotFound` for an unknown run."""
    with ctx.store.snapshot() as uow:
        uow.runs.get(run_id)
        return uow.events.after(after, run_id=run_id, project=None, limit=limit)


def list_events_after(
    after: int, *, run_id: str | None, project: str | None, limit: int, ctx: Context
) -> list[Event]:
    """Events with ids larger than `after`, optionally of one run or project, in order."""
    with ctx.store.snapshot() as uow:
        return uow.events.after(after, run_id=run_id, project=project, limit=limit)


class EventReader:
    """Reads the events of all runs, each once, from the current end on."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._skipped: dict[int, datetime] = {}
        with ctx.store.snapshot() as uow:
            self.last_id = uow.events.last_id()
            first = max(1, self.last_id - _MAX_SKIPPED_IDS)
            known_ids = uow.events.ids_between(first, self.last_id)
        self._remember_skipped(first, self.last_id, known_ids)

    @property
    def skipped_ids(self) -> frozenset[int]:
        """Ids below `last_id` whose events may still become visible."""
        return frozenset(self._skipped)

    def read(self) -> list[ProjectEvent]:
        """What became visible since the last call; at most `READ_LIMIT` events have new ids."""
        with self._ctx.store.snapshot() as uow:
            items = uow.events.new(self.last_id, skipped=self._skipped, limit=READ_LIMIT)
        ids = [item.event.id or 0 for item in items]
        for late_id in self._skipped.keys() & set(ids):
            del self._skipped[late_id]
        newest_id = max([self.last_id, *ids])
        self._remember_skipped(self.last_id + 1, newest_id, ids)
        self.last_id = newest_id
        return items

    def _remember_skipped(self, first: int, last: int, known_ids: list[int]) -> None:
        now = self._ctx.clock.now()
        first = max(first, last - _MAX_SKIPPED_IDS)
        existing = set(known_ids)
        self._skipped |= {id_: now for id_ in range(first, last + 1) if id_ not in existing}
        expired = [
            id_
            for id_, since in self._skipped.items()
            if (now - since).total_seconds() > _MAX_COMMIT_DELAY_S
        ]
        surplus = islice(self._skipped, max(0, len(self._skipped) - _MAX_SKIPPED_IDS))
        for id_ in {*expired, *surplus}:
            del self._skipped[id_]
