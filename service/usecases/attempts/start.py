"""From a queued run to a job that runs."""

from dataclasses import replace
from datetime import datetime

from configs.protocol.names import Env, RunFile
from service.domain.access import seal_of
from service.domain.errors import JobRefused
from service.domain.ports import Order
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Attempt, Event, Run, move
from service.domain.scheduling.capacity import fewer_in_words
from service.domain.states import RunState
from service.usecases.attempts.resolve import resolved_spec
from service.usecases.context import World

_TEACHER_SCORES = "teacher-scores"
"""Folder beside those of runs: what teachers are worth on which images, measured once."""


def start_attempt(
    run_id: str, *, processes: int, avoid: frozenset[str] = frozenset(), world: World
) -> Run | None:
    """Make the next attempt of a queued run and submit it; none if the run is not queued any more.

    The attempt is in the database before its job is submitted, and the job's id follows from it:
    whoever finds an attempt without a job submits again and hits the same one.
    """
    with world.store.begin() as unit:
        run = unit.runs.get(run_id)
    write_spec_once(run, world=world)
    with world.store.begin() as unit:
        run = unit.runs.take(run_id)
        if run.state is not RunState.QUEUED:
            return None
        started = begin_attempt(unit, run, processes=processes, at=world.clock.now())
    submit_attempt(started, avoid=avoid, world=world)
    return started


def begin_attempt(
    unit: Unit, run: Run, *, processes: int, at: datetime, pack_job: str | None = None
) -> Run:
    """Write down that a queued run's next attempt begins, before its job is submitted."""
    started = replace(
        move(run, RunState.STARTING, at=at),
        attempt=run.attempt + 1,
        pack_job=pack_job,
        pending_outcome=None,
        heard_at=None,
        not_before=None,
        stop_asked_at=None,
        preempted_for=None,
        reason=None,
        message="",
    )
    unit.runs.save(started)
    asked = run.spec.resources
    attempt = Attempt(
        run.id,
        started.attempt,
        started.submission_id,
        at,
        processes,
        num_cpus=asked.num_cpus,
        num_gpus=asked.num_gpus,
        pack_job=pack_job,
    )
    unit.attempts.add(attempt)
    details = f"Attempt {started.attempt} as Ray job {started.job_id}."
    unit.events.add(Event(run.id, at, "service", "moved", details, run.state, started.state))
    if processes < asked.processes:
        fewer = fewer_in_words(asked, processes)
        unit.events.add(Event(run.id, at, "service", "fewer_processes", fewer))
    return started


def leave_seal(run: Run, *, world: World) -> None:
    """Leave in the run's folder what its worker shows to us."""
    if world.key is not None:
        file = world.files.run_dir(run.id) / RunFile.TOKEN
        seal = seal_of(run.id, run.attempt, key=world.key)
        world.files.write(file, seal, is_secret=True)


def submit_attempt(run: Run, *, avoid: frozenset[str] = frozenset(), world: World) -> None:
    """Submit the job of a run's current attempt; a refusal is told once, and raised."""
    leave_seal(run, world=world)
    try:
        world.cluster.submit(order_of(run, avoid=avoid, world=world))
    except JobRefused as error:
        note_refusal(run, why=str(error), world=world)
        raise


def note_refusal(run: Run, *, why: str, world: World) -> None:
    """Say once of a run that the cluster does not take its job."""
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.take(run.id, owner=world.owner)
        if current.attempt != run.attempt or current.message == why:
            return
        unit.runs.save(replace(current, message=why))
        unit.events.add(Event(run.id, now, "service", "refused", why))


def write_spec_once(run: Run, *, world: World) -> None:
    """Leave the spec in the run's folder.

    Names are resolved for the first attempt only: later ones go on with the same files.
    """
    spec_file = world.files.run_dir(run.id) / RunFile.SPEC
    if run.attempt > 0 and world.files.text(spec_file):
        return
    resolved = resolved_spec(run.spec, world=world)
    world.files.write(spec_file, resolved.model_dump_json(indent=2))


def order_of(run: Run, *, avoid: frozenset[str], world: World) -> Order:
    """The job of a run's current attempt; several processes are placed by a driver that is none."""
    run_dir = world.files.run_dir(run.id)
    asked, processes = run.spec.resources, _processes_of(run, world=world)
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
        *("--project", run.project),
        *("--stall-after", f"{world.rules.stall_after_s:g}"),
    ]
    if run.preset is not None:
        command += ["--preset", run.preset]
    if run.task == "probe":
        command += ["--cache", str(run_dir.parent.parent / _TEACHER_SCORES)]
    if asked.processes > 1:
        command += ["--processes", str(processes)]
        for node_id in sorted(avoid):
            command += ["--avoid", node_id]
    return Order(
        submission_id=run.submission_id,
        command=tuple(command),
        num_cpus=asked.num_cpus if processes == 1 else 0,
        num_gpus=asked.num_gpus if processes == 1 else 0,
        metadata={"run_id": run.id, "attempt": str(run.attempt), "name": run.name},
        environment={Env.ATTEMPT: run.submission_id},
        avoid=avoid if processes == 1 else frozenset(),
    )


def _processes_of(run: Run, *, world: World) -> int:
    """How many processes the current attempt has."""
    with world.store.begin() as unit:
        attempt = unit.attempts.get(run.id, run.attempt)
    return run.spec.resources.processes if attempt is None else attempt.processes


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


def note_node(run: Run, *, node_id: str, world: World) -> None:
    """Write down where the current attempt runs."""
    with world.store.begin() as unit:
        attempt = unit.attempts.get(run.id, run.attempt)
        if attempt is not None and attempt.node_id is None:
            unit.attempts.save(replace(attempt, node_id=node_id))
