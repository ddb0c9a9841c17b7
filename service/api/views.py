"""From what we have to what the API shows."""

from collections.abc import Sequence

from configs.conclusions import conclude
from configs.protocol.failure import advice
from configs.protocol.names import Metric
from configs.protocol.report import MAP_PARTS, Comparison
from configs.protocol.sweep_log import TrialEvaluation, TrialJudged
from configs.spec.sweep import Objective
from service.api.schemas.access import AuditView, ProjectView, TokenView
from service.api.schemas.registry import DatasetView, TeacherView
from service.api.schemas.runs import (
    AttemptView,
    ComparisonView,
    EventView,
    FindingView,
    LossSharesView,
    MetricView,
    NoiseView,
    PlannedBaselineView,
    PlanView,
    RepeatedPairView,
    RepeatView,
    RunView,
    TermShareView,
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
from service.domain.baselines import PlannedBaseline
from service.domain.loss_budget import LossShares
from service.domain.planning.plan import Plan
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.runs import Attempt, Event, MetricPoint, Run
from service.domain.scheduling.projects import Project
from service.domain.sweeps import Sweep
from service.usecases.baselines.noise import SeedNoise
from service.usecases.baselines.repeat import SeedPair
from service.usecases.sweeps.launch import SweepPlan
from service.usecases.sweeps.status import SweepStatus
from service.usecases.sweeps.trials import TrialState


def to_run_view(run: Run, *, mlflow_url: str, comparison: Comparison | None = None) -> RunView:
    """A run as the API shows it."""
    return RunView(
        id=run.id,
        name=run.name,
        task=run.task,
        preset=run.preset,
        project=run.project,
        priority=run.priority,
        state=run.state,
        desired=run.desired,
        spec=run.spec,
        attempt=run.attempt,
        reason=run.reason,
        message=run.message,
        advice=None if run.reason is None else advice(run.reason),
        waiting_for=run.waiting_for,
        queue_position=run.queue_position,
        not_before=run.not_before,
        progress=run.progress,
        latest=run.latest,
        best_map=run.best_map,
        best_epoch=run.best_epoch,
        teacher_map=run.latest.get(Metric.TEACHER_MAP),
        sweep_id=run.sweep_id,
        trial=run.trial,
        baseline_run_id=run.baseline_run_id,
        is_baseline_lost=run.is_baseline_lost,
        comparison=None if comparison is None else to_comparison_view(comparison),
        report_run_id=run.report_run_id,
        mlflow_run_id=run.mlflow_run_id,
        mlflow_url=None
        if run.mlflow_run_id is None
        else f"{mlflow_url}/#/runs/{run.mlflow_run_id}",
        pending_records=run.pending_records,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        last_seen_at=run.last_seen_at,
    )


def to_comparison_view(found: Comparison) -> ComparisonView | None:
    """A comparison as the API shows it: what decides; none if mAP is not among its parts."""
    decides = found.parts.get(MAP_PARTS[0])
    if decides is None:
        return None
    return ComparisonView(
        verdict=found.verdict,
        seed_spread=found.seed_spread,
        conclusion=conclude(found),
        difference=decides.difference,
        low=decides.low,
        high=decides.high,
        teacher_map=found.teacher_map,
        gap_closed=found.gap_closed,
        basis=found.basis,
        images=found.images,
        gains=list(found.gains),
    )


def to_repeat_view(run_id: str, pairs: Sequence[SeedPair]) -> RepeatView:
    """The pairs of a repeated run as the API shows them."""
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
    """What is known about seeds as the API shows it."""
    return NoiseView(noise=noise.floor, runs=list(noise.run_ids))


def to_attempt_view(attempt: Attempt) -> AttemptView:
    """An attempt as the API shows it."""
    return AttemptView(**{name: getattr(attempt, name) for name in AttemptView.model_fields})


def to_event_view(event: Event) -> EventView:
    """An event as the API shows it."""
    return EventView(**{name: getattr(event, name) for name in EventView.model_fields})


def to_metric_view(point: MetricPoint) -> MetricView:
    """A metric value as the API shows it."""
    return MetricView(key=point.key, step=point.step, value=point.value, at=point.at)


def to_loss_shares_view(budget: LossShares) -> LossSharesView:
    """A loss budget as the API shows it."""
    parts = [TermShareView(**vars(part)) for part in budget.parts]
    return LossSharesView(
        samples=budget.samples, step=budget.step, parts=parts, verdict=budget.verdict
    )


def to_plan_view(plan: Plan) -> PlanView:
    """A plan as the API shows it."""
    findings = [
        FindingView(severity=f.severity, field=f.field, code=f.code, message=f.message)
        for f in plan.findings
    ]
    return PlanView(
        spec=plan.spec,
        findings=findings,
        waiting_for=plan.waiting_for,
        baseline=None if plan.baseline is None else _view_of_baseline(plan.baseline),
        noise=plan.noise,
    )


def _view_of_baseline(planned: PlannedBaseline) -> PlannedBaselineView:
    run = planned.run
    if run is None:
        return PlannedBaselineView(run_id=None, state=None, best_map=None)
    return PlannedBaselineView(run_id=run.id, state=run.state, best_map=run.best_map)


def to_dataset_view(dataset: RegisteredDataset) -> DatasetView:
    """A dataset as the API shows it."""
    return DatasetView(
        name=dataset.name,
        root=str(dataset.root),
        manifest=dataset.manifest,
        registered_at=dataset.registered_at,
    )


def to_teacher_view(teacher: RegisteredTeacher) -> TeacherView:
    """A teacher as the API shows it."""
    return TeacherView(**{**vars(teacher), "checkpoint": str(teacher.checkpoint)})


def to_project_view(project: Project) -> ProjectView:
    """A project as the API shows it."""
    return ProjectView(**vars(project))


def to_token_view(token: Token) -> TokenView:
    """A token as the API shows it: without its digest."""
    return TokenView(**{name: getattr(token, name) for name in TokenView.model_fields})


def to_audit_view(entry: AuditEntry) -> AuditView:
    """A line of the audit as the API shows it."""
    return AuditView(**{name: getattr(entry, name) for name in AuditView.model_fields})


def to_sweep_view(status: SweepStatus, *, mlflow_url: str) -> SweepView:
    """A sweep as the API shows it."""
    sweep = status.sweep
    known = {name: getattr(sweep, name) for name in SweepView.model_fields if hasattr(sweep, name)}
    shown = {
        "spec": status.spec,
        "warnings": list(status.warnings),
        "trials": status.trials,
        "by_result": status.by_result,
        "best": _best(status),
        "waiting_for": status.waiting_for,
        "estimate": None if status.estimate is None else EstimateView(**vars(status.estimate)),
        "mlflow_url": None
        if sweep.mlflow_run_id is None
        else f"{mlflow_url}/#/runs/{sweep.mlflow_run_id}",
    }
    return SweepView(**{**known, **shown})


def to_sweep_plan_view(plan: SweepPlan) -> SweepPlanView:
    """A plan as the API shows it."""
    return SweepPlanView(
        spec=plan.spec,
        findings=[FindingView(**vars(finding)) for finding in plan.findings],
        waiting_for=plan.waiting_for,
        trials=plan.trials,
        runs=plan.runs,
    )


def to_trial_view(state: TrialState, sweep: Sweep) -> TrialView:
    """A trial as the API shows it."""
    trial, told = state.trial, state.standing.evaluations
    ended = trial.ended
    epochs = [one.epoch for one in told] + [one.epoch for one in trial.judgments]
    return TrialView(
        number=trial.number,
        values=trial.values,
        state=ended.result if ended is not None else state.standing.result or "running",
        runs=[_view_of_run(run) for run in state.runs],
        epoch=ended.epoch if ended is not None else max(epochs, default=0),
        objectives=ended.values if ended is not None else _so_far(state, sweep.spec.objectives),
        message=state.message,
    )


def _best(status: SweepStatus) -> BestView | None:
    best, objective = status.best, status.sweep.spec.objectives[0]
    value = None if best is None else best.best_value(objective)
    if best is None or value is None:
        return None
    return BestView(trial=best.number, values=best.values, objective=value)


def _so_far(state: TrialState, objectives: tuple[Objective, ...]) -> dict[str, float]:
    told: tuple[TrialEvaluation | TrialJudged, ...] = (
        *state.trial.judgments,
        *state.standing.evaluations,
    )
    found: dict[str, float] = {}
    for objective in objectives:
        values = [one.values[objective.metric] for one in told if objective.metric in one.values]
        if values:
            found[objective.metric] = max(values) if objective.goal == "max" else min(values)
    return found


def _view_of_run(run: Run) -> TrialRunView:
    progress = run.progress
    return TrialRunView(
        id=run.id,
        seed=getattr(run.spec, "seed", 0),
        state=run.state,
        epoch=None if progress is None else progress.epoch,
        epochs=None if progress is None else progress.epochs,
        mlflow_run_id=run.mlflow_run_id,
    )
