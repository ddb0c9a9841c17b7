"""Converts autopilots and their decisions into the response models of the API."""

from service.api.schemas.autopilots import (
    AutopilotConclusionView,
    AutopilotPlanView,
    AutopilotRunView,
    AutopilotSummaryView,
    AutopilotView,
    DecisionView,
    SpendingView,
    StageView,
)
from service.domain.autopilot.autopilots import Autopilot
from service.domain.autopilot.plan import AutopilotPlan
from service.domain.runs import Run
from service.usecases.autopilots.queries import (
    AutopilotSpending,
    AutopilotStatus,
    ListedDecision,
)


def to_autopilot_summary_view(autopilot: Autopilot) -> AutopilotSummaryView:
    """What is stored of an autopilot, without what its runs have cost."""
    stored = {
        name: getattr(autopilot, name)
        for name in AutopilotSummaryView.model_fields
        if name != "budget"
    }
    return AutopilotSummaryView(**stored, budget=autopilot.spec.budget)


def to_autopilot_view(status: AutopilotStatus) -> AutopilotView:
    """An autopilot with its plan, its spending and its conclusion."""
    autopilot, plan, spending = status.autopilot, status.plan, status.spending
    summary = to_autopilot_summary_view(autopilot)
    return AutopilotView(
        **dict(summary),
        spec=autopilot.spec,
        notes=list(autopilot.notes),
        plan=None if plan is None else _to_plan_view(plan),
        stages=_to_stage_views(status),
        stage=status.stage,
        spending=None if spending is None else _to_spending_view(spending),
        conclusion=_to_conclusion_view(status),
        jobs=[_to_run_view(job.key, job.run) for job in status.jobs],
    )


def to_decision_view(decision: ListedDecision) -> DecisionView:
    """A decision with the state of the run that it is about."""
    run = decision.run
    return DecisionView(
        position=decision.position,
        entry=decision.entry,
        run=None if run is None else _to_run_view(decision.key or "", run),
    )


def _to_plan_view(plan: AutopilotPlan) -> AutopilotPlanView:
    return AutopilotPlanView(
        is_affordable=plan.is_affordable,
        total_s=plan.total_s,
        methods=plan.methods,
        pairs=plan.pairs,
        advice=list(plan.advice),
    )


def _to_stage_views(status: AutopilotStatus) -> list[StageView]:
    if status.plan is None:
        return []
    views = []
    for stage, cost in zip(status.plan.stages, status.costs, strict=True):
        end = status.ends.get(stage.stage)
        view = StageView(
            stage=stage.stage,
            runs=stage.runs,
            planned_s=stage.cost_s,
            launched_s=cost.planned_s,
            spent_s=cost.spent_s,
            message=stage.message if end is None else end.message,
            result=None if end is None else end.result,
            selected=[] if end is None else list(end.selected),
        )
        views.append(view)
    return views


def _to_spending_view(spending: AutopilotSpending) -> SpendingView:
    clock_s = spending.clock_total_s
    return SpendingView(
        **vars(spending),
        left_s=max(0.0, spending.total_s - spending.spent_s),
        clock_left_s=None if clock_s is None else max(0.0, clock_s - spending.clock_spent_s),
    )


def _to_conclusion_view(status: AutopilotStatus) -> AutopilotConclusionView | None:
    conclusion = status.conclusion
    if conclusion is None:
        return None
    return AutopilotConclusionView(
        result=conclusion.result,
        claims_gain=conclusion.claims_gain,
        arm=conclusion.arm,
        run_id=status.delivered_run_id,
        gains=conclusion.gains,
        message=conclusion.message,
    )


def _to_run_view(key: str, run: Run) -> AutopilotRunView:
    return AutopilotRunView(key=key, id=run.id, state=run.state, best_map=run.results.best_map)
