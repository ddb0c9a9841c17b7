"""Probes of an autopilot: they time every student, before any of them trains."""

from collections.abc import Sequence
from dataclasses import replace

from configs.protocol.names import RunFile
from configs.protocol.probe import Probe
from configs.spec.autopilot import AutopilotSpec
from configs.spec.jobs import ProbeSpec
from configs.spec.run import NamedDataset
from configs.spec.search import LogUniform
from service.domain.autopilot.autopilots import (
    PROBE_KEY,
    Autopilot,
    AutopilotPhase,
    enter_phase,
)
from service.domain.autopilot.baseline import LEARNING_RATE
from service.domain.autopilot.candidates import (
    Candidate,
    ProbedStudent,
    common_methods,
    list_candidates,
    make_request,
)
from service.domain.autopilot.request import AutopilotRequest
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, Run
from service.domain.scheduling.capacity import count_slots
from service.domain.states import RunState
from service.usecases.autopilots.jobs import NewJob, add_autopilot_job, autopilot_tags
from service.usecases.context import Context
from service.usecases.nodes import list_nodes
from service.usecases.probes import read_probe

_HOUR_S = 3600.0


def launch_probes(autopilot_id: str, *, ctx: Context) -> None:
    """Enqueue the probe of each student that has none."""
    with ctx.queue_transaction() as uow:
        uow.runs.lock_inserts()
        autopilot = uow.autopilots.get_for_update(autopilot_id)
        existing = {job.key for job in uow.autopilots.jobs(autopilot.id)}
        for candidate in find_candidates(uow, autopilot.spec):
            key = f"{PROBE_KEY}.{candidate.name}"
            if key not in existing:
                spec = _probe_spec(autopilot, candidate)
                job = NewJob(key, f"probe of {candidate.name}", spec)
                add_autopilot_job(uow, autopilot, job, at=ctx.clock.now())


def apply_probes(autopilot: Autopilot, runs: Sequence[Run], *, ctx: Context) -> None:
    """Begin the search with what the probes have measured; or fail without a usable student.

    `runs` are the probes, all over, in the order of the spec's students.
    """
    with ctx.store.snapshot() as uow:
        candidates = find_candidates(uow, autopilot.spec)
        starts = _measure_starts(uow, runs)
    students, notes = _read_probes(autopilot.spec, candidates, runs, starts, ctx=ctx)
    now = ctx.clock.now()
    request = None
    if students and common_methods([student.candidate for student in students]):
        request = _make_request(autopilot, students, ctx=ctx)
    with ctx.store.transaction() as uow:
        current = uow.autopilots.get_for_update(autopilot.id)
        if current.phase is not AutopilotPhase.PROBING:
            return
        current = replace(current, notes=(*current.notes, *notes), request=request)
        if request is None:
            message = " ".join(notes) or "No method distills all of the students."
            moved = enter_phase(current, AutopilotPhase.FAILED, at=now, message=message)
        else:
            moved = enter_phase(current, AutopilotPhase.SEARCHING, at=now)
        uow.autopilots.save(moved)


def find_candidates(uow: UnitOfWork, spec: AutopilotSpec) -> tuple[Candidate, ...]:
    """The students of a spec, with the teachers as they are registered now."""
    teachers = {name: uow.registry.teacher(name) for name in spec.teachers}
    detectors = {name: teacher.detector for name, teacher in teachers.items() if teacher}
    return list_candidates(spec, detectors)


def _probe_spec(autopilot: Autopilot, candidate: Candidate) -> ProbeSpec:
    base = candidate.distilled
    rate = base.schedule.optimizer.lr
    resources = base.resources.model_copy(update={"processes": 1, "min_processes": None})
    return ProbeSpec(
        base=base,
        space={LEARNING_RATE: LogUniform(kind="loguniform", low=rate / 2, high=rate * 2, when={})},
        resources=resources,
        tags=autopilot_tags(autopilot),
    )


def _read_probes(
    spec: AutopilotSpec,
    candidates: Sequence[Candidate],
    runs: Sequence[Run],
    starts: Sequence[float],
    *,
    ctx: Context,
) -> tuple[list[ProbedStudent], list[str]]:
    """The students that may be trained, and why others may not."""
    students: list[ProbedStudent] = []
    notes: list[str] = []
    for candidate, run, start_s in zip(candidates, runs, starts, strict=True):
        probe = _read_probe(run, ctx=ctx)
        if isinstance(probe, str):
            notes.append(f"{candidate.name} is left out: {probe}")
            continue
        latency_ms = None if probe.costs.latency_s is None else 1000.0 * probe.costs.latency_s
        limit_ms = spec.max_latency_ms
        if limit_ms is not None and (latency_ms is None or latency_ms > limit_ms):
            measured = "was not measured" if latency_ms is None else f"is {latency_ms:.1f} ms"
            notes.append(
                f"{candidate.name} is left out: its latency {measured} on {probe.costs.device}, "
                f"and at most {limit_ms:g} ms are allowed."
            )
            continue
        students.append(ProbedStudent(candidate, probe.costs, start_s))
    return students, notes


def _read_probe(run: Run, *, ctx: Context) -> Probe | str:
    """The result of a probe, or why there is none."""
    if run.state is not RunState.SUCCEEDED:
        return f"its probe, run {run.id}, is {run.state}. {run.message}".strip()
    probe = read_probe(run.id, ctx=ctx)
    return probe or f"its probe, run {run.id}, has no valid {RunFile.PROBE}."


def _measure_starts(uow: UnitOfWork, runs: Sequence[Run]) -> list[float]:
    """Seconds from the submission of each job to the start that it reported."""
    return [_measure_start(run, uow.attempts.get(run.id, 1)) for run in runs]


def _measure_start(run: Run, attempt: Attempt | None) -> float:
    """0 if its first attempt did not start."""
    if attempt is None or run.started_at is None or run.attempt != 1:
        return 0.0
    return max(0.0, (run.started_at - attempt.created_at).total_seconds())


def _make_request(
    autopilot: Autopilot, students: Sequence[ProbedStudent], *, ctx: Context
) -> AutopilotRequest:
    base = autopilot.spec.base
    with ctx.store.snapshot() as uow:
        reference = base.data.dataset
        assert isinstance(reference, NamedDataset)  # planned before the launch
        dataset = uow.registry.dataset(reference.name)
    available = 0 if dataset is None else dataset.manifest.val.num_images
    return make_request(
        autopilot.spec,
        students,
        budget_s=_device_seconds(autopilot.spec, ctx=ctx),
        val_images=min(available, base.evaluation.val_images or available),
    )


def _device_seconds(spec: AutopilotSpec, *, ctx: Context) -> float:
    """The budget as seconds of single jobs, added up over those that run at the same time."""
    resources, budget = spec.base.resources, spec.budget
    if budget.hours is not None:
        slots = count_slots(resources, list_nodes(ctx), total=True)
        return budget.hours * _HOUR_S * max(1, slots // resources.processes)
    if budget.gpu_hours is not None:
        return budget.gpu_hours * _HOUR_S / (resources.num_gpus * resources.processes)
    prices = ctx.policy.prices
    hour_price = (
        (prices.gpu_hour or 0.0) * resources.num_gpus
        if resources.num_gpus
        else (prices.cpu_hour or 0.0) * resources.num_cpus
    )
    return (budget.price or 0.0) * _HOUR_S / (hour_price * resources.processes)
