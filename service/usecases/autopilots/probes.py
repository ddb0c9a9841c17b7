"""Probes of an autopilot: they time all detectors that may train, before any of them does."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs.protocol.names import RunFile
from configs.protocol.probe import Costs, Probe
from configs.spec.autopilot import AutopilotSpec
from configs.spec.jobs import ProbeSpec
from configs.spec.references import NamedDataset
from configs.spec.run import RunSpec
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
    ProbedTeacher,
    TeacherCandidate,
    common_methods,
    list_candidates,
    list_trained_teachers,
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


@dataclass(frozen=True)
class Candidates:
    """What is probed: students, and teachers that are trained first."""

    students: tuple[Candidate, ...]
    teachers: tuple[TeacherCandidate, ...]
    has_teacher: bool
    """Whether a teacher is registered, so that students are probed with it."""

    def list_probes(self) -> dict[str, RunSpec]:
        """The run that each probe times, by the probe's key."""
        students = {
            probe_key(candidate.name): candidate.distilled
            if self.has_teacher
            else candidate.baseline
            for candidate in self.students
        }
        return students | {probe_key(teacher.name): teacher.training for teacher in self.teachers}


@dataclass(frozen=True)
class Probed:
    """What the probes have measured."""

    students: list[ProbedStudent] = field(default_factory=list)
    teachers: list[ProbedTeacher] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is left out, and why."""


def launch_probes(autopilot_id: str, *, ctx: Context) -> None:
    """Enqueue the probes that are missing."""
    with ctx.queue_transaction() as uow:
        uow.runs.lock_inserts()
        autopilot = uow.autopilots.get_for_update(autopilot_id)
        existing = {job.key for job in uow.autopilots.jobs(autopilot.id)}
        for key, base in find_candidates(uow, autopilot.spec).list_probes().items():
            if key not in existing:
                name = key.replace(".", " of ", 1)
                job = NewJob(key, name, _probe_spec(autopilot, base))
                add_autopilot_job(uow, autopilot, job, at=ctx.clock.now())


def apply_probes(autopilot: Autopilot, runs: Mapping[str, Run], *, ctx: Context) -> None:
    """Begin the search with what the probes have measured; or fail without a usable student or
    teacher. `runs` are the probes by key, all over."""
    with ctx.store.snapshot() as uow:
        candidates = find_candidates(uow, autopilot.spec)
        starts = {
            key: _measure_start(run, uow.attempts.get(run.id, 1)) for key, run in runs.items()
        }
    probed = _read_probes(autopilot.spec, candidates, runs, starts, ctx=ctx)
    now, request = ctx.clock.now(), _make_request(autopilot, candidates, probed, ctx=ctx)
    with ctx.store.transaction() as uow:
        current = uow.autopilots.get_for_update(autopilot.id)
        if current.phase is not AutopilotPhase.PROBING:
            return
        current = replace(current, notes=(*current.notes, *probed.notes), request=request)
        if request is None:
            message = " ".join(probed.notes) or "No method distills all of the students."
            moved = enter_phase(current, AutopilotPhase.FAILED, at=now, message=message)
        else:
            moved = enter_phase(current, AutopilotPhase.SEARCHING, at=now)
        uow.autopilots.save(moved)


def find_candidates(uow: UnitOfWork, spec: AutopilotSpec) -> Candidates:
    """What a spec names, with the teachers as they are registered now."""
    teachers = {name: uow.registry.teacher(name) for name in spec.teachers}
    detectors = {name: teacher.detector for name, teacher in teachers.items() if teacher}
    return Candidates(
        students=list_candidates(spec, detectors),
        teachers=list_trained_teachers(spec),
        has_teacher=bool(detectors),
    )


def probe_key(name: str) -> str:
    """The key of the probe of a student or of a teacher that is trained."""
    return f"{PROBE_KEY}.{name}"


def _probe_spec(autopilot: Autopilot, base: RunSpec) -> ProbeSpec:
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
    candidates: Candidates,
    runs: Mapping[str, Run],
    starts: Mapping[str, float],
    *,
    ctx: Context,
) -> Probed:
    """The students and teachers that may be trained, and why others may not."""
    probed = Probed()
    for candidate in candidates.students:
        key = probe_key(candidate.name)
        probe = _read_probe(runs[key], ctx=ctx)
        problem = probe if isinstance(probe, str) else _check_latency(spec, probe.costs)
        if problem is not None:
            probed.notes.append(f"{candidate.name} is left out: {problem}")
        elif isinstance(probe, Probe):
            probed.students.append(ProbedStudent(candidate, probe.costs, starts[key]))
    for teacher in candidates.teachers:
        probe = _read_probe(runs[probe_key(teacher.name)], ctx=ctx)
        if isinstance(probe, str):
            probed.notes.append(f"The teacher {teacher.name} is left out: {probe}")
        else:
            probed.teachers.append(ProbedTeacher(teacher, probe.costs))
    return probed


def _check_latency(spec: AutopilotSpec, costs: Costs) -> str | None:
    """Why a student is too slow. None if it is fast enough."""
    limit_ms = spec.max_latency_ms
    latency_ms = None if costs.latency_s is None else 1000.0 * costs.latency_s
    if limit_ms is None or (latency_ms is not None and latency_ms <= limit_ms):
        return None
    measured = "was not measured" if latency_ms is None else f"is {latency_ms:.1f} ms"
    return f"its latency {measured} on {costs.device}, and at most {limit_ms:g} ms are allowed."


def _read_probe(run: Run, *, ctx: Context) -> Probe | str:
    """The result of a probe, or why there is none."""
    if run.state is not RunState.SUCCEEDED:
        return f"its probe, run {run.id}, is {run.state}. {run.message}".strip()
    probe = read_probe(run.id, ctx=ctx)
    return probe or f"its probe, run {run.id}, has no valid {RunFile.PROBE}."


def _measure_start(run: Run, attempt: Attempt | None) -> float:
    """Seconds from the submission of a job to the start that it reported; 0 if its first attempt
    did not start."""
    if attempt is None or run.started_at is None or run.attempt != 1:
        return 0.0
    return max(0.0, (run.started_at - attempt.created_at).total_seconds())


def _make_request(
    autopilot: Autopilot, candidates: Candidates, probed: Probed, *, ctx: Context
) -> AutopilotRequest | None:
    """None without a student, a teacher or a method."""
    has_teacher = candidates.has_teacher or bool(probed.teachers)
    methods = common_methods([student.candidate for student in probed.students])
    if not (has_teacher and methods):
        return None
    base = autopilot.spec.base
    with ctx.store.snapshot() as uow:
        reference = base.data.dataset
        assert isinstance(reference, NamedDataset)  # planned before the launch
        dataset = uow.registry.dataset(reference.name)
    available = 1 if dataset is None else dataset.manifest.val.num_images
    return make_request(
        autopilot.spec,
        probed.students,
        probed.teachers,
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
