"""How attempts end: asked to leave, stalled, over; and what their runs become."""

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.protocol.records import Outcome
from service.domain.errors import JobRefused, Unreachable, ValueRefused
from service.domain.ports import Job, JobRequest
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, Event, Run, name_visible_to, transition
from service.domain.scheduling.outcomes import AttemptVerdict, conclude_attempt
from service.domain.states import ACTIVE_STATES
from service.usecases.attempts.records import count_unshipped_records, import_spool
from service.usecases.context import Context
from service.usecases.runs.logs import store_remaining_log

_LAST_SHIPMENT_S = 60.0
"""How long a member that has left its pack brings what it said."""

log = structlog.get_logger(__name__)


def end_attempt(run: Run, job: Job | None, *, ctx: Context) -> Run:
    """What becomes of a run whose job is over; records that were not delivered are taken first."""
    _take_rest(run, ctx=ctx)
    store_remaining_log(run.id, run.attempt, ctx=ctx)
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id, owner=ctx.owner)
        if current.attempt != run.attempt or current.state not in ACTIVE_STATES:
            return current
        ended, attempt = _ended(uow, current, job, ctx=ctx)
        beside = [] if run.pack_job is None else uow.runs.of_pack(run.pack_job)
    if not beside and not _has_left_by_itself(current, job):
        _tidy(ended, attempt, ctx=ctx)
    return ended


def _has_left_by_itself(run: Run, job: Job | None) -> bool:
    """Whether no process of the attempt can be left; a pack's last member may speak before its
    job ends."""
    if job is None:
        return False
    is_leaving = run.pack_job is not None and run.pending_outcome is not None
    return job.has_exited_by_itself or (is_leaving and not job.is_over)


def has_left_pack(run: Run, *, ctx: Context) -> bool:
    """Whether a member has had its last word, though its pack's job goes on.

    What it still brings to MLflow is waited for: else another job would bring it too.
    """
    if run.pack_job is None or run.pending_outcome is None:
        return False
    silent_s = (ctx.clock.now() - (run.last_seen_at or run.updated_at)).total_seconds()
    return silent_s > _LAST_SHIPMENT_S or count_unshipped_records(run, ctx=ctx) == 0


def preempt_run(run_id: str, *, preemptor: Run, is_merge: bool = False, ctx: Context) -> None:
    """Have a run's attempt leave with a checkpoint; its worker hears of it at its next word.

    `joins`: it is to go on side by side with the survivors of another pack.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        if run.state not in ACTIVE_STATES or run.stop_kind is not None:
            return
        asked = replace(
            run, preempted_for=preemptor.id, stop_requested_at=run.stop_requested_at or now
        )
        whom = name_visible_to(preemptor, of=run)
        details = (
            f"It makes room for {whom}, whose priority is {preemptor.priority} and not "
            f"{run.priority}."
        )
        if is_merge:
            details = f"It goes on in one pack with others, which makes room for {whom}."
        uow.runs.save(asked)
        uow.events.add(
            Event(run.id, now, "queue", "preempted", details, reason=FailureReason.PREEMPTED)
        )
    ctx.counters.count("preemptions")


def mark_stalled(run: Run, *, ctx: Context) -> bool:
    """Write down that nothing is heard of an attempt; whether that is new."""
    now = ctx.clock.now()
    reason = FailureReason.STALLED
    message = f"Nothing was heard for {ctx.policy.stall_timeout_s:g} s."
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id, owner=ctx.owner)
        is_same = current.attempt == run.attempt and current.state in ACTIVE_STATES
        if not is_same or current.stop_requested_at is not None:
            return False
        said = Outcome(
            at=now, attempt=run.attempt, result="failed", reason=reason, message=message
        ).model_dump_json()
        uow.runs.save(
            replace(current, pending_outcome=current.pending_outcome or said, stop_requested_at=now)
        )
        uow.events.add(Event(run.id, now, "watchdog", "stalled", message, reason=reason))
    return True


def _take_rest(run: Run, *, ctx: Context) -> None:
    """What no database can hold keeps no run from its end: it is told, and stays on the disk."""
    try:
        import_spool(run.id, ctx=ctx)
    except ValueRefused as error:
        log.warning("records.refused", run_id=run.id, why=str(error))
        now = ctx.clock.now()
        with ctx.store.transaction() as uow:
            uow.events.add(Event(run.id, now, "service", "refused", str(error)))


def _ended(
    uow: UnitOfWork, run: Run, job: Job | None, *, ctx: Context
) -> tuple[Run, Attempt | None]:
    now = ctx.clock.now()
    said = run.pending_outcome
    outcome = None if said is None else Outcome.model_validate_json(said)
    verdict = conclude_attempt(run, job, outcome, max_consecutive_failures=ctx.policy.max_attempts)
    ended = _run_after(run, verdict, at=now)
    uow.runs.save(ended)
    attempt = _close_attempt(uow, run, job, outcome, verdict, at=now)
    details = verdict.message or f"Attempt {run.attempt} succeeded."
    uow.events.add(
        Event(run.id, now, "service", "moved", details, run.state, verdict.state, verdict.reason)
    )
    return ended, attempt


def _run_after(run: Run, verdict: AttemptVerdict, *, at: datetime) -> Run:
    last_step = 0 if run.progress is None else run.progress.step
    return replace(
        transition(run, verdict.state, at=at),
        reason=verdict.reason,
        message=verdict.message,
        consecutive_failures=verdict.consecutive_failures,
        max_step=max(run.max_step, last_step),
        pack_size=1 if verdict.reason is FailureReason.PACK_OUT_OF_MEMORY else run.pack_size,
        not_before=at + timedelta(seconds=verdict.retry_delay_s) if verdict.retry_delay_s else None,
        stop_requested_at=None,
        preempted_for=None,
    )


def _close_attempt(
    uow: UnitOfWork,
    run: Run,
    job: Job | None,
    outcome: Outcome | None,
    verdict: AttemptVerdict,
    *,
    at: datetime,
) -> Attempt | None:
    attempt = uow.attempts.get(run.id, run.attempt)
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
    uow.attempts.save(closed)
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


def _tidy(run: Run, attempt: Attempt | None, *, ctx: Context) -> None:
    """Have processes that an attempt may have left on its node ended by a job there.

    The next attempt does the same on its own node, so nothing is lost if this job is.
    """
    if attempt is None or attempt.node_id is None:
        return
    token_file = ctx.files.run_dir(run.id) / RunFile.TOKEN
    shows = () if ctx.signing_key is None else ("--token-file", str(token_file))
    order = JobRequest(
        submission_id=f"{attempt.submission_id}-cleanup",
        command=("tandem-worker", "cleanup", "--service-url", ctx.service_url, *shows),
        num_cpus=0,
        num_gpus=0,
        metadata={"run_id": run.id},
        node_id=attempt.node_id,
    )
    try:
        ctx.cluster.submit(order)
    except (Unreachable, JobRefused) as error:
        log.warning("cleanup.not_submitted", attempt=attempt.submission_id, why=str(error))
