"""Views of sweeps and trials, as the API returns them."""

from typing import Any

from configs.catalog import spec_from_preset
from configs.spec.sweep import SweepSpec
from service.api.schemas.sweeps import SweepView, TrialView
from service.domain.sweeps import SweepState
from tests.support.service.run_views import NOW

CLS, MAP = "distillation.cls_weight", "val/bbox_mAP"


def make_sweep_view(state: SweepState = SweepState.SEARCHING, **changes: Any) -> SweepView:
    spec = SweepSpec.model_validate(
        {
            "base": spec_from_preset("digits/bckd"),
            "space": {CLS: {"kind": "uniform", "low": 0, "high": 1}},
        }
    )
    fields: dict[str, Any] = {
        "id": "s0123456789ab",
        "name": "n",
        "preset": "digits/bckd",
        "project": "default",
        "priority": 0,
        "state": state,
        "desired": "search",
        "message": "",
        "warnings": [],
        "spec": spec,
        "trials": 2,
        "by_result": {"running": 1, "finished": 1},
        "best": None,
        "waiting_for": None,
        "driver": 1,
        "consecutive_failures": 0,
        "pack_size": 1,
        "estimate": None,
        "probe": None,
        "probe_run_id": None,
        "report_run_id": None,
        "mlflow_run_id": None,
        "mlflow_url": None,
        "created_by": "me",
        "created_at": NOW,
        "updated_at": NOW,
        "finished_at": None,
    }
    return SweepView(**(fields | changes))


def make_trial_view(number: int = 0, **changes: Any) -> TrialView:
    fields: dict[str, Any] = {
        "number": number,
        "values": {CLS: 0.123456},
        "state": "running",
        "runs": [],
        "epoch": 2,
        "objectives": {MAP: 0.4125},
        "message": "",
    }
    return TrialView(**(fields | changes))
