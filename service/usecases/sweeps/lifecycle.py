"""What a sweep does by itself: its probe, its drivers, its report."""

from dataclasses import replace
from datetime import timedelta

import structlog
from pydantic import ValidationError

from configs.derived_specs import is_distilled
from configs.protocol.names import RunFile
from configs.protocol.probe import Probe
from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec, ProbeSpec, ReportSpec
from service.domain.access import make_attempt_token
from service.domain.ports import Job, JobRequest
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.scheduling.capacity import count_slots, gpu_kinds
from service.domain.states import RunState
from service.domain.sweeps import (
    Sweep,
    SweepState,
    choose_pack_size,
    describe_ineffective_parameters,
    transition_sweep,
)
from service.usecases.context import Context
from service.usecases.nodes import list_nodes
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.sweeps.baselines import enqueue_baselines, find_missing_noise_seeds
from service.usecases.sweeps.trials import SWEEP_ACTOR, list_unfinished_baselines

MAX_CONSECUTIVE_FAILURES = 10
"""Drivers in a row that end badly without a new entry, after which a sweep has failed."""

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 120.0
_LONGEST_LINE = 300

log = structlog.get_logger(__name__)


def launch_probe(sweep_id: str, *, ctx: Context) -> None:
    """Queue the run that shows what each parameter moves; once."""
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is not SweepState.PROBING or sweep.probe_run_id is not None:
            return
        base = sweep.spec.base
        resources = Resources(num_cpus=base.resources.num_cpus, num_gpus=base.resources.num_gpus)
        spec = ProbeSpec(
            base=base, space=sweep.spec.space, resources=resources, tags=sweep.spec.tags
        )
        run = _launched(uow, sweep, spec, name="probe", ctx=ctx)
        uow.sweeps.save(replace(sweep, probe_run_id=run.id))


def apply_probe(sweep: Sweep, run: Run, *, ctx: Context) -> None:
    """Go on from a probe that is over: to the search, or to the end that it shows."""
    probe = _probe_of(run, ctx=ctx) if run.state is RunState.SUCCEEDED else None
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.sweeps.get_for_update(sweep.id)
        if current.state is not SweepState.PROBING:
            return
        if current.desired == "stop":
            uow.sweeps.save(transition_sweep(current, SweepState.STOPPED, at=now))
            return
        why = _why_no_search(run, probe)
        if probe is None or why is not None:
            failed = transition_sweep(current, SweepState.FAILED, at=now)
            uow.sweeps.save(replace(failed, message=why or ""))
            return
        searching = transition_sweep(current, SweepState.SEARCHING, at=now)
        uow.sweeps.save(replace(searching, probe=probe))


def stop_unprobed_sweep(sweep_id: str, *, ctx: Context) -> None:
    """End a sweep that was stopped before it had anything."""
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is SweepState.PROBING and sweep.probe_run_id is None:
            uow.sweeps.save(transition_sweep(sweep, SweepState.STOPPED, at=ctx.clock.now()))


def enqueue_sweep_baselines(sweep: Sweep, *, ctx: Context) -> None:
    """Book what trials are compared with and what tells the noise; what is there is reused."""
    spec, project = sweep.spec, sweep.project
    if sweep.desired == "stop":
        return
    if spec.baseline and is_distilled(spec.base):
        seeds = range(spec.base.seed, spec.base.seed + spec.repeats)
        enqueue_baselines(spec.base, seeds, sweep=sweep, ctx=ctx)
    if spec.noise_runs:
        missing = find_missing_noise_seeds(spec.base, spec.noise_runs, project=project, ctx=ctx)
        enqueue_baselines(spec.base, missing, sweep=sweep, ctx=ctx)


def fix_pack_size(sweep: Sweep, *, ctx: Context) -> Sweep:
    """Settle how many of its students train side by side; the cluster's room decides with it.

    It is settled once: those that wait for others of their pack wait for the same number.
    """
    if sweep.driver:
        return sweep
    asked, nodes = sweep.spec.base.resources, list_nodes(ctx)
    room, kinds = count_slots(asked, nodes, total=True), gpu_kinds(asked, nodes)
    if sweep.spec.pack == "auto" and len(kinds) > 1:
        log.info("sweep.no_packs", sweep_id=sweep.id, gpu_kinds=sorted(kinds))
    size = choose_pack_size(sweep, sweep.probe, slots=room, gpu_kinds=kinds)
    with ctx.store.transaction() as uow:
        settled = replace(uow.sweeps.get_for_update(sweep.id), pack_size=size, slots=max(1, room))
        uow.sweeps.save(settled)
    return settled


def submit_driver(sweep_id: str, *, ctx: Context) -> None:
    """Start the next driver: its number is in the database before its job is submitted."""
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is not SweepState.SEARCHING:
            return
        length = uow.sweeps.length(sweep_id)
        sweep = replace(
            sweep,
            driver=sweep.driver + 1,
            driver_log_start=length,
            last_seen_at=None,
            not_before=None,
        )
        uow.sweeps.save(sweep)
    ctx.cluster.submit(_driver_order(sweep, ctx=ctx))


