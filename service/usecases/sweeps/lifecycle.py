"""What a sweep does by itself: its probe, its drivers, its report."""

from dataclasses import replace
from datetime import timedelta

import structlog
from pydantic import ValidationError

from configs.derived_specs import is_taught
from configs.protocol.names import RunFile
from configs.protocol.probe import Probe
from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec, ProbeSpec, ReportSpec
from service.domain.access import seal_of
from service.domain.ports import Job, Order
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Run
from service.domain.scheduling.capacity import gpu_kinds, places
from service.domain.states import RunState
from service.domain.sweeps import (
    Sweep,
    SweepState,
    idle_knobs,
    move_sweep,
    pack_size_of,
)
from service.usecases.context import World
from service.usecases.nodes import cluster_nodes
from service.usecases.runs.enqueue import add_run, queued_run
from service.usecases.sweeps.baselines import book_twins, missing_noise_seeds
from service.usecases.sweeps.trials import SWEEP_ACTOR, baselines_under_way

MOST_STRIKES = 10
"""Drivers in a row that end badly without a new entry, after which a sweep has failed."""

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 120.0
_LONGEST_LINE = 300

log = structlog.get_logger(__name__)


def launch_probe(sweep_id: str, *, world: World) -> None:
    """Queue the run that shows what each parameter moves; once."""
    with world.store.begin() as unit:
        unit.runs.alone()
        sweep = unit.sweeps.take(sweep_id)
        if sweep.state is not SweepState.PROBING or sweep.probe_run_id is not None:
            return
        base = sweep.spec.base
        resources = Resources(num_cpus=base.resources.num_cpus, num_gpus=base.resources.num_gpus)
        spec = ProbeSpec(
            base=base, space=sweep.spec.space, resources=resources, tags=sweep.spec.tags
        )
        run = _launched(unit, sweep, spec, name="probe", world=world)
        unit.sweeps.save(replace(sweep, probe_run_id=run.id))


def take_probe(sweep: Sweep, run: Run, *, world: World) -> None:
    """Go on from a probe that is over: to the search, or to the end that it shows."""
    probe = _probe_of(run, world=world) if run.state is RunState.SUCCEEDED else None
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.sweeps.take(sweep.id)
        if current.state is not SweepState.PROBING:
            return
        if current.wants == "stop":
            unit.sweeps.save(move_sweep(current, SweepState.STOPPED, at=now))
            return
        why = _why_no_search(run, probe)
        if probe is None or why is not None:
            failed = move_sweep(current, SweepState.FAILED, at=now)
            unit.sweeps.save(replace(failed, message=why or ""))
            return
        searching = move_sweep(current, SweepState.SEARCHING, at=now)
        unit.sweeps.save(replace(searching, probe=probe))


def stop_before_probe(sweep_id: str, *, world: World) -> None:
    """End a sweep that was stopped before it had anything."""
    with world.store.begin() as unit:
        sweep = unit.sweeps.take(sweep_id)
        if sweep.state is SweepState.PROBING and sweep.probe_run_id is None:
            unit.sweeps.save(move_sweep(sweep, SweepState.STOPPED, at=world.clock.now()))


def book_baselines(sweep: Sweep, *, world: World) -> None:
    """Book what trials are compared with and what tells the noise; what is there is reused."""
    spec, project = sweep.spec, sweep.project
    if sweep.wants == "stop":
        return
    if spec.baseline and is_taught(spec.base):
        seeds = range(spec.base.seed, spec.base.seed + spec.repeats)
        book_twins(spec.base, seeds, sweep=sweep, world=world)
    if spec.noise_runs:
        missing = missing_noise_seeds(spec.base, spec.noise_runs, project=project, world=world)
        book_twins(spec.base, missing, sweep=sweep, world=world)


def settle_packs(sweep: Sweep, *, world: World) -> Sweep:
    """Settle how many of its students train side by side; the cluster's room decides with it.

    It is settled once: those that wait for others of their pack wait for the same number.
    """
    if sweep.driver:
        return sweep
    asked, nodes = sweep.spec.base.resources, cluster_nodes(world)
    room, kinds = places(asked, nodes, total=True), gpu_kinds(asked, nodes)
    if sweep.spec.pack == "auto" and len(kinds) > 1:
        log.info("sweep.no_packs", sweep_id=sweep.id, gpu_kinds=sorted(kinds))
    size = pack_size_of(sweep, sweep.probe, places=room, gpu_kinds=kinds)
    with world.store.begin() as unit:
        settled = replace(unit.sweeps.take(sweep.id), pack_size=size, places=max(1, room))
        unit.sweeps.save(settled)
    return settled


def submit_driver(sweep_id: str, *, world: World) -> None:
    """Start the next driver: its number is in the database before its job is submitted."""
    with world.store.begin() as unit:
        sweep = unit.sweeps.take(sweep_id)
        if sweep.state is not SweepState.SEARCHING:
            return
        length = unit.sweeps.length(sweep_id)
        sweep = replace(
            sweep,
            driver=sweep.driver + 1,
            driver_position=length,
            heard_at=None,
            not_before=None,
        )
        unit.sweeps.save(sweep)
    world.cluster.submit(_driver_order(sweep, world=world))


