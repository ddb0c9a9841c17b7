"""Events of one run or all runs, listed and followed."""

from collections.abc import Iterator

from service.domain.runs import Event
from service.usecases.context import Context

_MAX_BATCH = 500
_MAX_COMMIT_DELAY_S = 30.0
"""An event gets its id when it is inserted, but is visible only after its commit: on PostgreSQL a
smaller id may become visible later. Events younger than this are therefore queried again."""


def list_run_events(run_id: str, *, after: int = 0, ctx: Context) -> list[Event]:
    """Events of a run with ids larger than `after`, in order; `RunNotFound` for an unknown run."""
    with ctx.store.transaction() as uow:
        uow.runs.get(run_id)
        return [event for event in uow.events.of_run(run_id) if (event.id or 0) > after]


def list_events_after(
    after: int, *, run_id: str | None, project: str | None, limit: int, ctx: Context
) -> list[Event]:
    """Events with ids larger than `after`, optionally of one run or project, in order."""
    with ctx.store.transaction() as uow:
        return uow.events.after(after, run_id=run_id, project=project, limit=limit)


def follow_events(
    after: int | None, *, run_id: str | None, project: str | None, ctx: Context
) -> Iterator[Event | None]:
    """Yield events as they are committed, and `None` whenever there is nothing new.

    Starts after the event `after`; `None` starts at the current end.
    """
    with ctx.store.transaction() as uow:
        last = uow.events.last_id() if after is None else after
    delivered: dict[int, Event] = {}
    while True:
        events = list_events_after(last, run_id=run_id, project=project, limit=_MAX_BATCH, ctx=ctx)
        new = [event for event in events if event.id not in delivered]
        for event in new:
            delivered[event.id or 0] = event
            yield event
        last = _advance(last, delivered, ctx=ctx)
        if not new:
            yield None


def _advance(last: int, delivered: dict[int, Event], *, ctx: Context) -> int:
    """The last id before which no event can become visible; drops it and those before it from
    `delivered`."""
    now = ctx.clock.now()
    for number in sorted(delivered):
        if (now - delivered[number].at).total_seconds() < _MAX_COMMIT_DELAY_S:
            break
        last = number
        del delivered[number]
    return last
