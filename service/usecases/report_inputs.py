"""What a report is told: its runs with their twins, curves and teachers, and the noise floor."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from configs.derived_specs import is_distilled
from configs.protocol.probe import Costs
from configs.protocol.report import MAP_PARTS, CurvePoint, ReportInputs, ReportRun
from configs.protocol.sweep_log import SweepEntry, TrialEnded, TrialResult, TrialSuggested
from configs.spec.jobs import ReportSpec
from configs.spec.run import RunSpec
from configs.spec.sweep import SweepSpec, Values
from service.domain.errors import RunNotFound
from service.domain.repositories.baselines import MAX_PAIRS
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.states import RunState
from service.usecases.baselines.noise import compute_spec_noise
from service.usecases.context import Context
from service.usecases.registry import resolve_dataset_files

_STUDENT, _TEACHER = "val", "teacher"
"""What metrics of the student and of its teacher begin with."""


@dataclass(frozen=True)
class _Subject:
    """What a report is about."""

    title: str
    project: str
    base: RunSpec
    runs: Sequence[Run]
    sweep_id: str | None = None
    sweep: SweepSpec | None = None
    costs: Costs | None = None
    entries: tuple[SweepEntry, ...] = ()
    values: dict[int, Values] = field(default_factory=dict)
    results: dict[int, TrialResult] = field(default_factory=dict)

    @property
    def succeeded(self) -> set[str]:
        """Runs that something can be compared with."""
        return {run.id for run in self.runs if run.state is RunState.SUCCEEDED}


def build_report_inputs(spec: ReportSpec, *, ctx: Context) -> ReportInputs:
    """Everything that a report rests on, as it is now: a later report may know more."""
    with ctx.store.transaction() as uow:
        subject = _run(uow, spec.run) if spec.run else _sweep(uow, spec.sweep or "")
        dataset = resolve_dataset_files(uow, subject.base.data.dataset)
        runs = tuple(_told(uow, run, subject, ctx=ctx) for run in subject.runs)
        noise = compute_spec_noise(uow, subject.base, project=subject.project).floor
    return ReportInputs(
        title=subject.title,
        at=ctx.clock.now(),
        dataset=dataset,
        runs=runs,
        sweep_id=subject.sweep_id,
        sweep=subject.sweep,
        entries=subject.entries,
        noise=noise,
        costs=subject.costs,
        service_url=ctx.service_url,
        mlflow_url=ctx.mlflow_public_url,
    )


def _run(uow: UnitOfWork, run_id: str) -> _Subject:
    run = uow.runs.get(run_id)
    if not isinstance(run.spec, RunSpec):
        raise RunNotFound(run_id)
    return _Subject(run.name, run.project, run.spec, _with_twins(uow, _family(uow, run)))


def _family(uow: UnitOfWork, run: Run) -> list[Run]:
    """The run, first, and those that differ from it in their seed alone and can be compared."""
    if run.seedless_digest is None or run.baseline_run_id is None:
        return [run]
    pairs = uow.baselines.find_pairs(run.seedless_digest, project=run.project, are_over=True)
    others = [other for other, _ in pairs if other.spec_digest != run.spec_digest]
    return [run, *others[-(MAX_PAIRS - 1) :]]


def _sweep(uow: UnitOfWork, sweep_id: str) -> _Subject:
    sweep, entries = uow.sweeps.get(sweep_id), tuple(uow.sweeps.entries(sweep_id))
    return _Subject(
        title=sweep.name,
        project=sweep.project,
        base=sweep.spec.base,
        runs=_with_twins(uow, uow.runs.of_sweep(sweep_id)),
        sweep_id=sweep_id,
        sweep=sweep.spec,
        costs=None if sweep.probe is None else sweep.probe.costs,
        entries=entries,
        values={
            entry.number: entry.values for entry in entries if isinstance(entry, TrialSuggested)
        },
        results={entry.number: entry.result for entry in entries if isinstance(entry, TrialEnded)},
    )


def _with_twins(uow: UnitOfWork, runs: Sequence[Run]) -> list[Run]:
    """Those that train, and the twins that are not among them: each run once."""
    found = {run.id: run for run in runs if isinstance(run.spec, RunSpec)}
    for run in list(found.values()):
        twin = run.baseline_run_id
        if twin is not None and twin not in found:
            found[twin] = uow.runs.get(twin)
    return list(found.values())


def _told(uow: UnitOfWork, run: Run, subject: _Subject, *, ctx: Context) -> ReportRun:
    assert isinstance(run.spec, RunSpec)
    is_of_sweep = subject.sweep_id is not None and run.sweep_id == subject.sweep_id
    trial = run.trial if is_of_sweep else None
    return ReportRun(
        id=run.id,
        name=run.name,
        role="distilled" if is_distilled(run.spec) else "baseline",
        trial=trial,
        values={} if trial is None else subject.values.get(trial, {}),
        result=None if trial is None else subject.results.get(trial),
        folder=str(ctx.files.run_dir(run.id)),
        spec=run.spec,
        seedless_digest=None if is_of_sweep else run.seedless_digest,
        baseline=run.baseline_run_id if run.baseline_run_id in subject.succeeded else None,
        best_map=run.best_map,
        best_epoch=run.best_epoch,
        teacher=_teacher(uow, run),
        curve=_curve(uow, run, run.spec),
    )


def _teacher(uow: UnitOfWork, run: Run) -> dict[str, float]:
    found = {}
    for part in MAP_PARTS:
        points = uow.metric_points.of_run(run.id, key=f"{_TEACHER}/{part}")
        if points:
            found[part] = points[-1].value
    return found


def _curve(uow: UnitOfWork, run: Run, spec: RunSpec) -> tuple[CurvePoint, ...]:
    """Each evaluation of the student, with the metrics' own names."""
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for part in MAP_PARTS:
        for point in uow.metric_points.of_run(run.id, key=f"{_STUDENT}/{part}"):
            by_step[point.step][point.key] = point.value
    steps_per_epoch = _steps_per_epoch(run, spec, last=max(by_step, default=0))
    return tuple(
        CurvePoint(step=step, epoch=step / steps_per_epoch, values=values)
        for step, values in sorted(by_step.items())
    )


def _steps_per_epoch(run: Run, spec: RunSpec, *, last: int) -> float:
    """As its worker said; else the last evaluation is taken for that of the last epoch."""
    said = run.progress
    if said is not None and said.steps and said.epochs:
        return said.steps / said.epochs
    return max(1.0, last / spec.schedule.epochs)
