"""Stores the records of workers: once each, in order, from the current attempt only."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from configs.protocol.records import Delivery, Metrics, Note, Receipt, Record, Started
from service.domain.errors.conflicts import AttemptSuperseded
from service.domain.heartbeats import choose_interval_s
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, Event, Run, transition
from service.domain.states import ACTIVE_STATES, RunState
from service.domain.vocabulary import EventKind
from service.domain.worker_records import update_from_delivery, update_from_records
from service.usecases.context import Context
from service.usecases.runs.transitions import record_transition

_POSITION_FILE = "spool.mlflow.position"
_POSITION_BYTES = 20
_BETWEEN_ATTEMPTS = (RunState.QUEUED, RunState.PAUSED)
"""In these states the last attempt was abandoned; if its process still lives, it must stop."""


def receive_delivery(run_id: str, number: int, delivery: Delivery, *, ctx: Context) -> Receipt:
    """Store the new records of a delivery; the receipt has the next position, a stop request, and
    when the next delivery is due.

    After a gap nothing is stored. Raises `AttemptSuperseded` unless `number` is the run's current
    attempt.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if number != run.attempt or run.state in _BETWEEN_ATTEMPTS:
            raise AttemptSuperseded(run_id, number, run.attempt)
        position = run.ingest.next_spool_position
        run = update_from_delivery(run, delivery, at=now)
        if delivery.first > run.ingest.next_spool_position:
            uow.runs.save(run)
        else:
            new = delivery.records[run.ingest.next_spool_position - delivery.first :]
            run = apply_records(uow, run, new, ctx=ctx)
        if run.state is RunState.STARTING:
            running = transition(run, RunState.RUNNING, at=now)
            details = "The worker sent its first delivery."
            run = record_transition(uow, run, running, actor="worker", details=details)
        num_new = run.ingest.next_spool_position - position
        num_running = ctx.running.get(partial(_count_running, uow), now=now)
    ctx.counters.count("deliveries")
    ctx.counters.count("records", num_new)
    interval_s = choose_interval_s(num_running, shortest_limit_s=ctx.policy.shortest_worker_limit_s)
    return Receipt(next=run.ingest.next_spool_position, stop=run.stop_kind, next_due_s=interval_s)


def _count_running(uow: UnitOfWork) -> int:
    counts = uow.metrics.count_runs()
    return sum(runs for (state, _), runs in counts.items() if state is RunState.RUNNING)


def apply_records(uow: UnitOfWork, run: Run, records: Sequence[Record], *, ctx: Context) -> Run:
    """Update a run from the next records of its spool, and store metrics, start and notes."""
    updated = update_from_records(run, records, at=ctx.clock.now())
    uow.metric_points.add(run.id, [record for record in records if isinstance(record, Metrics)])
    uow.runs.save(updated)
    for record in records:
        if isinstance(record, Started):
            _record_start(uow, run.id, record)
        elif isinstance(record, Note):
            uow.events.add(Event(run.id, ctx.clock.now(), "worker", EventKind.NOTE, record.text))
    return updated


def import_spool(run_id: str, *, ctx: Context) -> Run:
    """Import the records in a run's spool file that the worker has not delivered."""
    with ctx.store.snapshot() as uow:
        position = uow.runs.get(run_id).ingest.next_spool_position
    records = ctx.files.spool_records(run_id, position)
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        # A delivery may have stored some of them between the two transactions.
        new = records[max(run.ingest.next_spool_position - position, 0) :]
        return apply_records(uow, run, new, ctx=ctx) if new else run


def poll_spool(run_id: str, *, ctx: Context) -> bool:
    """Import a run's spool; returns whether it had new records.

    New records show that a worker which cannot reach the service is alive.
    """
    with ctx.store.snapshot() as uow:
        position = uow.runs.get(run_id).ingest.next_spool_position
    return import_spool(run_id, ctx=ctx).ingest.next_spool_position > position


def _record_start(uow: UnitOfWork, run_id: str, record: Started) -> None:
    attempt = uow.attempts.get(run_id, record.attempt)
    if attempt is None:
        return
    uow.attempts.save(
        replace(
            attempt,
            host=record.host,
            device=record.device,
            resumed_from_epoch=record.resumed_from_epoch,
        )
    )


def count_unshipped_records(run: Run, *, ctx: Context) -> int:
    """Number of records in a run's spool that were not yet shipped to MLflow."""
    file = ctx.files.run_dir(run.id) / _POSITION_FILE
    content = ctx.files.part(file, limit=_POSITION_BYTES).strip()
    # A worker can write anything there; what MLflow has already is not sent again.
    shipped = int(content) if content.isdigit() else 0
    return len(ctx.files.spool_records(run.id, shipped))


def list_finished_attempts(names: Sequence[str], *, ctx: Context) -> list[str]:
    """Filter submission ids of attempts and packs to those that have certainly ended; unknown ids
    are omitted."""
    finished = []
    with ctx.store.snapshot() as uow:
        for name in names:
            attempt = uow.attempts.by_submission(name)
            attempts = [attempt] if attempt is not None else uow.attempts.of_pack(name)
            if attempts and all(_is_finished(uow, item) for item in attempts):
                finished.append(name)
    return finished


def _is_finished(uow: UnitOfWork, attempt: Attempt) -> bool:
    run = uow.runs.get(attempt.run_id)
    is_current = run.attempt == attempt.number and run.state in ACTIVE_STATES
    return attempt.ended_at is not None or not is_current
