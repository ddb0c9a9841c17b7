"""A worker's records: taken once, in order, from the current attempt only."""

from collections.abc import Sequence
from dataclasses import replace

from configs.protocol.records import Delivery, Metrics, Note, Receipt, Record, Started
from service.domain.errors import AttemptSuperseded
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, Event, Run, transition
from service.domain.states import ACTIVE_STATES, RunState
from service.domain.worker_records import update_from_delivery, update_from_records
from service.usecases.context import Context

_POSITION_FILE = "spool.mlflow.position"
_BETWEEN_ATTEMPTS = (RunState.QUEUED, RunState.PAUSED)
"""The attempt was given up; if its process lives after all, it must not go on."""


def receive_delivery(run_id: str, number: int, delivery: Delivery, *, ctx: Context) -> Receipt:
    """Take what is new of a delivery; the receipt says what is wanted next, and whether to stop."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if number != run.attempt or run.state in _BETWEEN_ATTEMPTS:
            raise AttemptSuperseded(run_id, number, run.attempt)
        before = run.next_spool_position
        run = update_from_delivery(run, delivery, at=now)
        if delivery.first > run.next_spool_position:
            uow.runs.save(run)
        else:
            run = apply_records(
                uow, run, delivery.records[run.next_spool_position - delivery.first :], ctx=ctx
            )
        if run.state is RunState.STARTING:
            running = transition(run, RunState.RUNNING, at=now)
            uow.events.add(
                Event(
                    run.id, now, "worker", "moved", "The worker reports.", run.state, running.state
                )
            )
            uow.runs.save(running)
            run = running
        taken = run.next_spool_position - before
    ctx.counters.count("deliveries")
    ctx.counters.count("records", taken)
    return Receipt(next=run.next_spool_position, stop=run.stop_kind)


def apply_records(uow: UnitOfWork, run: Run, records: Sequence[Record], *, ctx: Context) -> Run:
    """Apply the next records of a run's spool and store them."""
    changed = update_from_records(run, records, at=ctx.clock.now())
    uow.metric_points.add(run.id, [record for record in records if isinstance(record, Metrics)])
    uow.runs.save(changed)
    for record in records:
        if isinstance(record, Started):
            _note_start(uow, run.id, record)
        elif isinstance(record, Note):
            uow.events.add(Event(run.id, ctx.clock.now(), "worker", "note", record.text))
    return changed


def import_spool(run_id: str, *, ctx: Context) -> Run:
    """Import what the worker wrote but could not deliver before its end."""
    with ctx.store.transaction() as uow:
        position = uow.runs.get(run_id).next_spool_position
    records = ctx.files.spool_records(run_id, position)
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        # A delivery may have come in between: what it brought is not new any more.
        new = records[max(run.next_spool_position - position, 0) :]
        return apply_records(uow, run, new, ctx=ctx) if new else run


def poll_spool(run_id: str, *, ctx: Context) -> bool:
    """Whether a worker that cannot reach us has written on; what it wrote is taken."""
    with ctx.store.transaction() as uow:
        before = uow.runs.get(run_id).next_spool_position
    return import_spool(run_id, ctx=ctx).next_spool_position > before


def _note_start(uow: UnitOfWork, run_id: str, record: Started) -> None:
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
    """How much MLflow still lacks of what a run's worker wrote."""
    shipped = int(ctx.files.text(ctx.files.run_dir(run.id) / _POSITION_FILE) or b"0")
    return len(ctx.files.spool_records(run.id, shipped))


def list_finished_attempts(names: Sequence[str], *, ctx: Context) -> list[str]:
    """Those of the attempts, and packs of them, that are over for certain; what is not known here
    is left out.
    """
    over = []
    with ctx.store.transaction() as uow:
        for name in names:
            alone = uow.attempts.by_submission(name)
            attempts = [alone] if alone is not None else uow.attempts.of_pack(name)
            if attempts and all(_is_over(uow, attempt) for attempt in attempts):
                over.append(name)
    return over


def _is_over(uow: UnitOfWork, attempt: Attempt) -> bool:
    run = uow.runs.get(attempt.run_id)
    is_current = run.attempt == attempt.number and run.state in ACTIVE_STATES
    return attempt.ended_at is not None or not is_current
