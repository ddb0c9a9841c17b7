"""From a queued run to a job, and from a job's end to what follows."""

from dataclasses import replace
from datetime import datetime

from configs.spec import FailureReason, Outcome, RunFile
from service.domain.errors import JobRefused
from service.domain.policy import Job, after_attempt
from service.domain.ports import Order, Unit
from service.domain.room import fewer_in_words
from service.domain.runs import Attempt, Event, Run, move
from service.domain.states import ACTIVE, RunState
from service.usecases.deliveries import take_rest_from_disk
from service.usecases.resolve import resolved_spec
from service.usecases.world import World


def start_attempt(run_id: str, *, processes: int, world: World) -> Run | None:
    """Make the next attempt of a queued run and submit it; none if the run is not queued any more.

    The attempt is in the database before its job is submitted, and the job's id follows from it:
    whoever finds an attempt without a job submits again and hits the same one.
    """
    with world.store.begin() as unit:
        run = unit.runs.get(run_id)
    _write_spec_once(run, world=world)
    now = world.clock.now()
    with world.store.begin() as unit:
        run = unit.runs.take(run_id, owner=world.owner)
        if run.state is not RunState.QUEUED:
            return None
        started = replace(
            move(run, RunState.STARTING, at=now),
            attempt=run.attempt + 1,
            pending_outcome=None,
            heard_at=None,
            reason=None,
            message="",
        )
        unit.runs.save(started)
        attempt = Attempt(run.id, started.attempt, started.submission_id, now, processes)
        unit.attempts.add(attempt)
        details = f"Attempt {started.attempt} as Ray job {started.submission_id}."
        unit.events.add(Event(run.id, now, "service", "moved", details, run.state, started.state))
        if processes < run.spec.resources.processes:
            fewer = fewer_in_words(run.spec.resources, processes)
            unit.events.add(Event(run.id, now, "service", "fewer_processes", fewer))
    submit_attempt(started, world=world)
    return started


def submit_attempt(run: Run, *, world: World) -> None:
    """Submit the job of a run's current attempt; a refusal is told once, and raised."""
    try:
        world.cluster.submit(order_of(run, world=world))
    except JobRefused as error:
        _note_refusal(run, why=str(error), world=world)
        raise


def _note_refusal(run: Run, *, why: str, world: World) -> None:
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        if current.attempt != run.attempt or current.message == why:
            return
        unit.runs.save(replace(current, message=why))
        unit.events.add(Event(run.id, now, "service", "refused", why))


def _write_spec_once(run: Run, *, world: World) -> None:
    """Names are resolved for the first attempt only: later ones go on with the same files."""
    spec_file = world.files.run_dir(run.id) / RunFile.SPEC
    if run.attempt > 0 and world.files.text(spec_file):
        return
    resolved = resolved_spec(run.spec, world=world)
    world.files.write(spec_file, resolved.model_dump_json(indent=2))


def order_of(run: Run, *, world: World) -> Order:
    """The job of a run's current attempt; several processes are placed by a driver that is none."""
    run_dir = world.files.run_dir(run.id)
    asked, processes = run.spec.resources, processes_of(run, world=world)
    command = [
        "tandem-worker",
        run.task,
        *("--spec", str(run_dir / RunFile.SPEC)),
        *("--run-dir", str(run_dir)),
        *("--run-id", run.id),
        *("--attempt", str(run.attempt)),
        *("--report-to", world.report_url),
        *("--mlflow", world.mlflow_url),
        *("--name", run.name),
    ]
    if run.preset is not None:
        command += ["--preset", run.preset]
    if asked.processes > 1:
        command += ["--processes", str(processes)]
    return Order(
        submission_id=run.submission_id,
        command=tuple(command),
        num_cpus=asked.num_cpus if processes == 1 else 0,
        num_gpus=asked.num_gpus if processes == 1 else 0,
        metadata={"run_id": run.id, "attempt": str(run.attempt), "name": run.name},
    )


def processes_of(run: Run, *, world: World) -> int:
    """How many processes the current attempt has."""
    with world.store.begin() as unit:
        attempt = unit.attempts.get(run.id, run.attempt)
    return run.spec.resources.processes if attempt is None else attempt.processes


def end_attempt(run: Run, job: Job | None, *, world: World) -> Run:
    """What becomes of a run whose job is over; records that were not delivered are taken first."""
    take_rest_from_disk(run.id, world=world)
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        if current.attempt != run.attempt or current.state not in ACTIVE:
            return current
        said = current.pending_outcome
        outcome = None if said is None else Outcome.model_validate_json(said)
        verdict = after_attempt(current, job, outcome, max_attempts=world.rules.max_attempts)
        ended = replace(
            move(current, verdict.state, at=now),
            reason=verdict.reason,
            message=verdict.message,
            stop_asked_at=None,
        )
        unit.runs.save(ended)
        _close_attempt(unit, ended, job, at=now)
        unit.events.add(
            Event(
                run.id,
                now,
                "service",
                "moved",
                verdict.message or f"Attempt {run.attempt} succeeded.",
                current.state,
                ended.state,
                verdict.reason,
            )
        )
        return ended


def _close_attempt(unit: Unit, run: Run, job: Job | None, *, at: datetime) -> None:
    attempt = unit.attempts.get(run.id, run.attempt)
    if attempt is not None:
        exit_code = None if job is None else job.exit_code
        unit.attempts.save(
            replace(
                attempt,
                ended_at=at,
                exit_code=exit_code,
                reason=run.reason,
                message=run.message,
            )
        )


def mark_running(run: Run, *, world: World) -> None:
    """Ray runs the job."""
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        if current.state is not RunState.STARTING or current.attempt != run.attempt:
            return
        running = move(current, RunState.RUNNING, at=now)
        unit.runs.save(running)
        details = "Ray runs the job."
        unit.events.add(
            Event(run.id, now, "service", "moved", details, current.state, running.state)
        )


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


def hear_from_disk(run_id: str, *, world: World) -> bool:
    """Whether a worker that cannot reach us has written on; what it wrote is taken."""
    with world.store.begin() as unit:
        before = unit.runs.get(run_id).spool_next
    return take_rest_from_disk(run_id, world=world).spool_next > before


def fail_queued_run(run: Run, *, message: str, world: World) -> None:
    """End a run that can never start."""
    now = world.clock.now()
    reason = FailureReason.INVALID_SPEC
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        if current.state is not RunState.QUEUED:
            return
        failed = replace(move(current, RunState.FAILED, at=now), reason=reason, message=message)
        unit.runs.save(failed)
        unit.events.add(
            Event(run.id, now, "service", "moved", message, current.state, failed.state, reason)
        )


def note_waiting(run: Run, *, why: str, world: World) -> None:
    """Say once why a run does not start."""
    if run.waiting_for == why:
        return
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        if current.state is not RunState.QUEUED:
            return
        unit.runs.save(replace(current, waiting_for=why))
        unit.events.add(Event(run.id, now, "service", "waiting", why))
