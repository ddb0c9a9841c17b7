"""The driver's door: the list of a sweep, what it writes into it, and how far its trials are.

A driver is cheap and may be started twice: its number says who may write, and the position in the
list decides between two that believe they may.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from configs.protocol.sweep_log import (
    Appended,
    Closed,
    Judged,
    Standings,
    Suggested,
    SweepAppend,
    SweepEntry,
    SweepLog,
    is_closed,
    spec_in_force,
    trials_of,
)
from service.domain.errors import (
    ClusterUnreachable,
    DriverSuperseded,
    IllegalSweepMove,
    SweepLogMoved,
)
from service.domain.ports import Node
from service.domain.repositories.unit_of_work import Unit
from service.domain.scheduling.capacity import places
from service.domain.sweeps import Sweep, SweepState, move_sweep, trials_at_once
from service.domain.trials import check_entries
from service.usecases.context import World
from service.usecases.nodes import cluster_nodes
from service.usecases.sweeps.trials import begin_trial, standings_of, stop_trial, why_none_begins

_HEARD_EVERY = timedelta(seconds=5)


def log_of(sweep_id: str, *, first: int, driver: int | None, world: World) -> SweepLog:
    """A sweep's list from a position on, and what its driver is to do."""
    nodes = _nodes_or_none(world)
    with world.store.begin() as unit:
        sweep = _heard(unit, sweep_id, driver=driver, now=world.clock.now())
        entries = unit.sweeps.entries(sweep.id)
        return SweepLog(
            spec=sweep.spec,
            entries=tuple(entries[first:]),
            begins_trials=_begins(unit, sweep, entries, now=world.clock.now()),
            concurrency=_concurrency(sweep, entries, nodes),
        )


def standings(sweep_id: str, *, driver: int | None, world: World) -> Standings:
    """How far every trial is that has not ended in the list."""
    now = world.clock.now()
    with world.store.begin() as unit:
        sweep = _heard(unit, sweep_id, driver=driver, now=now)
        entries = unit.sweeps.entries(sweep.id)
        return Standings(
            trials=tuple(standings_of(unit, sweep, trials_of(entries))),
            begins_trials=_begins(unit, sweep, entries, now=now),
        )


def append(sweep_id: str, body: SweepAppend, *, driver: int | None, world: World) -> Appended:
    """Write entries, once, and do what they say in the same transaction.

    `SweepLogMoved` if somebody else has written there; what is there already as it comes is kept.
    """
    now = world.clock.now()
    with world.store.begin() as unit:
        unit.runs.alone()
        sweep = _heard(unit, sweep_id, driver=driver, now=now)
        there = unit.sweeps.entries(sweep.id)
        new = _new_entries(sweep, body, there)
        if new:
            sweep = _write(unit, sweep, there, new, now=now)
        length = len(there) + len(new)
        begins = _begins(unit, sweep, [*there, *new], now=now)
    return Appended(next=length, begins_trials=begins)


def _heard(unit: Unit, sweep_id: str, *, driver: int | None, now: datetime) -> Sweep:
    """The sweep, for a driver that may write; that it was heard is kept every now and then."""
    sweep = unit.sweeps.take(sweep_id)
    if driver is not None and driver != sweep.driver:
        raise DriverSuperseded(sweep.id, driver, sweep.driver)
    if sweep.heard_at is None or now - sweep.heard_at >= _HEARD_EVERY:
        sweep = replace(sweep, heard_at=now)
        unit.sweeps.save(sweep)
    return sweep


def _new_entries(
    sweep: Sweep, body: SweepAppend, there: Sequence[SweepEntry]
) -> tuple[SweepEntry, ...]:
    """Those that are not in the list yet; they follow those that are."""
    known = there[body.first : body.first + len(body.entries)]
    if body.first > len(there) or list(body.entries[: len(known)]) != list(known):
        raise SweepLogMoved(sweep.id, body.first, len(there))
    return body.entries[len(known) :]


def _write(
    unit: Unit,
    sweep: Sweep,
    there: Sequence[SweepEntry],
    new: Sequence[SweepEntry],
    *,
    now: datetime,
) -> Sweep:
    if sweep.state is not SweepState.SEARCHING:
        raise IllegalSweepMove(sweep.id, sweep.state, SweepState.SEARCHING)
    in_force = spec_in_force(sweep.spec, there)
    check_entries(new, trials=trials_of(there), space=in_force.space, closed=is_closed(there))
    unit.sweeps.append(sweep.id, new, first=len(there))
    for at, entry in enumerate(new):
        before = [*there, *new[:at]]
        if isinstance(entry, Suggested) and _begins(unit, sweep, before, now=now):
            begin_trial(unit, sweep, entry, at=now)
        elif isinstance(entry, Judged) and not entry.goes_on:
            stop_trial(unit, sweep, entry, at=now)
        elif isinstance(entry, Closed):
            sweep = replace(move_sweep(sweep, SweepState.REPORTING, at=now), message=entry.why)
            unit.sweeps.save(sweep)
    return sweep


def _begins(unit: Unit, sweep: Sweep, entries: Sequence[SweepEntry], *, now: datetime) -> bool:
    return why_none_begins(unit, sweep, entries, now=now) is None


def _nodes_or_none(world: World) -> tuple[Node, ...] | None:
    try:
        return cluster_nodes(world)
    except ClusterUnreachable:
        return None


def _concurrency(
    sweep: Sweep, entries: Sequence[SweepEntry], nodes: tuple[Node, ...] | None
) -> int:
    """Trials at the same time: as asked, else as many as the whole cluster has places for.

    A driver asks once, so what others take of the cluster just now does not count: runs that have
    no room yet wait in the queue.
    """
    in_force = spec_in_force(sweep.spec, entries)
    most = trials_at_once(in_force)
    if in_force.concurrency is not None:
        return most
    asked = sweep.spec.base.resources
    room = 0 if nodes is None else places(asked, nodes, total=True) // asked.processes
    runs = max(1, room) * sweep.pack_size
    return max(1, min(runs // sweep.spec.repeats, most))
