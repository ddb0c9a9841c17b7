"""From what we have to what the API shows."""

from collections.abc import Sequence

from configs.conclusions import conclusion
from configs.spec import PARTS, Comparison, Metric, advice
from service.api.schemas import (
    AttemptView,
    AuditView,
    BudgetPartView,
    BudgetView,
    ComparisonView,
    DatasetView,
    EventView,
    FindingView,
    MetricView,
    NoiseView,
    PlannedBaselineView,
    PlanView,
    ProjectView,
    RepeatedPairView,
    RepeatView,
    RunView,
    TeacherView,
    TokenView,
)
from service.domain.access import AuditEntry, Token
from service.domain.budget import Budget
from service.domain.plan import Plan
from service.domain.projects import Project
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.runs import Attempt, Event, Run
from service.domain.stored import MetricPoint
from service.domain.twins import PlannedBaseline
from service.usecases.noise import Noise
from service.usecases.repeat import RepeatedPair


def view_of_run(run: Run, *, mlflow_url: str, comparison: Comparison | None = None) -> RunView:
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
        baseline=run.baseline_run_id,
        is_baseline_lost=run.is_baseline_lost,
        comparison=None if comparison is None else view_of_comparison(comparison),
        report=run.report_run_id,
        mlflow_run_id=run.mlflow_run_id,
        mlflow_url=None
        if run.mlflow_run_id is None
        else f"{mlflow_url}/#/runs/{run.mlflow_run_id}",
        behind=run.behind,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        heard_at=run.heard_at,
    )


def view_of_comparison(found: Comparison) -> ComparisonView | None:
    """A comparison as the API shows it: what decides; none if mAP is not among its parts."""
    decides = found.parts.get(PARTS[0])
    if decides is None:
        return None
    return ComparisonView(
        verdict=found.verdict,
        seed_spread=found.seed_spread,
        conclusion=conclusion(found),
        difference=decides.difference,
        low=decides.low,
        high=decides.high,
        teacher_map=found.teacher_map,
        lead_closed=found.lead_closed,
        basis=found.basis,
        images=found.images,
        gains=list(found.gains),
    )


def view_of_repeat(run_id: str, pairs: Sequence[RepeatedPair]) -> RepeatView:
    """The pairs of a repeated run as the API shows them."""
    return RepeatView(
        run=run_id,
        pairs=[
            RepeatedPairView(
                seed=pair.seed,
                run=pair.run.id,
                state=pair.run.state,
                baseline=pair.baseline.id,
                baseline_state=pair.baseline.state,
                is_new=pair.is_new,
            )
            for pair in pairs
        ],
    )


def view_of_noise(noise: Noise) -> NoiseView:
    """What is known about seeds as the API shows it."""
    return NoiseView(noise=noise.floor, runs=list(noise.run_ids))


def view_of_attempt(attempt: Attempt) -> AttemptView:
    """An attempt as the API shows it."""
    return AttemptView(**{name: getattr(attempt, name) for name in AttemptView.model_fields})


def view_of_event(event: Event) -> EventView:
    """An event as the API shows it."""
    return EventView(**{name: getattr(event, name) for name in EventView.model_fields})


def view_of_point(point: MetricPoint) -> MetricView:
    """A metric value as the API shows it."""
    return MetricView(key=point.key, step=point.step, value=point.value, at=point.at)


def view_of_budget(budget: Budget) -> BudgetView:
    """A loss budget as the API shows it."""
    parts = [BudgetPartView(**vars(part)) for part in budget.parts]
    return BudgetView(looks=budget.looks, step=budget.step, parts=parts, verdict=budget.verdict)


def view_of_plan(plan: Plan) -> PlanView:
    """A plan as the API shows it."""
    findings = [
        FindingView(severity=f.severity, field=f.field, code=f.code, message=f.message)
        for f in plan.findings
    ]
    return PlanView(
        spec=plan.spec,
        findings=findings,
        waits_for=plan.waits_for,
        baseline=None if plan.baseline is None else _view_of_baseline(plan.baseline),
        noise=plan.noise,
    )


def _view_of_baseline(planned: PlannedBaseline) -> PlannedBaselineView:
    run = planned.run
    if run is None:
        return PlannedBaselineView(run=None, state=None, best_map=None)
    return PlannedBaselineView(run=run.id, state=run.state, best_map=run.best_map)


def view_of_dataset(dataset: RegisteredDataset) -> DatasetView:
    """A dataset as the API shows it."""
    return DatasetView(
        name=dataset.name,
        root=str(dataset.root),
        manifest=dataset.manifest,
        registered_at=dataset.registered_at,
    )


def view_of_teacher(teacher: RegisteredTeacher) -> TeacherView:
    """A teacher as the API shows it."""
    return TeacherView(**{**vars(teacher), "checkpoint": str(teacher.checkpoint)})


def view_of_project(project: Project) -> ProjectView:
    """A project as the API shows it."""
    return ProjectView(**vars(project))


def view_of_token(token: Token) -> TokenView:
    """A token as the API shows it: without its digest."""
    return TokenView(**{name: getattr(token, name) for name in TokenView.model_fields})


def view_of_entry(entry: AuditEntry) -> AuditView:
    """A line of the audit as the API shows it."""
    return AuditView(**{name: getattr(entry, name) for name in AuditView.model_fields})