def driver_ended(sweep: Sweep, job: Job | None, *, why: str, world: World) -> None:
    """A driver is gone and the search is not closed: another one follows after a pause."""
    last_line = "" if job is None else _last_line(sweep, world=world)
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.sweeps.take(sweep.id)
        if current.state is not SweepState.SEARCHING or current.driver != sweep.driver:
            return
        is_further = unit.sweeps.length(sweep.id) > current.driver_position
        strikes = 1 if is_further else current.strikes + 1
        told = f"Driver {current.driver} {why}." + (
            f" Its last line: {last_line}" * bool(last_line)
        )
        if strikes >= MOST_STRIKES:
            unit.sweeps.save(_given_up(current, told, world=world))
            return
        pause_s = min(_FIRST_PAUSE_S * 2 ** (strikes - 1), _LONGEST_PAUSE_S)
        later = now + timedelta(seconds=pause_s)
        unit.sweeps.save(replace(current, strikes=strikes, not_before=later, message=told))
    log.warning("sweep.driver_ended", driver=sweep.driver, strikes=strikes, why=told)


def launch_report(sweep_id: str, *, world: World) -> None:
    """Queue the run that makes the pages, once; end a sweep that has nothing to tell.

    It waits for the baselines, for without them it could not tell whether anything helped.
    """
    with world.store.begin() as unit:
        unit.runs.alone()
        sweep = unit.sweeps.take(sweep_id)
        if sweep.state is not SweepState.REPORTING or sweep.report_run_id is not None:
            return
        if all(run.trial is None for run in unit.runs.of_sweep(sweep.id)):
            unit.sweeps.save(_ended(sweep, sweep.message, world=world))
            return
        if baselines_under_way(unit, sweep):
            return
        spec = ReportSpec(sweep=sweep.id, tags=sweep.spec.tags)
        run = _launched(unit, sweep, spec, name="report", world=world)
        unit.sweeps.save(replace(sweep, report_run_id=run.id))


def take_report(sweep_id: str, run: Run, *, world: World) -> None:
    """End a sweep whose report is over, be it made or not."""
    with world.store.begin() as unit:
        sweep = unit.sweeps.take(sweep_id)
        if sweep.state is not SweepState.REPORTING or sweep.report_run_id != run.id:
            return
        told = sweep.message
        if run.state is not RunState.SUCCEEDED:
            why = f"Its report, run {run.id}, is {run.state}: {run.message or 'no cause is known'}"
            told = f"{told} {why}".strip()
        unit.sweeps.save(_ended(sweep, told, world=world))


def _ended(sweep: Sweep, message: str, *, world: World) -> Sweep:
    to = SweepState.STOPPED if sweep.wants == "stop" else SweepState.SUCCEEDED
    return replace(move_sweep(sweep, to, at=world.clock.now()), message=message)


def _given_up(sweep: Sweep, told: str, *, world: World) -> Sweep:
    """What trains goes on to its end; `extend` takes the search up again."""
    to = SweepState.STOPPED if sweep.wants == "stop" else SweepState.FAILED
    message = f"{MOST_STRIKES} drivers in a row did nothing. {told}"
    return replace(move_sweep(sweep, to, at=world.clock.now()), message=message)


def _launched(unit: Unit, sweep: Sweep, spec: JobSpec, *, name: str, world: World) -> Run:
    queued = queued_run(
        spec,
        name=f"{name} of {sweep.name}",
        project=sweep.project,
        priority=sweep.priority,
        at=world.clock.now(),
    )
    run = replace(queued, sweep_id=sweep.id)
    add_run(unit, run, actor=SWEEP_ACTOR, details=f"The {name} of sweep {sweep.id}.")
    return run


def _probe_of(run: Run, *, world: World) -> Probe | None:
    content = world.files.text(world.files.run_dir(run.id) / RunFile.PROBE)
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
    return idle_knobs(probe)


def _driver_order(sweep: Sweep, *, world: World) -> Order:
    """The driver decides and nothing else, so it takes no core."""
    shows: tuple[str, ...] = ()
    if world.key is not None:
        file = world.files.sweep_dir(sweep.id) / RunFile.TOKEN
        world.files.write(file, seal_of(sweep.id, sweep.driver, key=world.key), is_secret=True)
        shows = ("--token-file", str(file))
    return Order(
        submission_id=sweep.driver_job,
        command=(
            *("tandem-worker", "drive"),
            *("--sweep", sweep.id),
            *("--report-to", world.report_url),
            *shows,
        ),
        num_cpus=0,
        num_gpus=0,
        metadata={"sweep_id": sweep.id, "driver": str(sweep.driver), "name": sweep.name},
    )


def _last_line(sweep: Sweep, *, world: World) -> str:
    lines = [line.strip() for line in world.cluster.logs(sweep.driver_job).splitlines()]
    return next((line[:_LONGEST_LINE] for line in reversed(lines) if line), "")
