"""A worker's records: taken once, in order, from the current attempt only."""

from collections.abc import Sequence
from dataclasses import replace

from configs.protocol.records import Delivery, Metrics, Note, Receipt, Record, Started
from service.domain.errors import AttemptSuperseded
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Attempt, Event, Run, move
from service.domain.states import ACTIVE, RunState
from service.domain.worker_records import after_records, heard
from service.usecases.context import World

_POSITION_FILE = "spool.mlflow.position"
_BETWEEN_ATTEMPTS = (RunState.QUEUED, RunState.PAUSED)
"""The attempt was given up; if its process lives after all, it must not go on."""


def receive_delivery(run_id: str, number: int, delivery: Delivery, *, world: World) -> Receipt:
    """Take what is new of a delivery; the receipt says what is wanted next, and whether to stop."""
    now = world.clock.now()
    with world.store.begin() as unit:
        run = unit.runs.take(run_id)
        if number != run.attempt or run.state in _BETWEEN_ATTEMPTS:
            raise AttemptSuperseded(run_id, number, run.attempt)
        before = run.spool_next
        run = heard(run, delivery, at=now)
        if delivery.first > run.spool_next:
            unit.runs.save(run)
        else:
            run = take_records(
                unit, run, delivery.records[run.spool_next - delivery.first :], world=world
            )
        if run.state is RunState.STARTING:
            running = move(run, RunState.RUNNING, at=now)
            unit.events.add(
                Event(
                    run.id, now, "worker", "moved", "The worker reports.", run.state, running.state
                )
            )
            unit.runs.save(running)
            run = running
        taken = run.spool_next - before
    world.meter.count("deliveries")
    world.meter.count("records", taken)
    return Receipt(next=run.spool_next, stop=run.stop_kind)


def take_records(unit: Unit, run: Run, records: Sequence[Record], *, world: World) -> Run:
    """Apply the next records of a run's spool and store them."""
    changed = after_records(run, records, at=world.clock.now())
    unit.points.add(run.id, [record for record in records if isinstance(record, Metrics)])
    unit.runs.save(changed)
    for record in records:
        if isinstance(record, Started):
            _note_start(unit, run.id, record)
        elif isinstance(record, Note):
            unit.events.add(Event(run.id, world.clock.now(), "worker", "note", record.text))
    return changed


def take_rest_from_disk(run_id: str, *, world: World) -> Run:
    """Import what the worker wrote but could not deliver before its end."""
    with world.store.begin() as unit:
        position = unit.runs.get(run_id).spool_next
    records = world.files.spool_records(run_id, position)
    with world.store.begin() as unit:
        run = unit.runs.take(run_id)
        # A delivery may have come in between: what it brought is not new any more.
        new = records[max(run.spool_next - position, 0) :]
        return take_records(unit, run, new, world=world) if new else run


def hear_from_disk(run_id: str, *, world: World) -> bool:
    """Whether a worker that cannot reach us has written on; what it wrote is taken."""
    with world.store.begin() as unit:
        before = unit.runs.get(run_id).spool_next
    return take_rest_from_disk(run_id, world=world).spool_next > before


def _note_start(unit: Unit, run_id: str, record: Started) -> None:
    attempt = unit.attempts.get(run_id, record.attempt)
    if attempt is None:
        return
    unit.attempts.save(
        replace(
            attempt,
            host=record.host,
            device=record.device,
            resumed_from_epoch=record.resumed_from_epoch,
        )
    )


def records_left(run: Run, *, world: World) -> int:
    """How much MLflow still lacks of what a run's worker wrote."""
    shipped = int(world.files.text(world.files.run_dir(run.id) / _POSITION_FILE) or b"0")
    return len(world.files.spool_records(run.id, shipped))


def attempts_over(names: Sequence[str], *, world: World) -> list[str]:
    """Those of the attempts, and packs of them, that are over for certain; what is not known here
    is left out.
    """
    over = []
    with world.store.begin() as unit:
        for name in names:
            alone = unit.attempts.by_submission(name)
            attempts = [alone] if alone is not None else unit.attempts.of_pack(name)
            if attempts and all(_is_over(unit, attempt) for attempt in attempts):
                over.append(name)
    return over


def _is_over(unit: Unit, attempt: Attempt) -> bool:
    run = unit.runs.get(attempt.run_id)
    is_current = run.attempt == attempt.number and run.state in ACTIVE
    return attempt.ended_at is not None or not is_current
