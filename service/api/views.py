"""Converts domain objects into the response models of the API."""

from collections.abc import Iterator, Sequence

from configs.conclusions import conclude
from configs.dataset_summary import compute_share_below, list_image_sizes
from configs.metric_keys import Metric
from configs.protocol.comparison import MAP_PARTS, Comparison
from configs.protocol.dataset_statistics import DatasetStatistics
from configs.protocol.failure import advice
from configs.protocol.sweep_log import TrialEvaluation, TrialJudged, best_value
from configs.spec.jobs import get_dataset_name
from configs.spec.sweep import Objective
from service.api.schemas.access import AuditView, ProjectView, TokenView
from service.api.schemas.registry import (
    DatasetView,
    ResizedObjectsView,
    StatisticsView,
    TeacherView,
)
from service.api.schemas.run_details import (
    AttemptView,
    ComparisonView,
    EventView,
    MetricView,
    NoiseView,
)
from service.api.schemas.run_lists import RunSummaryView
from service.api.schemas.runs import (
    FindingView,
    LevelLossShareView,
    LossSharesView,
    PlannedBaselineView,
    PlannedControlView,
    PlanView,
    RepeatedPairView,
    RepeatView,
    RunEstimateView,
    RunView,
)
from service.api.schemas.sweeps import (
    BestView,
    EstimateView,
    SweepPlanView,
    SweepView,
    TrialRunView,
    TrialView,
)
from service.domain.access import AuditEntry, Token
from service.domain.baselines import PlannedBaseline, PlannedControl
from service.domain.estimates import RunEstimate
from service.domain.loss_shares import LossShares
from service.domain.mlflow_pages import MlflowPages
from service.domain.planning.plan import Plan
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.run_fields import flatten_run
from service.domain.runs import Attempt, Event, MetricPoint, Run
from service.domain.scheduling.projects import Project
from service.domain.sweeps import Sweep
from service.usecases.baselines.noise import SeedNoise
from service.usecases.baselines.repeat import SeedPair
from service.usecases.runs.queries import ListedRun, ShownRun
from service.usecases.sweeps.launch import SweepPlan
from service.usecases.sweeps.status import SweepStatus
from service.usecases.sweeps.trials import TrialState


def to_run_view(details: ShownRun, *, mlflow: MlflowPages) -> RunView:
    """The view of a run, with links to its page in MLflow and to the page that compares it."""
    run, comparison = details.run, details.comparison
    stored = {
        name: value for name, value in flatten_run(run).items() if name in RunView.model_fields
    }
    mlflow_run_id = run.tracking.mlflow_run_id
    return RunView(
        **stored,
        task=run.task,
        advice=None if run.reason is None else advice(run.reason),
        teacher_map=run.results.latest.get(Metric.TEACHER_MAP),
        comparison=None if comparison is None else to_comparison_view(comparison),
        mlflow_url=None
        if mlflow_run_id is None
        else mlflow.run(mlflow_run_id, project=run.project),
        compare_url=details.compare_url,
        queue_position=details.queue_position,
    )


def to_run_summary_view(listed: ListedRun, *, mlflow: MlflowPages) -> RunSummaryView:
    """The view of a run in a list; it shares most fields with the view of the run."""
    view = to_run_view(ShownRun(listed.run), mlflow=mlflow)
    common = RunSummaryView.model_fields.keys() & RunView.model_fields.keys()
    return RunSummaryView(
        **{name: getattr(view, name) for name in common},
        dataset=get_dataset_name(listed.run.spec),
        gain=listed.gain,
        verdict=listed.verdict,
    )


def to_comparison_view(comparison: Comparison) -> ComparisonView | None:
    """The difference in mAP, which decides the verdict. None if mAP was not compared."""
    map_difference = comparison.parts.get(MAP_PARTS[0])
    if map_difference is None:
        return None
    return ComparisonView(
        verdict=comparison.verdict,
        seed_spread=comparison.seed_spread,
        conclusion=conclude(comparison),
        difference=map_difference.difference,
        low=map_difference.low,
        high=map_difference.high,
        teacher_map=comparison.teacher_map,
        gap_closed=comparison.gap_closed,
        basis=comparison.basis,
        images=comparison.images,
        gains=list(comparison.gains),
    )


