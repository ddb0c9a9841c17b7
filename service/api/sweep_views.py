"""From sweeps as we have them to what the API shows."""

from configs.spec import Evaluated, Judged, Objective
from service.api.schemas import FindingView
from service.api.sweep_schemas import (
    BestView,
    EstimateView,
    SweepPlanView,
    SweepView,
    TrialRunView,
    TrialView,
)
from service.domain.runs import Run
from service.domain.sweeps import Sweep
from service.usecases.sweep_status import SweepStatus
from service.usecases.sweeps import SweepPlan
from service.usecases.trials import TrialState


def view_of_sweep(status: SweepStatus, *, mlflow_url: str) -> SweepView:
    """A sweep as the API shows it."""
    sweep = status.sweep
    known = {name: getattr(sweep, name) for name in SweepView.model_fields if hasattr(sweep, name)}
    shown = {
        "spec": status.spec,
        "warnings": list(status.warnings),
        "trials": status.trials,
        "by_result": status.by_result,
        "best": _best(status),
        "waits_for": status.waiting_for,
        "estimate": None if status.estimate is None else EstimateView(**vars(status.estimate)),
        "mlflow_url": None
        if sweep.mlflow_run_id is None
        else f"{mlflow_url}/#/runs/{sweep.mlflow_run_id}",
    }
    return SweepView(**{**known, **shown})


def view_of_sweep_plan(plan: SweepPlan) -> SweepPlanView:
    """A plan as the API shows it."""
    return SweepPlanView(
        spec=plan.spec,
        findings=[FindingView(**vars(finding)) for finding in plan.findings],
        waits_for=plan.waits_for,
        trials=plan.trials,
        runs=plan.runs,
    )


def view_of_trial(state: TrialState, sweep: Sweep) -> TrialView:
    """A trial as the API shows it."""
    trial, told = state.trial, state.standing.evaluations
    ended = trial.ended
    epochs = [one.epoch for one in told] + [one.epoch for one in trial.judged]
    return TrialView(
        number=trial.number,
        values=trial.values,
        state=ended.result if ended is not None else state.standing.result or "live",
        runs=[_view_of_run(run) for run in state.runs],
        epoch=ended.epoch if ended is not None else max(epochs, default=0),
        objectives=ended.values if ended is not None else _so_far(state, sweep.spec.objectives),
        message=state.message,
    )


def _best(status: SweepStatus) -> BestView | None:
    best, objective = status.best, status.sweep.spec.objectives[0]
    value = None if best is None else best.best(objective)
    if best is None or value is None:
        return None
    return BestView(trial=best.number, values=best.values, objective=value)


def _so_far(state: TrialState, objectives: tuple[Objective, ...]) -> dict[str, float]:
    told: tuple[Evaluated | Judged, ...] = (*state.trial.judged, *state.standing.evaluations)
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
