"""The inputs of a report: runs with their baselines, curves and teachers, and the noise floor."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from configs.derived_specs import is_distilled, seedless_digest
from configs.protocol.probe import Costs
from configs.protocol.report import ReportInputs, ReportRun, RunRole
from configs.protocol.sweep_log import SweepEntry, TrialEnded, TrialResult, TrialSuggested
from configs.spec.base import TeacherControl
from configs.spec.jobs import ReportSpec
from configs.spec.run import RunSpec
from configs.spec.sweep import SweepSpec, Values
from service.domain.errors.requests import RunNotFound
from service.domain.repositories.baselines import MAX_PAIRS
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.states import RunState
from service.usecases.baselines.lookup import get_dataset_digest
from service.usecases.baselines.noise import compute_spec_noise
from service.usecases.context import Context
from service.usecases.registry import resolve_dataset_files
from service.usecases.report_curves import (
    build_evaluation_curve,
    build_execution,
    build_loss_curve,
    build_weight_curve,
    read_teacher_scores,
)

_MAX_LOSS_CURVES = 16
"""Number of runs with curves of losses and weights: of a sweep those with the best mAP."""


@dataclass(frozen=True)
class _Subject:
    """The run or sweep of a report, with all runs that the report compares."""

    title: str
    project: str
    base: RunSpec
    runs: Sequence[Run]
    preset: str | None
    sweep_id: str | None = None
    sweep: SweepSpec | None = None
    costs: Costs | None = None
    entries: tuple[SweepEntry, ...] = ()
    values: dict[int, Values] = field(default_factory=dict)
    results: dict[int, TrialResult] = field(default_factory=dict)

    @property
    def succeeded_ids(self) -> set[str]:
        """Ids of runs that others can be compared with."""
        return {run.id for run in self.runs if run.state is RunState.SUCCEEDED}

    @property
    def ids_with_loss_curves(self) -> set[str]:
        """Ids of the runs whose curves of losses and weights are collected."""
        by_map = sorted(self.runs, key=lambda run: -(run.results.best_map or 0.0))
        return {run.id for run in (by_map if self.sweep else self.runs)[:_MAX_LOSS_CURVES]}


def build_report_inputs(spec: ReportSpec, *, ctx: Context) -> ReportInputs:
    """Collect the data of a report from the database, as of now.

    Raises `RunNotFound` if its subject is a run that does not train.
    """
    with ctx.store.snapshot() as uow:
        subject = _run_subject(uow, spec.run) if spec.run else _sweep_subject(uow, spec.sweep or "")
        dataset = resolve_dataset_files(uow, subject.base.data.dataset)
        runs = tuple(_report_run(uow, run, subject, ctx=ctx) for run in subject.runs)
        noise = compute_spec_noise(uow, subject.base, project=subject.project).floor
    return ReportInputs(
        title=subject.title,
        at=ctx.clock.now(),
        dataset=dataset,
        runs=runs,
        preset=subject.preset,
        sweep_id=subject.sweep_id,
        sweep=subject.sweep,
        entries=subject.entries,
        noise=noise,
        costs=subject.costs,
        service_url=ctx.service_url,
        mlflow_url=_mlflow_page(subject, ctx=ctx),
    )


def _mlflow_page(subject: _Subject, *, ctx: Context) -> str:
    """The trials of a sweep, or the page that compares the runs; the experiment without runs."""
    if subject.sweep_id is not None:
        return ctx.mlflow_pages.runs(subject.project, view=subject.sweep_id)
    tracked = [run.tracking.mlflow_run_id for run in subject.runs]
    mlflow_run_ids = [run_id for run_id in tracked if run_id is not None]
    comparison = None
    if mlflow_run_ids:
        comparison = ctx.mlflow_pages.comparison(mlflow_run_ids, project=subject.project)
    return comparison or ctx.mlflow_pages.runs(subject.project)


def _run_subject(uow: UnitOfWork, run_id: str) -> _Subject:
    run = _find_subject(uow, uow.runs.get(run_id))
    if not isinstance(run.spec, RunSpec):
        raise RunNotFound(run_id)
    compared = [*_runs_of_other_seeds(uow, run), *_find_controls(uow, run)]
    return _Subject(
        title=run.name,
        project=run.project,
        base=run.spec,
        runs=_add_baselines(uow, compared),
        preset=run.preset,
    )


def _find_subject(uow: UnitOfWork, run: Run) -> Run:
    """The run itself; of a control the run that it controls, once that has succeeded.

    So whichever of them succeeds last gets the report with all of them.
    """
    if not isinstance(run.spec, RunSpec) or run.spec.control is None:
        return run
    pairs = _find_pairs_of_spec(uow, run, run.spec.model_copy(update={"control": None}))
    seed = run.spec.seed
    same_seed = (run for run in pairs if isinstance(run.spec, RunSpec) and run.spec.seed == seed)
    return next(same_seed, pairs[0] if pairs else run)


def _find_controls(uow: UnitOfWork, run: Run) -> list[Run]:
    """The controls of a run with all seeds, with succeeded baselines."""
    if not isinstance(run.spec, RunSpec) or not is_distilled(run.spec) or run.spec.control:
        return []
    kinds: tuple[TeacherControl, ...] = get_args(TeacherControl)
    return [
        control
        for kind in kinds
        for control in _find_pairs_of_spec(uow, run, run.spec.model_copy(update={"control": kind}))
    ]


def _find_pairs_of_spec(uow: UnitOfWork, run: Run, spec: RunSpec) -> list[Run]:
    """The runs of a run's project with this spec and any seed that can be compared."""
    dataset_digest = get_dataset_digest(uow, spec)
    if dataset_digest is None:
        return []
    digest = seedless_digest(spec, dataset_digest=dataset_digest)
    pairs = uow.baselines.find_pairs(digest, project=run.project, are_over=True)
    return [distilled for distilled, _ in pairs]


