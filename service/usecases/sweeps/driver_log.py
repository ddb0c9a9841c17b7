"""Interface of a sweep's driver: reads and appends the sweep's log, reads the progress of trials.

A driver is cheap and may run twice: its number decides which one may write, and the position in
the log detects a concurrent write.
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
from service.domain.errors.conflicts import (
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
from service.usecases.nodes import list_nodes_or_none
from service.usecases.sweeps.trials import (
    compute_progress,
    find_stop_reason,
    start_trial,
    stop_trial,
)

_LAST_SEEN_INTERVAL = timedelta(seconds=5)


def read_log(sweep_id: str, *, first: int, driver: int | None, ctx: Context) -> SweepLog:
    """A sweep's log from position `first`, with its concurrency and whether trials may start.

    Raises `DriverSuperseded` for a driver that is not the sweep's latest; `None` skips the check.
    """
    nodes = list_nodes_or_none(ctx)
    with ctx.store.transaction() as uow:
        sweep = _lock_for_driver(uow, sweep_id, driver=driver, now=ctx.clock.now())
        entries = uow.sweeps.entries(sweep.id)
        return SweepLog(
            spec=sweep.spec,
            entries=tuple(entries[first:]),
            allows_new_trials=_allows_new_trials(uow, sweep, entries, now=ctx.clock.now()),
            concurrency=_concurrency(sweep, entries, nodes),
        )


def read_progress(sweep_id: str, *, driver: int | None, ctx: Context) -> SearchProgress:
    """The progress of every trial without an end in the log; raises as `read_log` does."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        sweep = _lock_for_driver(uow, sweep_id, driver=driver, now=now)
        entries = uow.sweeps.entries(sweep.id)
        return SearchProgress(
            trials=tuple(compute_progress(uow, sweep, replay_trials(entries))),
            allows_new_trials=_allows_new_trials(uow, sweep, entries, now=now),
        )


def append_entries(
    sweep_id: str, body: SweepLogAppend, *, driver: int | None, ctx: Context
) -> AppendReceipt:
    """Append entries to a sweep's log and apply their effects in the same transaction.

    Entries that the log already has at their position are skipped, so a repeated call is safe;
    other entries at that position raise `SweepLogConflict`.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        sweep = _lock_for_driver(uow, sweep_id, driver=driver, now=now)
        existing = uow.sweeps.entries(sweep.id)
        new = _new_entries(sweep, body, existing)
        if new:
            sweep = _append(uow, sweep, existing, new, now=now)
        length = len(existing) + len(new)
        allows_new_trials = _allows_new_trials(uow, sweep, [*existing, *new], now=now)
    return AppendReceipt(next=length, allows_new_trials=allows_new_trials)


def _lock_for_driver(uow: UnitOfWork, sweep_id: str, *, driver: int | None, now: datetime) -> Sweep:
    """Lock the sweep for its current driver, and update `last_seen_at` every few seconds."""
    sweep = uow.sweeps.get_for_update(sweep_id)
    if driver is not None and driver != sweep.driver:
        raise DriverSuperseded(sweep.id, driver, sweep.driver)
    if sweep.last_seen_at is None or now - sweep.last_seen_at >= _LAST_SEEN_INTERVAL:
        sweep = replace(sweep, last_seen_at=now)
        uow.sweeps.save(sweep)
    return sweep


def _new_entries(
    sweep: Sweep, body: SweepLogAppend, existing: Sequence[SweepEntry]
) -> tuple[SweepEntry, ...]:
    """Entries that the log does not have yet; they must continue the log."""
    repeated = existing[body.first : body.first + len(body.entries)]
    if body.first > len(existing) or list(body.entries[: len(repeated)]) != list(repeated):
        raise SweepLogConflict(sweep.id, body.first, len(existing))
    return body.entries[len(repeated) :]


def _append(
    uow: UnitOfWork,
    sweep: Sweep,
    existing: Sequence[SweepEntry],
    new: Sequence[SweepEntry],
    *,
    now: datetime,
) -> Sweep:
    if sweep.state is not SweepState.SEARCHING:
        raise InvalidSweepTransition(sweep.id, sweep.state, SweepState.SEARCHING)
    spec = active_spec(sweep.spec, existing)
    check_entries(new, trials=replay_trials(existing), space=spec.space, closed=is_closed(existing))
    uow.sweeps.append(sweep.id, new, first=len(existing))
    for index, entry in enumerate(new):
        preceding = [*existing, *new[:index]]
        if isinstance(entry, TrialSuggested) and _allows_new_trials(uow, sweep, preceding, now=now):
            start_trial(uow, sweep, entry, at=now)
        elif isinstance(entry, TrialJudged) and not entry.should_continue:
            stop_trial(uow, sweep, entry, at=now)
        elif isinstance(entry, SweepClosed):
            sweep = replace(
                transition_sweep(sweep, SweepState.REPORTING, at=now), message=entry.why
            )
            uow.sweeps.save(sweep)
    return sweep


def _allows_new_trials(
    uow: UnitOfWork, sweep: Sweep, entries: Sequence[SweepEntry], *, now: datetime
) -> bool:
    return find_stop_reason(uow, sweep, entries, now=now) is None


def _concurrency(
    sweep: Sweep, entries: Sequence[SweepEntry], nodes: tuple[Node, ...] | None
) -> int:
    """Number of concurrent trials: that of the spec, else what the whole cluster has slots for, and
    at least what fills a pack: of the repeats of a trial, no two fit into one.

    A driver reads it once, so current usage by other runs is ignored: runs without free capacity
    wait in the queue.
    """
    spec = active_spec(sweep.spec, entries)
    limit = max_concurrent_trials(spec)
    if spec.concurrency is not None:
        return limit
    resources = sweep.spec.base.resources
    slots = 0 if nodes is None else count_slots(resources, nodes, total=True) // resources.processes
    runs = max(1, slots) * sweep.pack_size
    return min(max(runs // sweep.spec.repeats, sweep.pack_size), limit)
