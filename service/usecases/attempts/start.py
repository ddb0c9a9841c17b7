"""Starts attempts: creates their rows, writes their files, submits their jobs."""

from dataclasses import replace
from datetime import datetime

from configs.addresses import remove_credentials
from configs.protocol.names import Env, RunFile
from configs.spec.jobs import ReportSpec
from service.domain.errors.systems import JobRefused
from service.domain.ports import JobRequest
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, Event, Run, transition, transition_event
from service.domain.scheduling.capacity import describe_fewer_processes
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.usecases.attempts.numbering import add_unknown_attempts, choose_next_attempt
from service.usecases.attempts.resolve import resolve_spec
from service.usecases.context import Context
from service.usecases.leadership import Guard, no_guard
from service.usecases.report_inputs import build_report_inputs
from service.usecases.runs.transitions import record_transition
from service.usecases.worker_tokens import write_mlflow_url, write_worker_token

_TEACHER_SCORES_DIR = "teacher-scores"
"""Cache folder for the scores of teachers by dataset, next to the folders of runs."""


def start_attempt(
    run_id: str,
    *,
    processes: int,
    avoid: frozenset[str] = frozenset(),
    guard: Guard = no_guard,
    ctx: Context,
) -> Run | None:
    """Create the next attempt of a queued run and submit it; `None` if the run is no longer queued.

    The attempt is in the database before its job is submitted, and the job's id follows from it:
    submitting again for an attempt whose job is missing cannot create a second job.
    """
    with ctx.store.snapshot() as uow:
        run = uow.runs.get(run_id)
    write_job_files_once(run, ctx=ctx)
    number = choose_next_attempt(run, ctx=ctx)
    with ctx.store.transaction() as uow:
        guard(uow)
        run = uow.runs.get_for_update(run_id)
        if run.state is not RunState.QUEUED or run.attempt >= number:
            return None
        started = create_attempt(uow, run, number=number, processes=processes, at=ctx.clock.now())
    submit_attempt(started, avoid=avoid, ctx=ctx)
    return started


def create_attempt(
    uow: UnitOfWork,
    run: Run,
    *,
    number: int,
    processes: int,
    at: datetime,
    pack_job: str | None = None,
) -> Run:
    """Store the next attempt of a queued run, before its job is submitted. `number` is that of
    `choose_next_attempt`."""
    add_unknown_attempts(uow, run, before=number, at=at)
    starting = transition(run, RunState.STARTING, at=at)
    started = replace(
        starting,
        attempt=number,
        stop_requested_at=None,
        reason=None,
        message="",
        queue=replace(starting.queue, preempted_for=None),
        pack=replace(run.pack, job=pack_job),
        retries=replace(run.retries, not_before=None),
        ingest=replace(run.ingest, last_seen_at=None, pending_outcome=None),
    )
    uow.runs.save(started)
    resources = run.spec.resources
    attempt = Attempt(
        run.id,
        started.attempt,
        started.submission_id,
        at,
        processes,
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        pack_job=pack_job,
    )
    uow.attempts.add(attempt)
    details = f"Attempt {started.attempt} as Ray job {started.job_id}."
    uow.events.add(transition_event(run, started.state, actor="service", at=at, details=details))
    if processes < resources.processes:
        details = describe_fewer_processes(resources, processes)
        uow.events.add(Event(run.id, at, "service", EventKind.PROCESSES_REDUCED, details))
    return started


def write_attempt_secrets(run: Run, *, ctx: Context) -> None:
    """Write what gives a run's current attempt access to service and MLflow into its folder."""
    run_dir = ctx.files.run_dir(run.id)
    write_worker_token(run_dir, run.id, run.attempt, ctx=ctx)
    write_mlflow_url(run_dir, ctx=ctx)


def submit_attempt(run: Run, *, avoid: frozenset[str] = frozenset(), ctx: Context) -> None:
    """Submit the job of a run's current attempt; `JobRefused` is recorded once, and raised."""
    write_attempt_secrets(run, ctx=ctx)
    try:
        ctx.cluster.submit(build_job_request(run, avoid=avoid, ctx=ctx))
    except JobRefused as error:
        record_job_rejection(run, reason=str(error), ctx=ctx)
        raise


