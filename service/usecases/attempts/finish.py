"""Ends attempts: preempts, marks as stalled, concludes; and updates their runs."""

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from configs.protocol.failure import FailureReason
from configs.protocol.records import Outcome
from service.domain.errors.requests import ValueRefused
from service.domain.errors.systems import ClusterFault, JobRefused, Unreachable
from service.domain.ports import Job, JobRequest
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import (
    Attempt,
    Event,
    Retries,
    Run,
    name_visible_to,
    transition,
    transition_event,
)
from service.domain.scheduling.outcomes import AttemptVerdict, conclude_attempt
from service.domain.states import ACTIVE_STATES
from service.domain.vocabulary import EventKind
from service.usecases.attempts.records import count_unshipped_records, import_spool
from service.usecases.context import Context
from service.usecases.leadership import Guard, no_guard
from service.usecases.runs.logs import store_remaining_log
from service.usecases.worker_tokens import token_file_options

_MAX_FLUSH_S = 60.0
"""How long a run that left its pack may ship its last records to MLflow."""

log = structlog.get_logger(__name__)


def end_attempt(run: Run, job: Job | None, *, ctx: Context) -> Run:
    """Conclude the attempt of a run whose job is over, after importing its remaining records and
    log; returns the updated run, or the current one if the attempt was concluded before."""
    _import_remaining_records(run, ctx=ctx)
    store_remaining_log(run.id, run.attempt, ctx=ctx)
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id, owner=ctx.owner)
        if current.attempt != run.attempt or current.state not in ACTIVE_STATES:
            return current
        ended, attempt = _conclude(uow, current, job, ctx=ctx)
        packmates = [] if run.pack.job is None else uow.runs.of_pack(run.pack.job)
    if not packmates and not _has_no_processes(current, job):
        _submit_cleanup(ended, attempt, ctx=ctx)
    return ended


def _has_no_processes(run: Run, job: Job | None) -> bool:
    """Whether no process of the attempt can still run. The last run of a pack may report its
    outcome shortly before the pack's job ends."""
    if job is None:
        return False
    is_last_packmate = run.pack.job is not None and run.ingest.pending_outcome is not None
    return job.has_exited_by_itself or (is_last_packmate and not job.is_over)


def has_left_pack(run: Run, *, ctx: Context) -> bool:
    """Whether a run of a pack reported its outcome while the pack's job still runs.

    Waits until its records are shipped to MLflow: otherwise a flush job would ship them as well.
    """
    if run.pack.job is None or run.ingest.pending_outcome is None:
        return False
    last_seen_at = run.ingest.last_seen_at or run.updated_at
    heartbeat_age_s = (ctx.clock.now() - last_seen_at).total_seconds()
    return heartbeat_age_s > _MAX_FLUSH_S or count_unshipped_records(run, ctx=ctx) == 0


