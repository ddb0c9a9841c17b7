"""What happened: to one run, to all, and as it happens."""

from collections.abc import Iterator

from service.domain.runs import Event
from service.usecases.context import Context

_MOST = 500
_LATE_S = 30.0
"""Numbers are given when an event is written, but it is seen when its transaction ends: on
PostgreSQL an earlier number may be seen later. Events this young are looked at again."""


def list_run_events(run_id: str, *, after: int = 0, ctx: Context) -> list[Event]:
    """Everything that happened to a run, after an event."""
    with ctx.store.transaction() as uow:
        uow.runs.get(run_id)
        return [event for event in uow.events.of_run(run_id) if (event.id or 0) > after]


def list_events_after(
    after: int, *, run_id: str | None, project: str | None, limit: int, ctx: Context
) -> list[Event]:
    """Events of all runs after one of them."""
    with ctx.store.transaction() as uow:
        return uow.events.after(after, run_id=run_id, project=project, limit=limit)


def follow_events(
    after: int | None, *, run_id: str | None, project: str | None, ctx: Context
) -> Iterator[Event | None]:
    """Events as they happen; none where there is nothing new yet. Without `after`: the new ones."""
    with ctx.store.transaction() as uow:
        last = uow.events.last_id() if after is None else after
    told: dict[int, Event] = {}
    while True:
        found = list_events_after(last, run_id=run_id, project=project, limit=_MOST, ctx=ctx)
        new = [event for event in found if event.id not in told]
        for event in new:
            told[event.id or 0] = event
            yield event
        last = _settled(last, told, ctx=ctx)
        if not new:
            yield None


def _settled(last: int, told: dict[int, Event], *, ctx: Context) -> int:
    """The last event before which nothing can come any more; it and those before are forgotten."""
    now = ctx.clock.now()
    for number in sorted(told):
        if (now - told[number].at).total_seconds() < _LATE_S:
            break
        last = number
        del told[number]
    return last
