"""Runs whose views the stored outputs of commands show."""

from datetime import timedelta
from typing import Any

from configs.protocol.comparison import NoiseFloor, SeedGain
from configs.protocol.records import Progress
from service.api.schemas.run_details import ComparisonView
from service.api.schemas.runs import (
    FindingView,
    PlannedBaselineView,
    PlanView,
    RunEstimateView,
    RunView,
)
from service.domain.states import RunState
from tests.support.factories import make_bckd_spec
from tests.support.service.run_views import NOW, make_run_view

RUN_ID, BASELINE_ID = "r0123456789ab", "rba5e11ne0000"
MLFLOW_URL = (
    "http://127.0.0.1:5500/#/experiments/1/runs/0123456789abcdef0123456789abcdef"
    "?workflowType=machine_learning"
)
PROGRESS = Progress(
    at=NOW, attempt=1, phase="finishing", epoch=6, epochs=6, step=252, steps=252, eta_s=0.0
)
TIMES = {"started_at": NOW, "finished_at": NOW + timedelta(minutes=12, seconds=5)}
LATEST = {
    "val/bbox_mAP": 0.4512,
    "val/bbox_mAP_50": 0.7034,
    "val/bbox_mAP_s": 0.2,
    "val/bbox_mAP_l": -1.0,
    "teacher/bbox_mAP": 0.5,
    "train/loss": 1.23456,
    "loss_share/cls/all/share": 0.3,
}

ESTIMATE = RunEstimateView(
    epochs=6, steps_per_epoch=42, steps=252, duration_s=725.0, reference_run_id="r0therun00000"
)


def make_finished_run(state: RunState = RunState.SUCCEEDED, **changes: Any) -> RunView:
    fields = {
        "id": RUN_ID,
        "name": "digits/bckd",
        "preset": "digits/bckd",
        "progress": PROGRESS,
        "latest": LATEST,
        "best_map": 0.4512,
        "best_epoch": 5,
        "teacher_map": 0.5,
        "baseline_run_id": BASELINE_ID,
        "mlflow_run_id": "0123456789abcdef0123456789abcdef",
        "mlflow_url": MLFLOW_URL,
    }
    return make_run_view(state, **(fields | TIMES | changes))


def make_comparison_view() -> ComparisonView:
    gains = [(0, 0.031), (1, 0.015)]
    return ComparisonView(
        verdict="helps",
        seed_spread="pairs",
        conclusion="Distillation helps: +2.3 mAP [+1.1, +3.5] over 2 seeds.",
        difference=0.023,
        low=0.011,
        high=0.035,
        teacher_map=0.5,
        gap_closed=0.4,
        basis="Bootstrap over images and seeds.",
        images=500,
        gains=[
            SeedGain(
                seed=seed,
                run=RUN_ID,
                baseline=BASELINE_ID,
                run_map=0.45,
                baseline_map=0.45 - gain,
                gain=gain,
            )
            for seed, gain in gains
        ],
    )


def make_plan(**changes: Any) -> PlanView:
    fields: dict[str, Any] = {
        "spec": make_bckd_spec(),
        "estimate": ESTIMATE,
        "findings": [
            FindingView(
                severity="warning",
                field="teacher",
                code="teacher_is_weak",
                message="The teacher's mAP is lower than that of the baseline.",
            )
        ],
        "waiting_for": None,
        "baseline": PlannedBaselineView(run_id=BASELINE_ID, state=RunState.SUCCEEDED, best_map=0.4),
        "noise": NoiseFloor(runs=4, freedom=2, deviation=0.004, floor=0.0067),
    }
    return PlanView.model_validate(fields | changes)
