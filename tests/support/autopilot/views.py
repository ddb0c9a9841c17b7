"""Views of an autopilot and its decisions, as the API returns them."""

from typing import Any

from configs.catalog import spec_from_preset
from configs.spec.autopilot import AutopilotBudget, AutopilotSpec
from service.api.schemas.autopilots import (
    AutopilotConclusionView,
    AutopilotPlanView,
    AutopilotRunView,
    AutopilotView,
    DecisionView,
    SpendingView,
    StageView,
)
from service.domain.autopilot.autopilots import AutopilotPhase
from service.domain.autopilot.history import (
    Arm,
    AutopilotEntry,
    AutopilotStage,
    BudgetExtension,
    Conclusion,
    ConfirmedGain,
    DeadlineReached,
    RunLaunch,
    RunStop,
    StageEnd,
)
from service.domain.states import RunState
from tests.support.service.run_views import NOW

_RUN_ID = "r0123456789ab"
_GAIN = ConfirmedGain(pairs=4, mean=0.021, low=0.008)
_STAGES: tuple[tuple[AutopilotStage, int, float, str], ...] = (
    ("teacher", 1, 40.0, "mAP of each teacher on the validation images"),
    ("learning_rate", 3, 900.0, "the student alone with several learning rates and schedules"),
    ("noise_floor", 3, 900.0, "the student alone on 3 seeds"),
    ("screening", 9, 1500.0, "8 methods and the student alone on one seed"),
    ("confirmation", 24, 7200.0, "2 methods and the student alone on 3 to 12 seeds"),
)
PROBE = AutopilotRunView(
    key="probe.resnet18", id="rprobe0123456", state=RunState.SUCCEEDED, best_map=None
)


def make_autopilot_view(
    phase: AutopilotPhase = AutopilotPhase.SEARCHING, **changes: Any
) -> AutopilotView:
    """An autopilot in its search, with a plan that its budget pays for."""
    budget = AutopilotBudget(hours=6.0)
    spec = AutopilotSpec(
        base=spec_from_preset("digits/bckd"),
        teachers=("digits-teacher",),
        students=("resnet18",),
        budget=budget,
    )
    fields: dict[str, Any] = {
        "id": "a0123456789ab",
        "name": "the best small detector of digits",
        "preset": "digits/bckd",
        "project": "default",
        "priority": 0,
        "phase": phase,
        "desired": "run",
        "message": "",
        "budget": budget,
        "created_by": "me",
        "created_at": NOW,
        "updated_at": NOW,
        "finished_at": None,
        "spec": spec,
        "notes": [],
        "plan": AutopilotPlanView(
            is_affordable=True, total_s=10540.0, methods=8, pairs=12, advice=[]
        ),
        "stages": [make_stage_view(*stage) for stage in _STAGES],
        "stage": "teacher",
        "spending": SpendingView(
            total_s=21600.0,
            spent_s=1800.0,
            left_s=19800.0,
            clock_total_s=21600.0,
            clock_spent_s=2400.0,
            clock_left_s=19200.0,
        ),
        "conclusion": None,
        "jobs": [PROBE],
    }
    return AutopilotView(**(fields | changes))


def make_finished_autopilot_view() -> AutopilotView:
    """An autopilot that has confirmed a gain."""
    message = "bckd x 1 helps: +2.1 mAP over 4 seeds, above +0.8; it is delivered."
    return make_autopilot_view(
        AutopilotPhase.SUCCEEDED,
        message=message,
        finished_at=NOW,
        stage=None,
        conclusion=AutopilotConclusionView(
            result="gain_confirmed",
            claims_gain=True,
            arm="bckd x 1",
            run_id=_RUN_ID,
            gains={"bckd x 1": _GAIN},
            message=message,
        ),
    )


def make_stage_view(stage: AutopilotStage, runs: int, planned_s: float, message: str) -> StageView:
    """A stage that has not begun."""
    return StageView(
        stage=stage,
        runs=runs,
        planned_s=planned_s,
        launched_s=0.0,
        spent_s=0.0,
        message=message,
        result=None,
        selected=[],
    )


def make_decision_views() -> list[DecisionView]:
    """A decision of every kind that is printed differently."""
    arm = Arm(name="bckd x 1", role="distilled", student="resnet18", teacher="digits-teacher")
    teacher = Arm(name="digits-teacher", role="teacher", teacher="digits-teacher")
    launch = RunLaunch(
        key="screening.bckd x 1.5", stage="screening", arm=arm, seed=5, epochs=12, planned_s=300.0
    )
    entries: tuple[AutopilotEntry, ...] = (
        RunLaunch(
            key="teacher.digits-teacher.0",
            stage="teacher",
            arm=teacher,
            seed=0,
            epochs=0,
            planned_s=40.0,
        ),
        StageEnd(
            stage="teacher",
            result="passed",
            selected=("digits-teacher",),
            message="digits-teacher teaches; mAP on the validation images: digits-teacher 81.0.",
        ),
        launch,
        RunStop(key=launch.key, reason="screened_out", message="It is worse after epoch 3."),
        DeadlineReached(),
        BudgetExtension(budget_s=7200.0),
        launch.model_copy(update={"key": "screening.bckd x 1.5.2", "continues": launch.key}),
        Conclusion(
            result="gain_confirmed",
            arm="bckd x 1",
            run=launch.key,
            gains={"bckd x 1": _GAIN},
            message="bckd x 1 helps: +2.1 mAP over 4 seeds, above +0.8; it is delivered.",
        ),
    )
    run = AutopilotRunView(key=launch.key, id=_RUN_ID, state=RunState.SUCCEEDED, best_map=0.412)
    return [
        DecisionView(
            position=position,
            entry=entry,
            run=run if isinstance(entry, RunLaunch | RunStop | Conclusion) else None,
        )
        for position, entry in enumerate(entries)
    ]
