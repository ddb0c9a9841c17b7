"""The driver's door: the list of a sweep, what it writes into it, and how far its trials are.

A driver is cheap and may be started twice: its number says who may write, and the position in the
list decides between two that believe they may.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from configs.protocol.sweep_log import (
    AppendReceipt,
    SearchProgress,
    SweepClosed,
    SweepEntry,
    SweepLog,
    SweepLogAppend,
    TrialJudged,
    TrialSuggested,
    active_spec,
    is_closed,
    replay_trials,
)
from service.domain.errors import (
    ClusterUnreachable,
    DriverSuperseded,
    InvalidSweepTransition,
    SweepLogConflict,
)
from service.domain.ports import Node
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.scheduling.capacity import count_slots
from service.domain.sweeps import Sweep, SweepState, max_concurrent_trials, transition_sweep
from service.domain.trials import check_entries
from service.usecases.context import Context
from service.usecases.nodes import list_nodes
from service.usecases.sweeps.trials import (
    compute_standings,
    find_stop_reason,
    start_trial,
    stop_trial,
)

_HEARD_EVERY = timedelta(seconds=5)


def read_log(sweep_id: str, *, first: int, driver: int | None, ctx: Context) -> SweepLog:
    """A sweep's list from a position on, and what its driver is to do."""
    nodes = _nodes_or_none(ctx)
    with ctx.store.transaction() as uow:
        sweep = _heard(uow, sweep_id, driver=driver, now=ctx.clock.now())
        entries = uow.sweeps.entries(sweep.id)
        return SweepLog(
            spec=sweep.spec,
            entries=tuple(entries[first:]),
            allows_new_trials=_begins(uow, sweep, entries, now=ctx.clock.now()),
            concurrency=_concurrency(sweep, entries, nodes),
        )


def read_standings(sweep_id: str, *, driver: int | None, ctx: Context) -> SearchProgress:
    """How far every trial is that has not ended in the list."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        sweep = _heard(uow, sweep_id, driver=driver, now=now)
        entries = uow.sweeps.entries(sweep.id)
        return SearchProgress(
            trials=tuple(compute_standings(uow, sweep, replay_trials(entries))),
            allows_new_trials=_begins(uow, sweep, entries, now=now),
        )


def append_entries(
    sweep_id: str, body: SweepLogAppend, *, driver: int | None, ctx: Context
) -> AppendReceipt:
    """Write entries, once, and do what they say in the same transaction.

    `SweepLogConflict` if somebody else has written there; what is there already as it comes is kept.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        sweep = _heard(uow, sweep_id, driver=driver, now=now)
        there = uow.sweeps.entries(sweep.id)
        new = _new_entries(sweep, body, there)
        if new:
            sweep = _write(uow, sweep, there, new, now=now)
        length = len(there) + len(new)
        begins = _begins(uow, sweep, [*there, *new], now=now)
    return AppendReceipt(next=length, allows_new_trials=begins)


def _heard(uow: UnitOfWork, sweep_id: str, *, driver: int | None, now: datetime) -> Sweep:
    """The sweep, for a driver that may write; that it was heard is kept every now and then."""
    sweep = uow.sweeps.get_for_update(sweep_id)
    if driver is not None and driver != sweep.driver:
        raise DriverSuperseded(sweep.id, driver, sweep.driver)
    if sweep.last_seen_at is None or now - sweep.last_seen_at >= _HEARD_EVERY:
        sweep = replace(sweep, last_seen_at=now)
        uow.sweeps.save(sweep)
    return sweep


def _new_entries(
    sweep: Sweep, body: SweepLogAppend, there: Sequence[SweepEntry]
) -> tuple[SweepEntry, ...]:
    """Those that are not in the list yet; they follow those that are."""
    known = there[body.first : body.first + len(body.entries)]
    if body.first > len(there) or list(body.entries[: len(known)]) != list(known):
        raise SweepLogConflict(sweep.id, body.first, len(there))
    return body.entries[len(known) :]


def _write(
    uow: UnitOfWork,
    sweep: Sweep,
    there: Sequence[SweepEntry],
    new: Sequence[SweepEntry],
    *,
    now: datetime,
) -> Sweep:
    if sweep.state is not SweepState.SEARCHING:
        raise InvalidSweepTransition(sweep.id, sweep.state, SweepState.SEARCHING)
    in_force = active_spec(sweep.spec, there)
    check_entries(new, trials=replay_trials(there), space=in_force.space, closed=is_closed(there))
    uow.sweeps.append(sweep.id, new, first=len(there))
    for at, entry in enumerate(new):
        before = [*there, *new[:at]]
        if isinstance(entry, TrialSuggested) and _begins(uow, sweep, before, now=now):
            start_trial(uow, sweep, entry, at=now)
        elif isinstance(entry, TrialJudged) and not entry.should_continue:
            stop_trial(uow, sweep, entry, at=now)
        elif isinstance(entry, SweepClosed):
            sweep = replace(
                transition_sweep(sweep, SweepState.REPORTING, at=now), message=entry.why
            )
            uow.sweeps.save(sweep)
    return sweep


def _begins(uow: UnitOfWork, sweep: Sweep, entries: Sequence[SweepEntry], *, now: datetime) -> bool:
    return find_stop_reason(uow, sweep, entries, now=now) is None


def _nodes_or_none(ctx: Context) -> tuple[Node, ...] | None:
    try:
        return list_nodes(ctx)
    except ClusterUnreachable:
        return None


def _concurrency(
    sweep: Sweep, entries: Sequence[SweepEntry], nodes: tuple[Node, ...] | None
) -> int:
    """Trials at the same time: as asked, else as many as the whole cluster has places for.

    A driver asks once, so what others take of the cluster just now does not count: runs that have
    no room yet wait in the queue.
    """
    in_force = active_spec(sweep.spec, entries)
    most = max_concurrent_trials(in_force)
    if in_force.concurrency is not None:
        return most
    asked = sweep.spec.base.resources
    room = 0 if nodes is None else count_slots(asked, nodes, total=True) // asked.processes
    runs = max(1, room) * sweep.pack_size
    return max(1, min(runs // sweep.spec.repeats, most))