def preempt_run(
    run_id: str,
    *,
    preemptor: Run,
    is_merge: bool = False,
    guard: Guard = no_guard,
    ctx: Context,
) -> None:
    """Request a run's attempt to stop with a checkpoint, to release capacity for `preemptor`.

    The worker learns of it from the receipt of its next delivery. `is_merge`: the run resumes in
    one pack with the runs of another pack.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        guard(uow)
        run = uow.runs.get_for_update(run_id)
        if run.state not in ACTIVE_STATES or run.stop_kind is not None:
            return
        preempted = replace(
            run,
            stop_requested_at=run.stop_requested_at or now,
            queue=replace(run.queue, preempted_for=preemptor.id),
        )
        preemptor_name = name_visible_to(preemptor, of=run)
        details = (
            f"Preempted for {preemptor_name}: its priority is {preemptor.queue.priority}, "
            f"this run's is {run.queue.priority}."
        )
        if is_merge:
            details = f"Resumes in a merged pack, to release capacity for {preemptor_name}."
        uow.runs.save(preempted)
        uow.events.add(
            Event(
                run.id, now, "queue", EventKind.PREEMPTED, details, reason=FailureReason.PREEMPTED
            )
        )
    ctx.counters.count("preemptions")


def mark_stalled(run: Run, *, ctx: Context) -> bool:
    """Request the stop of an attempt without heartbeats; returns whether it was still running
    normally."""
    now = ctx.clock.now()
    reason = FailureReason.STALLED
    message = f"No heartbeat for {ctx.policy.stall_timeout_s:g} s."
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id, owner=ctx.owner)
        is_same = current.attempt == run.attempt and current.state in ACTIVE_STATES
        if not is_same or current.stop_requested_at is not None:
            return False
        outcome_json = Outcome(
            at=now, attempt=run.attempt, result="failed", reason=reason, message=message
        ).model_dump_json()
        ingest = replace(
            current.ingest, pending_outcome=current.ingest.pending_outcome or outcome_json
        )
        uow.runs.save(replace(current, stop_requested_at=now, ingest=ingest))
        uow.events.add(Event(run.id, now, "watchdog", EventKind.STALLED, message, reason=reason))
    return True


def _import_remaining_records(run: Run, *, ctx: Context) -> None:
    """Import undelivered records. Records that the database rejects do not keep the run from
    ending: they stay in the spool, and an event says so."""
    try:
        import_spool(run.id, ctx=ctx)
    except ValueRefused as error:
        log.warning("records.rejected", run_id=run.id, reason=str(error))
        now = ctx.clock.now()
        with ctx.store.transaction() as uow:
            uow.events.add(Event(run.id, now, "service", EventKind.RECORDS_REJECTED, str(error)))


def _conclude(
    uow: UnitOfWork, run: Run, job: Job | None, *, ctx: Context
) -> tuple[Run, Attempt | None]:
    now = ctx.clock.now()
    outcome_json = run.ingest.pending_outcome
    outcome = None if outcome_json is None else Outcome.model_validate_json(outcome_json)
    verdict = conclude_attempt(run, job, outcome, max_consecutive_failures=ctx.policy.max_attempts)
    ended = _apply_verdict(run, verdict, at=now)
    uow.runs.save(ended)
    attempt = _close_attempt(uow, run, job, outcome, verdict, at=now)
    details = verdict.message or f"Attempt {run.attempt} succeeded."
    uow.events.add(
        transition_event(
            run, verdict.state, actor="service", at=now, details=details, reason=verdict.reason
        )
    )
    return ended, attempt


def _apply_verdict(run: Run, verdict: AttemptVerdict, *, at: datetime) -> Run:
    last_step = 0 if run.results.progress is None else run.results.progress.step
    retries = Retries(
        consecutive_failures=verdict.consecutive_failures,
        max_step=max(run.retries.max_step, last_step),
        not_before=at + timedelta(seconds=verdict.retry_delay_s) if verdict.retry_delay_s else None,
    )
    pack_size = 1 if verdict.reason is FailureReason.PACK_OUT_OF_MEMORY else run.pack.size
    ended = transition(run, verdict.state, at=at)
    return replace(
        ended,
        reason=verdict.reason,
        message=verdict.message,
        stop_requested_at=None,
        queue=replace(ended.queue, preempted_for=None),
        pack=replace(run.pack, size=pack_size),
        retries=retries,
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
        node_id=_find_node(attempt, job, outcome),
        reason=verdict.reason,
        message=verdict.message,
    )
    uow.attempts.save(closed)
    return closed


def _find_node(attempt: Attempt, job: Job | None, outcome: Outcome | None) -> str | None:
    """The node to blame for the end of an attempt: where it ran, or where a process failed.

    With several processes the job is only their driver, which trains nothing. If the outcome is a
    failure without a node, no node is blamed.
    """
    node_of_job = attempt.node_id or (None if job is None else job.node_id)
    if attempt.processes == 1 or outcome is None or outcome.result != "failed":
        return node_of_job
    return outcome.node_id


def _submit_cleanup(run: Run, attempt: Attempt | None, *, ctx: Context) -> None:
    """Submit a job that ends leftover processes of an attempt on its node.

    The next attempt cleans up its own node as well, so a lost cleanup job does no harm.
    """
    if attempt is None or attempt.node_id is None:
        return
    token_options = token_file_options(ctx.files.run_dir(run.id), ctx=ctx)
    request = JobRequest(
        submission_id=f"{attempt.submission_id}-cleanup",
        command=("tandem-worker", "cleanup", "--service-url", ctx.service_url, *token_options),
        num_cpus=0,
        num_gpus=0,
        metadata={"run_id": run.id},
        node_id=attempt.node_id,
    )
    try:
        ctx.cluster.submit(request)
    except (Unreachable, ClusterFault, JobRefused) as error:
        log.warning("cleanup.not_submitted", attempt=attempt.submission_id, reason=str(error))