def to_repeat_view(run_id: str, pairs: Sequence[SeedPair]) -> RepeatView:
    """The pairs of runs and baselines of a repeated run, by seed."""
    return RepeatView(
        run_id=run_id,
        pairs=[
            RepeatedPairView(
                seed=pair.seed,
                run_id=pair.run.id,
                state=pair.run.state,
                baseline_run_id=pair.baseline.id,
                baseline_state=pair.baseline.state,
                is_new=pair.is_new,
            )
            for pair in pairs
        ],
    )


def to_noise_view(noise: SeedNoise) -> NoiseView:
    """The noise floor of a run, and the runs that it was computed from."""
    return NoiseView(noise=noise.floor, runs=list(noise.run_ids))


def to_attempt_view(attempt: Attempt) -> AttemptView:
    """The view of an attempt; both have the same field names."""
    return AttemptView(**{name: getattr(attempt, name) for name in AttemptView.model_fields})


def to_event_view(event: Event) -> EventView:
    """The view of an event; both have the same field names."""
    return EventView(**{name: getattr(event, name) for name in EventView.model_fields})


def to_metric_view(point: MetricPoint) -> MetricView:
    """One value of one metric, without its run."""
    return MetricView(key=point.key, step=point.step, value=point.value, at=point.at)


def to_loss_shares_view(shares: LossShares) -> LossSharesView:
    """The share of each loss term, overall and by feature level."""
    parts = [LevelLossShareView(**vars(part)) for part in shares.parts]
    return LossSharesView(
        samples=shares.samples, step=shares.step, parts=parts, verdict=shares.verdict
    )


def to_plan_view(plan: Plan) -> PlanView:
    """The result of a run's dry run."""
    findings = [
        FindingView(severity=f.severity, field=f.field, code=f.code, message=f.message)
        for f in plan.findings
    ]
    return PlanView(
        spec=plan.spec,
        estimate=_to_run_estimate_view(plan.estimate),
        findings=findings,
        waiting_for=plan.waiting_for,
        baseline=None if plan.baseline is None else _to_planned_baseline_view(plan.baseline),
        controls=tuple(map(_to_planned_control_view, plan.controls)),
        noise=plan.noise,
    )


def _to_run_estimate_view(estimate: RunEstimate | None) -> RunEstimateView | None:
    return None if estimate is None else RunEstimateView(**vars(estimate), steps=estimate.steps)


def _to_planned_baseline_view(planned: PlannedBaseline) -> PlannedBaselineView:
    run = planned.run
    if run is None:
        return PlannedBaselineView(run_id=None, state=None, best_map=None)
    return PlannedBaselineView(run_id=run.id, state=run.state, best_map=run.results.best_map)


def _to_planned_control_view(planned: PlannedControl) -> PlannedControlView:
    run = planned.run
    if run is None:
        return PlannedControlView(control=planned.kind, run_id=None, state=None, best_map=None)
    return PlannedControlView(
        control=planned.kind, run_id=run.id, state=run.state, best_map=run.results.best_map
    )


def to_dataset_view(dataset: RegisteredDataset) -> DatasetView:
    """The view of a registered dataset."""
    return DatasetView(
        name=dataset.name,
        root=str(dataset.root),
        manifest=dataset.manifest,
        registered_at=dataset.registered_at,
    )


def to_statistics_view(name: str, statistics: DatasetStatistics) -> StatisticsView:
    """The statistics of a dataset, with sizes of its objects at the image sizes of presets."""
    resized = tuple(
        ResizedObjectsView(
            image_size=size,
            share_below_8_px=compute_share_below(statistics, 8, image_size=size),
            share_below_16_px=compute_share_below(statistics, 16, image_size=size),
            share_below_32_px=compute_share_below(statistics, 32, image_size=size),
        )
        for size in list_image_sizes(name)
    )
    fields = {key: getattr(statistics, key) for key in type(statistics).model_fields}
    return StatisticsView(**fields, name=name, resized=resized)


