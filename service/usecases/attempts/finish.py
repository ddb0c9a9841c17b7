"""How attempts end: asked to leave, stalled, over; and what their runs become."""

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.protocol.records import Outcome
from service.domain.errors import JobRefused, Unreachable, ValueRefused
from service.domain.ports import Job, Order
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Attempt, Event, Run, move, name_for
from service.domain.scheduling.outcomes import Verdict, after_attempt
from service.domain.states import ACTIVE
from service.usecases.attempts.records import records_left, take_rest_from_disk
from service.usecases.context import World
from service.usecases.runs.logs import keep_rest_of_log

_LAST_SHIPMENT_S = 60.0
"""How long a member that has left its pack brings what it said."""

log = structlog.get_logger(__name__)


def end_attempt(run: Run, job: Job | None, *, world: World) -> Run:
    """What becomes of a run whose job is over; records that were not delivered are taken first."""
    _take_rest(run, world=world)
    keep_rest_of_log(run.id, run.attempt, world=world)
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        if current.attempt != run.attempt or current.state not in ACTIVE:
            return current
        ended, attempt = _ended(unit, current, job, world=world)
        beside = [] if run.pack_job is None else unit.runs.of_pack(run.pack_job)
    if not beside and not _has_left_by_itself(current, job):
        _tidy(ended, attempt, world=world)
    return ended


def _has_left_by_itself(run: Run, job: Job | None) -> bool:
    """Whether no process of the attempt can be left; a pack's last member may speak before its
    job ends."""
    if job is None:
        return False
    is_leaving = run.pack_job is not None and run.pending_outcome is not None
    return job.has_left_by_itself or (is_leaving and not job.is_over)


def has_left_its_pack(run: Run, *, world: World) -> bool:
    """Whether a member has had its last word, though its pack's job goes on.

    What it still brings to MLflow is waited for: else another job would bring it too.
    """
    if run.pack_job is None or run.pending_outcome is None:
        return False
    silent_s = (world.clock.now() - (run.heard_at or run.changed_at)).total_seconds()
    return silent_s > _LAST_SHIPMENT_S or records_left(run, world=world) == 0


def ask_to_leave(run_id: str, *, makes_room_for: Run, joins: bool = False, world: World) -> None:
    """Have a run's attempt leave with a checkpoint; its worker hears of it at its next word.

    `joins`: it is to go on side by side with the survivors of another pack.
    """
    now = world.clock.now()
    with world.store.begin() as unit:
        run = unit.runs.take(run_id)
        if run.state not in ACTIVE or run.stop_kind is not None:
            return
        asked = replace(
            run, preempted_for=makes_room_for.id, stop_asked_at=run.stop_asked_at or now
        )
        whom = name_for(makes_room_for, of=run)
        details = (
            f"It makes room for {whom}, whose priority is {makes_room_for.priority} and not "
            f"{run.priority}."
        )
        if joins:
            details = f"It goes on in one pack with others, which makes room for {whom}."
        unit.runs.save(asked)
        unit.events.add(
            Event(run.id, now, "queue", "preempted", details, reason=FailureReason.PREEMPTED)
        )
    world.meter.count("preemptions")


def mark_stalled(run: Run, *, world: World) -> bool:
    """Write down that nothing is heard of an attempt; whether that is new."""
    now = world.clock.now()
    reason = FailureReason.STALLED
    message = f"Nothing was heard for {world.rules.stall_after_s:g} s."
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        is_same = current.attempt == run.attempt and current.state in ACTIVE
        if not is_same or current.stop_asked_at is not None:
            return False
        said = Outcome(
            at=now, attempt=run.attempt, result="failed", reason=reason, message=message
        ).model_dump_json()
        unit.runs.save(
            replace(current, pending_outcome=current.pending_outcome or said, stop_asked_at=now)
        )
        unit.events.add(Event(run.id, now, "watchdog", "stalled", message, reason=reason))
    return True


def _take_rest(run: Run, *, world: World) -> None:
    """What no database can hold keeps no run from its end: it is told, and stays on the disk."""
    try:
        take_rest_from_disk(run.id, world=world)
    except ValueRefused as error:
        log.warning("records.refused", run_id=run.id, why=str(error))
        now = world.clock.now()
        with world.store.begin() as unit:
            unit.events.add(Event(run.id, now, "service", "refused", str(error)))


def _ended(unit: Unit, run: Run, job: Job | None, *, world: World) -> tuple[Run, Attempt | None]:
    now = world.clock.now()
    said = run.pending_outcome
    outcome = None if said is None else Outcome.model_validate_json(said)
    verdict = after_attempt(run, job, outcome, max_strikes=world.rules.max_attempts)
    ended = _run_after(run, verdict, at=now)
    unit.runs.save(ended)
    attempt = _close_attempt(unit, run, job, outcome, verdict, at=now)
    details = verdict.message or f"Attempt {run.attempt} succeeded."
    unit.events.add(
        Event(run.id, now, "service", "moved", details, run.state, verdict.state, verdict.reason)
    )
    return ended, attempt


def _run_after(run: Run, verdict: Verdict, *, at: datetime) -> Run:
    last_step = 0 if run.progress is None else run.progress.step
    return replace(
        move(run, verdict.state, at=at),
        reason=verdict.reason,
        message=verdict.message,
        strikes=verdict.strikes,
        furthest_step=max(run.furthest_step, last_step),
        pack_size=1 if verdict.reason is FailureReason.PACK_OUT_OF_MEMORY else run.pack_size,
        not_before=at + timedelta(seconds=verdict.pause_s) if verdict.pause_s else None,
        stop_asked_at=None,
        preempted_for=None,
    )


def _close_attempt(
    unit: Unit,
    run: Run,
    job: Job | None,
    outcome: Outcome | None,
    verdict: Verdict,
    *,
    at: datetime,
) -> Attempt | None:
    attempt = unit.attempts.get(run.id, run.attempt)
    if attempt is None:
        return None
    closed = replace(
        attempt,
        ended_at=at,
        exit_code=None if job is None else job.exit_code,
        node_id=_node_of(attempt, job, outcome),
        reason=verdict.reason,
        message=verdict.message,
    )
    unit.attempts.save(closed)
    return closed


def _node_of(attempt: Attempt, job: Job | None, outcome: Outcome | None) -> str | None:
    """The node that answers for how an attempt ended: where it ran, or where it failed.

    The job of several processes is only their driver, which trains nothing. If it says that they
    failed, and not on which node, then no node is to be blamed.
    """
    of_job = attempt.node_id or (None if job is None else job.node_id)
    if attempt.processes == 1 or outcome is None or outcome.result != "failed":
        return of_job
    return outcome.node_id


def _tidy(run: Run, attempt: Attempt | None, *, world: World) -> None:
    """Have processes that an attempt may have left on its node ended by a job there.

    The next attempt does the same on its own node, so nothing is lost if this job is.
    """
    if attempt is None or attempt.node_id is None:
        return
    token_file = world.files.run_dir(run.id) / RunFile.TOKEN
    shows = () if world.key is None else ("--token-file", str(token_file))
    order = Order(
        submission_id=f"{attempt.submission_id}-tidy",
        command=("tandem-worker", "tidy", "--report-to", world.report_url, *shows),
        num_cpus=0,
        num_gpus=0,
        metadata={"run_id": run.id},
        node_id=attempt.node_id,
    )
    try:
        world.cluster.submit(order)
    except (Unreachable, JobRefused) as error:
        log.warning("tidy.not_submitted", attempt=attempt.submission_id, why=str(error))
