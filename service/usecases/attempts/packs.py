"""Starts and submits several runs as one job."""

from collections.abc import Sequence

from configs.addresses import remove_credentials
from configs.protocol.names import Env
from configs.protocol.pack import PackJob, PackMember
from service.domain.errors.requests import NotFound
from service.domain.errors.systems import JobRefused
from service.domain.ids import new_pack_id
from service.domain.ports import JobRequest
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.usecases.attempts.numbering import choose_next_attempt
from service.usecases.attempts.start import (
    create_attempt,
    record_job_rejection,
    submit_attempt,
    write_attempt_secrets,
    write_job_files_once,
)
from service.usecases.attempts.waiting import fail_queued_run
from service.usecases.context import Context
from service.usecases.leadership import Guard, no_guard


def start_pack(
    runs: Sequence[Run], *, avoid: frozenset[str], guard: Guard = no_guard, ctx: Context
) -> None:
    """Create the next attempt of every run that is still queued, and submit one job for all.

    A run that can never start fails without affecting the others. `avoid`: ids of nodes on which
    the job must not run.
    """
    job, started = new_pack_id(), []
    ready = [run for run in runs if _ensure_job_files(run, ctx=ctx)]
    numbers = {run.id: choose_next_attempt(run, ctx=ctx) for run in ready}
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        guard(uow)
        # Rows are locked in the order of their ids wherever several are.
        ids = sorted(run.id for run in ready)
        current = {run_id: uow.runs.get_for_update(run_id) for run_id in ids}
        for run in (current[item.id] for item in ready):
            number = numbers[run.id]
            if run.state is RunState.QUEUED and run.attempt < number:
                started_run = create_attempt(
                    uow, run, number=number, processes=1, at=now, pack_job=job
                )
                started.append(started_run)
        for run in started:
            packmates = (
                ", ".join(other.id for other in started if other is not run) or "no other run"
            )
            details = f"Shares the job {job} with {packmates}."
            uow.events.add(Event(run.id, now, "queue", EventKind.PACK_JOINED, details))
    if started:
        submit_pack(job, avoid=avoid, ctx=ctx)


def submit_job(run: Run, *, ctx: Context) -> None:
    """Submit the job of a run's current attempt: its own, or that of its pack."""
    if run.pack.job is None:
        submit_attempt(run, ctx=ctx)
    else:
        submit_pack(run.pack.job, ctx=ctx)


def submit_pack(job: str, *, avoid: frozenset[str] = frozenset(), ctx: Context) -> None:
    """Submit a pack's job for its unfinished runs.

    `JobRefused` is recorded once as an event of each run, and raised.
    """
    with ctx.store.snapshot() as uow:
        members = uow.runs.of_pack(job)
    for run in members:
        write_attempt_secrets(run, ctx=ctx)
    try:
        ctx.cluster.submit(_build_pack_request(job, members, avoid=avoid, ctx=ctx))
    except JobRefused as error:
        for run in members:
            record_job_rejection(run, reason=str(error), ctx=ctx)
        raise


def _ensure_job_files(run: Run, *, ctx: Context) -> bool:
    try:
        write_job_files_once(run, ctx=ctx)
    except NotFound as error:
        fail_queued_run(run, error, ctx=ctx)
        return False
    return True


def _build_pack_request(
    job: str, runs: Sequence[Run], *, avoid: frozenset[str], ctx: Context
) -> JobRequest:
    first = runs[0]
    pack_job = PackJob(
        id=job,
        members=tuple(_build_member(run, ctx=ctx) for run in runs),
        service_url=ctx.service_url,
        mlflow_url=remove_credentials(ctx.mlflow_url),
        stall_timeout_s=ctx.policy.stall_timeout_s,
    )
    file = ctx.files.run_dir(first.id) / "packs" / f"{job}.json"
    ctx.files.write(file, pack_job.model_dump_json(indent=2))
    resources = first.spec.resources
    return JobRequest(
        submission_id=job,
        command=("tandem-worker", "train-pack", str(file)),
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        metadata={"run_id": first.id, "pack": job, "name": f"pack of {len(runs)} runs"},
        environment={Env.ATTEMPT: job},
        avoid=avoid,
    )


def _build_member(run: Run, *, ctx: Context) -> PackMember:
    return PackMember(
        run_id=run.id,
        attempt=run.attempt,
        run_dir=str(ctx.files.run_dir(run.id)),
        name=run.name,
        preset=run.preset,
        project=run.project,
    )