def record_job_rejection(run: Run, *, reason: str, ctx: Context) -> None:
    """Store the cluster's reason for rejecting a job as the run's message, and add one event."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id, owner=ctx.owner)
        if current.attempt != run.attempt or current.message == reason:
            return
        uow.runs.save(replace(current, message=reason))
        uow.events.add(Event(run.id, now, "service", EventKind.JOB_REJECTED, reason))


def write_job_files_once(run: Run, *, ctx: Context) -> None:
    """Write the resolved spec, and the inputs of a report, into the run's folder.

    Names are resolved and inputs collected for the first attempt only, so that later attempts
    resume with the same files. Raises `NotFound` for a missing reference.
    """
    run_dir = ctx.files.run_dir(run.id)
    spec_file = run_dir / RunFile.SPEC
    if run.attempt > 0 and ctx.files.length_bytes(spec_file):
        return
    if isinstance(run.spec, ReportSpec):
        inputs = build_report_inputs(run.spec, ctx=ctx)
        ctx.files.write(run_dir / RunFile.REPORT_INPUTS, inputs.model_dump_json(indent=2))
    resolved = resolve_spec(run.spec, ctx=ctx)
    ctx.files.write(spec_file, resolved.model_dump_json(indent=2))


def build_job_request(run: Run, *, avoid: frozenset[str], ctx: Context) -> JobRequest:
    """The job of a run's current attempt.

    With several processes the job is a driver without resources, which places them.
    """
    run_dir = ctx.files.run_dir(run.id)
    resources, processes = run.spec.resources, _count_processes(run, ctx=ctx)
    command = [
        "tandem-worker",
        run.task,
        *("--spec", str(run_dir / RunFile.SPEC)),
        *("--run-dir", str(run_dir)),
        *("--run-id", run.id),
        *("--attempt", str(run.attempt)),
        *("--service-url", ctx.service_url),
        *("--mlflow-url", remove_credentials(ctx.mlflow_url)),
        *("--name", run.name),
        *("--project", run.project),
        *("--stall-timeout", f"{ctx.policy.stall_timeout_s:g}"),
    ]
    if run.preset is not None:
        command += ["--preset", run.preset]
    if run.task == "probe":
        command += ["--cache", str(run_dir.parent.parent / _TEACHER_SCORES_DIR)]
    if resources.processes > 1:
        command += ["--processes", str(processes)]
        for node_id in sorted(avoid):
            command += ["--avoid", node_id]
    return JobRequest(
        submission_id=run.submission_id,
        command=tuple(command),
        num_cpus=resources.num_cpus if processes == 1 else 0,
        num_gpus=resources.num_gpus if processes == 1 else 0,
        metadata={"run_id": run.id, "attempt": str(run.attempt), "name": run.name},
        environment={Env.ATTEMPT: run.submission_id},
        avoid=avoid if processes == 1 else frozenset(),
    )


def _count_processes(run: Run, *, ctx: Context) -> int:
    with ctx.store.snapshot() as uow:
        attempt = uow.attempts.get(run.id, run.attempt)
    return run.spec.resources.processes if attempt is None else attempt.processes


def mark_running(run: Run, *, ctx: Context) -> None:
    """Move a starting run to `RUNNING`, because Ray reports its job as running."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id, owner=ctx.owner)
        if current.state is not RunState.STARTING or current.attempt != run.attempt:
            return
        running = transition(current, RunState.RUNNING, at=now)
        details = "Ray reports the job as running."
        record_transition(uow, current, running, actor="service", details=details)


def record_node(run: Run, *, node_id: str, ctx: Context) -> None:
    """Store the id of the node on which the current attempt runs, once."""
    with ctx.store.transaction() as uow:
        attempt = uow.attempts.get(run.id, run.attempt)
        if attempt is not None and attempt.node_id is None:
            uow.attempts.save(replace(attempt, node_id=node_id))