def handle_driver_exit(sweep: Sweep, job: Job | None, *, why: str, ctx: Context) -> None:
    """A driver is gone and the search is not closed: another one follows after a pause."""
    last_line = "" if job is None else _last_line(sweep, ctx=ctx)
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.sweeps.get_for_update(sweep.id)
        if current.state is not SweepState.SEARCHING or current.driver != sweep.driver:
            return
        is_further = uow.sweeps.length(sweep.id) > current.driver_log_start
        consecutive_failures = 1 if is_further else current.consecutive_failures + 1
        told = f"Driver {current.driver} {why}." + (
            f" Its last line: {last_line}" * bool(last_line)
        )
        if consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            uow.sweeps.save(_given_up(current, told, ctx=ctx))
            return
        pause_s = min(_FIRST_PAUSE_S * 2 ** (consecutive_failures - 1), _LONGEST_PAUSE_S)
        later = now + timedelta(seconds=pause_s)
        uow.sweeps.save(
            replace(
                current, consecutive_failures=consecutive_failures, not_before=later, message=told
            )
        )
    log.warning(
        "sweep.driver_ended",
        driver=sweep.driver,
        consecutive_failures=consecutive_failures,
        why=told,
    )


def launch_report(sweep_id: str, *, ctx: Context) -> None:
    """Queue the run that makes the pages, once; end a sweep that has nothing to tell.

    It waits for the baselines, for without them it could not tell whether anything helped.
    """
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is not SweepState.REPORTING or sweep.report_run_id is not None:
            return
        if all(run.trial is None for run in uow.runs.of_sweep(sweep.id)):
            uow.sweeps.save(_ended(sweep, sweep.message, ctx=ctx))
            return
        if list_unfinished_baselines(uow, sweep):
            return
        spec = ReportSpec(sweep=sweep.id, tags=sweep.spec.tags)
        run = _launched(uow, sweep, spec, name="report", ctx=ctx)
        uow.sweeps.save(replace(sweep, report_run_id=run.id))


def finish_sweep(sweep_id: str, run: Run, *, ctx: Context) -> None:
    """End a sweep whose report is over, be it made or not."""
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is not SweepState.REPORTING or sweep.report_run_id != run.id:
            return
        told = sweep.message
        if run.state is not RunState.SUCCEEDED:
            why = f"Its report, run {run.id}, is {run.state}: {run.message or 'no cause is known'}"
            told = f"{told} {why}".strip()
        uow.sweeps.save(_ended(sweep, told, ctx=ctx))


def _ended(sweep: Sweep, message: str, *, ctx: Context) -> Sweep:
    to = SweepState.STOPPED if sweep.desired == "stop" else SweepState.SUCCEEDED
    return replace(transition_sweep(sweep, to, at=ctx.clock.now()), message=message)


def _given_up(sweep: Sweep, told: str, *, ctx: Context) -> Sweep:
    """What trains goes on to its end; `extend` takes the search up again."""
    to = SweepState.STOPPED if sweep.desired == "stop" else SweepState.FAILED
    message = f"{MAX_CONSECUTIVE_FAILURES} drivers in a row did nothing. {told}"
    return replace(transition_sweep(sweep, to, at=ctx.clock.now()), message=message)


def _launched(uow: UnitOfWork, sweep: Sweep, spec: JobSpec, *, name: str, ctx: Context) -> Run:
    queued = create_queued_run(
        spec,
        name=f"{name} of {sweep.name}",
        project=sweep.project,
        priority=sweep.priority,
        at=ctx.clock.now(),
    )
    run = replace(queued, sweep_id=sweep.id)
    add_run(uow, run, actor=SWEEP_ACTOR, details=f"The {name} of sweep {sweep.id}.")
    return run


def _probe_of(run: Run, *, ctx: Context) -> Probe | None:
    content = ctx.files.text(ctx.files.run_dir(run.id) / RunFile.PROBE)
    try:
        return Probe.model_validate_json(content)
    except ValidationError as error:
        log.warning("sweep.probe_unreadable", run_id=run.id, why=str(error))
        return None


def _why_no_search(run: Run, probe: Probe | None) -> str | None:
    if run.state is not RunState.SUCCEEDED:
        why = run.message or "no cause is known"
        return f"Its probe, run {run.id}, is {run.state}: {why}"
    if probe is None:
        return f"Its probe, run {run.id}, left no {RunFile.PROBE} that can be read."
    return describe_ineffective_parameters(probe)


def _driver_order(sweep: Sweep, *, ctx: Context) -> JobRequest:
    """The driver decides and nothing else, so it takes no core."""
    shows: tuple[str, ...] = ()
    if ctx.signing_key is not None:
        file = ctx.files.sweep_dir(sweep.id) / RunFile.TOKEN
        ctx.files.write(
            file, make_attempt_token(sweep.id, sweep.driver, key=ctx.signing_key), is_secret=True
        )
        shows = ("--token-file", str(file))
    return JobRequest(
        submission_id=sweep.driver_job,
        command=(
            *("tandem-worker", "sweep-driver"),
            *("--sweep", sweep.id),
            *("--service-url", ctx.service_url),
            *shows,
        ),
        num_cpus=0,
        num_gpus=0,
        metadata={"sweep_id": sweep.id, "driver": str(sweep.driver), "name": sweep.name},
    )


def _last_line(sweep: Sweep, *, ctx: Context) -> str:
    lines = [line.strip() for line in ctx.cluster.logs(sweep.driver_job).splitlines()]
    return next((line[:_LONGEST_LINE] for line in reversed(lines) if line), "")
