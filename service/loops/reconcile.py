"""Our rows against Ray's truth: after any restart, every run is found again.

"Ray does not answer" is not "the job is gone", and "Ray does not know it" is not "its processes are
dead": a driver on a worker node outlives its head for a while, so silence decides.
"""

from dataclasses import replace
from datetime import datetime

import structlog

from configs.spec import FailureReason, Outcome
from service.domain.policy import Job
from service.domain.runs import Event, Run, move
from service.domain.states import RunState
from service.usecases.attempts import end_attempt, order_of
from service.usecases.world import World

log = structlog.get_logger(__name__)


def reconcile_active(world: World) -> None:
    """Look at the job of every run that has one."""
    with world.store.begin() as unit:
        active = unit.runs.in_states(RunState.STARTING, RunState.RUNNING)
    for run in active:
        job = world.cluster.look(run.submission_id)
        if job is None:
            _without_job(run, world=world)
        elif job.is_over:
            ended = end_attempt(run, job, world=world)
            log.info("attempt.ended", run_id=run.id, attempt=run.attempt, state=ended.state)
        else:
            _with_live_job(run, job, world=world)


def _without_job(run: Run, *, world: World) -> None:
    if run.heard_at is None and run.state is RunState.STARTING:
        if run.desired == "cancelled":
            end_attempt(run, None, world=world)
        else:
            # We died between writing the attempt and submitting it, or Ray forgot it at once.
            world.cluster.submit(order_of(run, world=world))
    elif _silent_s(run, world.clock.now()) > world.rules.lost_after_s:
        end_attempt(run, None, world=world)


def _with_live_job(run: Run, job: Job, *, world: World) -> None:
    now = world.clock.now()
    if run.state is RunState.STARTING and job.state == "running":
        _mark_running(run, world=world)
    if (
        run.stop_asked_at is not None
        and (now - run.stop_asked_at).total_seconds() > world.rules.stop_grace_s
    ):
        world.cluster.stop(run.submission_id)
    if _silent_s(run, now) > world.rules.stall_after_s:
        _end_stalled(run, world=world)


def _mark_running(run: Run, *, world: World) -> None:
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.get(run.id)
        if current.state is not RunState.STARTING or current.attempt != run.attempt:
            return
        unit.runs.save(move(current, RunState.RUNNING, at=now))
        unit.events.add(
            Event(
                run.id,
                now,
                "service",
                "moved",
                "Ray runs the job.",
                current.state,
                RunState.RUNNING,
            )
        )


def _end_stalled(run: Run, *, world: World) -> None:
    """Stop a job of which nothing is heard; its end is seen at a later look."""
    # Asking for logs also wakes a head that shows a dead job as running (ray#65037).
    world.cluster.logs(run.submission_id)
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.get(run.id)
        if current.pending_outcome is None:
            message = f"Nothing was heard for {world.rules.stall_after_s:g} s."
            said = Outcome(
                at=now,
                attempt=current.attempt,
                result="failed",
                reason=FailureReason.STALLED,
                message=message,
            )
            unit.runs.save(replace(current, pending_outcome=said.model_dump_json()))
            unit.events.add(
                Event(run.id, now, "watchdog", "stalled", message, reason=FailureReason.STALLED)
            )
    world.cluster.stop(run.submission_id)


def _silent_s(run: Run, now: datetime) -> float:
    return (now - (run.heard_at or run.changed_at)).total_seconds()