def to_teacher_view(teacher: RegisteredTeacher) -> TeacherView:
    """The view of a registered teacher."""
    return TeacherView(**{**vars(teacher), "checkpoint": str(teacher.checkpoint)})


def to_project_view(project: Project) -> ProjectView:
    """The limits and the weight of a project."""
    return ProjectView(**vars(project))


def to_token_view(token: Token) -> TokenView:
    """The view of a token, without its digest."""
    return TokenView(**{name: getattr(token, name) for name in TokenView.model_fields})


def to_audit_view(entry: AuditEntry) -> AuditView:
    """The view of an audit entry; both have the same field names."""
    return AuditView(**{name: getattr(entry, name) for name in AuditView.model_fields})


def to_sweep_view(status: SweepStatus, *, mlflow: MlflowPages) -> SweepView:
    """The view of a sweep, with a link to its trials in MLflow."""
    sweep = status.sweep
    stored = {name: getattr(sweep, name) for name in SweepView.model_fields if hasattr(sweep, name)}
    derived = {
        "spec": status.spec,
        "warnings": list(status.warnings),
        "trials": status.trials,
        "by_result": status.by_result,
        "best": _to_best_view(status),
        "waiting_for": status.waiting_for,
        "estimate": None if status.estimate is None else EstimateView(**vars(status.estimate)),
        "mlflow_url": None
        if sweep.mlflow_run_id is None
        else mlflow.runs(sweep.project, view=sweep.id),
    }
    return SweepView(**{**stored, **derived})


def to_sweep_plan_view(plan: SweepPlan) -> SweepPlanView:
    """The result of a sweep's dry run."""
    return SweepPlanView(
        spec=plan.spec,
        findings=[FindingView(**vars(finding)) for finding in plan.findings],
        waiting_for=plan.waiting_for,
        trials=plan.trials,
        runs=plan.runs,
        run_estimate=_to_run_estimate_view(plan.run_estimate),
    )


def to_trial_view(state: TrialState, sweep: Sweep) -> TrialView:
    """The progress or the result of a trial, with its runs."""
    trial, ended = state.trial, state.trial.ended
    epochs = [evaluation.epoch for evaluation in _iter_evaluations(state)]
    return TrialView(
        number=trial.number,
        values=trial.values,
        state=ended.result if ended is not None else state.progress.result or "running",
        runs=[_to_trial_run_view(run) for run in state.runs],
        epoch=ended.epoch if ended is not None else max(epochs, default=0),
        objectives=ended.values
        if ended is not None
        else _best_objectives(state, sweep.spec.objectives),
        message=state.message,
    )


def _to_best_view(status: SweepStatus) -> BestView | None:
    best, objective = status.best, status.sweep.spec.objectives[0]
    value = None if best is None else best.best_value(objective)
    if best is None or value is None:
        return None
    return BestView(trial=best.number, values=best.values, objective=value)


def _best_objectives(state: TrialState, objectives: tuple[Objective, ...]) -> dict[str, float]:
    evaluations = [evaluation.values for evaluation in _iter_evaluations(state)]
    best = {objective.metric: best_value(objective, evaluations) for objective in objectives}
    return {metric: value for metric, value in best.items() if value is not None}


def _iter_evaluations(state: TrialState) -> Iterator[TrialEvaluation | TrialJudged]:
    """Evaluations in the sweep's log, and those that the driver has not logged yet."""
    yield from state.trial.judgments
    yield from state.progress.evaluations


def _to_trial_run_view(run: Run) -> TrialRunView:
    progress = run.results.progress
    return TrialRunView(
        id=run.id,
        seed=getattr(run.spec, "seed", 0),
        state=run.state,
        epoch=None if progress is None else progress.epoch,
        epochs=None if progress is None else progress.epochs,
        mlflow_run_id=run.tracking.mlflow_run_id,
    )
