"""What happened: to one run, to all, and as it happens."""

from collections.abc import Iterator

from service.domain.runs import Event
from service.usecases.context import World

_MOST = 500
_LATE_S = 30.0
"""Numbers are given when an event is written, but it is seen when its transaction ends: on
PostgreSQL an earlier number may be seen later. Events this young are looked at again."""


def events_of_run(run_id: str, *, after: int = 0, world: World) -> list[Event]:
    """Everything that happened to a run, after an event."""
    with world.store.begin() as unit:
        unit.runs.get(run_id)
        return [event for event in unit.events.of_run(run_id) if (event.id or 0) > after]


def events_after(
    after: int, *, run_id: str | None, project: str | None, limit: int, world: World
) -> list[Event]:
    """Events of all runs after one of them."""
    with world.store.begin() as unit:
        return unit.events.after(after, run_id=run_id, project=project, limit=limit)


def follow_events(
    after: int | None, *, run_id: str | None, project: str | None, world: World
) -> Iterator[Event | None]:
    """Events as they happen; none where there is nothing new yet. Without `after`: the new ones."""
    with world.store.begin() as unit:
        last = unit.events.last_id() if after is None else after
    told: dict[int, Event] = {}
    while True:
        found = events_after(last, run_id=run_id, project=project, limit=_MOST, world=world)
        new = [event for event in found if event.id not in told]
        for event in new:
            told[event.id or 0] = event
            yield event
        last = _settled(last, told, world=world)
        if not new:
            yield None


def _settled(last: int, told: dict[int, Event], *, world: World) -> int:
    """The last event before which nothing can come any more; it and those before are forgotten."""
    now = world.clock.now()
    for number in sorted(told):
        if (now - told[number].at).total_seconds() < _LATE_S:
            break
        last = number
        del told[number]
    return last
