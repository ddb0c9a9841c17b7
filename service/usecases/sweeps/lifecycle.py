"""Steps of a sweep's lifecycle: probe, baselines, drivers, report."""

from dataclasses import replace
from datetime import timedelta

import structlog

from configs.derived_specs import is_distilled
from configs.protocol.names import RunFile
from configs.protocol.probe import Probe
from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec, ProbeSpec, ReportSpec
from service.domain.errors.systems import ClusterFault
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
from service.usecases.attempts.numbering import next_unused
from service.usecases.context import Context
from service.usecases.nodes import list_nodes
from service.usecases.probes import read_probe
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.sweeps.baselines import enqueue_baselines, find_missing_noise_seeds
from service.usecases.sweeps.trials import SWEEP_ACTOR, list_unfinished_baselines
from service.usecases.worker_tokens import token_file_options, write_worker_token

MAX_CONSECUTIVE_FAILURES = 10
"""A sweep fails after this many consecutive drivers that exit without a new log entry."""

_INITIAL_RETRY_DELAY_S = 2.0
_MAX_RETRY_DELAY_S = 120.0
_MAX_LINE_LENGTH = 300

log = structlog.get_logger(__name__)


def launch_probe(sweep_id: str, *, ctx: Context) -> None:
    """Enqueue the probe, which measures the effect of each parameter, once per sweep."""
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
        run = _enqueue_run(uow, sweep, spec, name="probe", ctx=ctx)
        uow.sweeps.save(replace(sweep, probe_run_id=run.id))


def apply_probe(sweep: Sweep, run: Run, *, ctx: Context) -> None:
    """Move a sweep on after its probe: to the search, or to failure without a usable probe."""
    probe = read_probe(run.id, ctx=ctx) if run.state is RunState.SUCCEEDED else None
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.sweeps.get_for_update(sweep.id)
        if current.state is not SweepState.PROBING:
            return
        if current.desired == "stop":
            uow.sweeps.save(transition_sweep(current, SweepState.STOPPED, at=now))
            return
        reason = _explain_unsearchable(run, probe)
        if probe is None or reason is not None:
            failed = transition_sweep(current, SweepState.FAILED, at=now)
            uow.sweeps.save(replace(failed, message=reason or ""))
            return
        searching = transition_sweep(current, SweepState.SEARCHING, at=now)
        uow.sweeps.save(replace(searching, probe=probe))


def stop_unprobed_sweep(sweep_id: str, *, ctx: Context) -> None:
    """Finish a sweep that was stopped before its probe was launched."""
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is SweepState.PROBING and sweep.probe_run_id is None:
            uow.sweeps.save(transition_sweep(sweep, SweepState.STOPPED, at=ctx.clock.now()))


def enqueue_sweep_baselines(sweep: Sweep, *, ctx: Context) -> None:
    """Reuse or enqueue the baselines of the trials and those of the noise floor."""
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
    """Choose a sweep's pack size from its probe and the cluster's slots, before its first driver.

    It never changes afterwards: runs that wait for the rest of their pack need one size.
    """
    if sweep.driver:
        return sweep
    resources, nodes = sweep.spec.base.resources, list_nodes(ctx)
    slots, kinds = count_slots(resources, nodes, total=True), gpu_kinds(resources, nodes)
    if sweep.spec.pack == "auto" and len(kinds) > 1:
        log.info("sweep.packing_disabled", sweep_id=sweep.id, gpu_kinds=sorted(kinds))
    size = choose_pack_size(sweep, sweep.probe, slots=slots, gpu_kinds=kinds)
    with ctx.store.transaction() as uow:
        updated = replace(uow.sweeps.get_for_update(sweep.id), pack_size=size, slots=max(1, slots))
        uow.sweeps.save(updated)
    return updated


def submit_driver(sweep_id: str, *, ctx: Context) -> None:
    """Submit the next driver; its number is stored before its job is submitted."""
    with ctx.store.transaction() as uow:
        last = uow.sweeps.get(sweep_id).driver
    number = next_unused(last, lambda number: f"{sweep_id}-d{number}", ctx=ctx)
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is not SweepState.SEARCHING or sweep.driver >= number:
            return
        length = uow.sweeps.length(sweep_id)
        sweep = replace(
            sweep,
            driver=number,
            driver_log_start=length,
            last_seen_at=None,
            not_before=None,
        )
        uow.sweeps.save(sweep)
    ctx.cluster.submit(_build_driver_request(sweep, ctx=ctx))