def _runs_of_other_seeds(uow: UnitOfWork, run: Run) -> list[Run]:
    """The run itself, then comparable runs that differ from it in the seed alone."""
    lineage = run.lineage
    if lineage.seedless_digest is None or lineage.baseline_run_id is None:
        return [run]
    pairs = uow.baselines.find_pairs(lineage.seedless_digest, project=run.project, are_over=True)
    distilled = [other for other, _ in pairs if other.lineage.spec_digest != lineage.spec_digest]
    return [run, *distilled[-(MAX_PAIRS - 1) :]]


def _sweep_subject(uow: UnitOfWork, sweep_id: str) -> _Subject:
    sweep, entries = uow.sweeps.get(sweep_id), tuple(uow.sweeps.entries(sweep_id))
    return _Subject(
        title=sweep.name,
        project=sweep.project,
        base=sweep.spec.base,
        runs=_add_baselines(uow, uow.runs.of_sweep(sweep_id)),
        preset=sweep.preset,
        sweep_id=sweep_id,
        sweep=sweep.spec,
        costs=None if sweep.probe is None else sweep.probe.costs,
        entries=entries,
        values={
            entry.number: entry.values for entry in entries if isinstance(entry, TrialSuggested)
        },
        results={entry.number: entry.result for entry in entries if isinstance(entry, TrialEnded)},
    )


def _add_baselines(uow: UnitOfWork, runs: Sequence[Run]) -> list[Run]:
    """The training runs among `runs` and their baselines, each once."""
    by_id = {run.id: run for run in runs if isinstance(run.spec, RunSpec)}
    for run in list(by_id.values()):
        baseline_id = run.lineage.baseline_run_id
        if baseline_id is not None and baseline_id not in by_id:
            by_id[baseline_id] = uow.runs.get(baseline_id)
    return list(by_id.values())


def _report_run(uow: UnitOfWork, run: Run, subject: _Subject, *, ctx: Context) -> ReportRun:
    assert isinstance(run.spec, RunSpec)
    is_of_sweep = subject.sweep_id is not None and run.lineage.sweep_id == subject.sweep_id
    trial = run.lineage.trial if is_of_sweep else None
    baseline_id = run.lineage.baseline_run_id
    has_loss_curve = run.id in subject.ids_with_loss_curves
    return ReportRun(
        id=run.id,
        name=run.name,
        role=_role(run.spec),
        trial=trial,
        values={} if trial is None else subject.values.get(trial, {}),
        result=None if trial is None else subject.results.get(trial),
        folder=str(ctx.files.run_dir(run.id)),
        spec=run.spec,
        seedless_digest=None if is_of_sweep else run.lineage.seedless_digest,
        baseline=baseline_id if baseline_id in subject.succeeded_ids else None,
        best_map=run.results.best_map,
        best_epoch=run.results.best_epoch,
        teacher=read_teacher_scores(uow, run),
        curve=build_evaluation_curve(uow, run, run.spec),
        losses=build_loss_curve(uow, run, run.spec) if has_loss_curve else (),
        weights=build_weight_curve(uow, run, run.spec) if has_loss_curve else (),
        execution=build_execution(uow, run),
        mlflow_url=_run_page(run, ctx=ctx),
    )


def _role(spec: RunSpec) -> RunRole:
    if not is_distilled(spec):
        return "baseline"
    return "distilled" if spec.control is None else "control"


def _run_page(run: Run, *, ctx: Context) -> str | None:
    """MLflow's page of a run; None if it is not tracked."""
    mlflow_run_id = run.tracking.mlflow_run_id
    if mlflow_run_id is None:
        return None
    return ctx.mlflow_pages.run(mlflow_run_id, project=run.project)