def handle_driver_exit(sweep: Sweep, job: Job | None, *, reason: str, ctx: Context) -> None:
    """Schedule the next driver, with exponential backoff, after one exited during the search.

    After `MAX_CONSECUTIVE_FAILURES` drivers without progress the search is abandoned instead.
    """
    last_line = "" if job is None else _read_last_line(sweep, ctx=ctx)
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.sweeps.get_for_update(sweep.id)
        if current.state is not SweepState.SEARCHING or current.driver != sweep.driver:
            return
        has_progressed = uow.sweeps.length(sweep.id) > current.driver_log_start
        consecutive_failures = 1 if has_progressed else current.consecutive_failures + 1
        message = f"Driver {current.driver} {reason}."
        if last_line:
            message = f"{message} Its last line: {last_line}"
        if consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            uow.sweeps.save(_abandon_search(current, message, ctx=ctx))
            return
        delay_s = min(_INITIAL_RETRY_DELAY_S * 2 ** (consecutive_failures - 1), _MAX_RETRY_DELAY_S)
        retry_at = now + timedelta(seconds=delay_s)
        uow.sweeps.save(
            replace(
                current,
                consecutive_failures=consecutive_failures,
                not_before=retry_at,
                message=message,
            )
        )
    log.warning(
        "sweep.driver_ended",
        driver=sweep.driver,
        consecutive_failures=consecutive_failures,
        reason=message,
    )


def launch_report(sweep_id: str, *, ctx: Context) -> None:
    """Enqueue the report, once, after all baselines have ended; it compares trials with them.

    A sweep without trials is finished without a report.
    """
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is not SweepState.REPORTING or sweep.report_run_id is not None:
            return
        if all(run.lineage.trial is None for run in uow.runs.of_sweep(sweep.id)):
            uow.sweeps.save(_finish(sweep, sweep.message, ctx=ctx))
            return
        if list_unfinished_baselines(uow, sweep):
            return
        spec = ReportSpec(sweep=sweep.id, tags=sweep.spec.tags)
        run = _enqueue_run(uow, sweep, spec, name="report", ctx=ctx)
        uow.sweeps.save(replace(sweep, report_run_id=run.id))


def finish_sweep(sweep_id: str, run: Run, *, ctx: Context) -> None:
    """Finish a sweep whose report has ended; a failed report is noted in the message."""
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.state is not SweepState.REPORTING or sweep.report_run_id != run.id:
            return
        message = sweep.message
        if run.state is not RunState.SUCCEEDED:
            reason = f"Its report, run {run.id}, is {run.state}: {run.message or 'no known cause'}"
            message = f"{message} {reason}".strip()
        uow.sweeps.save(_finish(sweep, message, ctx=ctx))


def _finish(sweep: Sweep, message: str, *, ctx: Context) -> Sweep:
    to = SweepState.STOPPED if sweep.desired == "stop" else SweepState.SUCCEEDED
    return replace(transition_sweep(sweep, to, at=ctx.clock.now()), message=message)


def _abandon_search(sweep: Sweep, last_exit: str, *, ctx: Context) -> Sweep:
    """End the search; running trials continue, and `extend` can resume the search."""
    to = SweepState.STOPPED if sweep.desired == "stop" else SweepState.FAILED
    message = f"{MAX_CONSECUTIVE_FAILURES} drivers in a row made no progress. {last_exit}"
    return replace(transition_sweep(sweep, to, at=ctx.clock.now()), message=message)


def _enqueue_run(uow: UnitOfWork, sweep: Sweep, spec: JobSpec, *, name: str, ctx: Context) -> Run:
    queued_run = create_queued_run(
        spec,
        name=f"{name} of {sweep.name}",
        project=sweep.project,
        priority=sweep.priority,
        at=ctx.clock.now(),
    )
    run = replace(queued_run, lineage=replace(queued_run.lineage, sweep_id=sweep.id))
    add_run(uow, run, actor=SWEEP_ACTOR, details=f"Launched as the {name} of sweep {sweep.id}.")
    return run


def _explain_unsearchable(run: Run, probe: Probe | None) -> str | None:
    if run.state is not RunState.SUCCEEDED:
        reason = run.message or "no known cause"
        return f"Its probe, run {run.id}, is {run.state}: {reason}"
    if probe is None:
        return f"Its probe, run {run.id}, has no valid {RunFile.PROBE}."
    return describe_ineffective_parameters(probe)


def _build_driver_request(sweep: Sweep, *, ctx: Context) -> JobRequest:
    """The job of the sweep's current driver; it reserves no CPUs, since it only coordinates."""
    sweep_dir = ctx.files.sweep_dir(sweep.id)
    write_worker_token(sweep_dir, sweep.id, sweep.driver, ctx=ctx)
    return JobRequest(
        submission_id=sweep.driver_job,
        command=(
            *("tandem-worker", "sweep-driver"),
            *("--sweep", sweep.id),
            *("--service-url", ctx.service_url),
            *token_file_options(sweep_dir, ctx=ctx),
        ),
        num_cpus=0,
        num_gpus=0,
        metadata={"sweep_id": sweep.id, "driver": str(sweep.driver), "name": sweep.name},
    )


def _read_last_line(sweep: Sweep, *, ctx: Context) -> str:
    try:
        text = ctx.cluster.logs(sweep.driver_job)
    except ClusterFault:
        return ""
    lines = [line.strip() for line in text.splitlines()]
    return next((line[:_MAX_LINE_LENGTH] for line in reversed(lines) if line), "")
