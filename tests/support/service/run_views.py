"""Run views, as the API returns them."""

from datetime import UTC, datetime
from typing import Any

from configs.catalog import spec_from_preset
from service.api.schemas.run_lists import RunSummaryView
from service.api.schemas.runs import RunView
from service.domain.states import RunState

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def make_run_view(state: RunState = RunState.RUNNING, **changes: Any) -> RunView:
    fields: dict[str, Any] = {
        "id": "r0123456789ab",
        "name": "n",
        "task": "train",
        "preset": "quick/instant",
        "project": "default",
        "priority": 0,
        "state": state,
        "desired": "run",
        "spec": spec_from_preset("quick/instant"),
        "attempt": 1,
        "reason": None,
        "message": "",
        "advice": None,
        "waiting_for": None,
        "queue_position": None,
        "not_before": None,
        "progress": None,
        "latest": {},
        "best_map": None,
        "best_epoch": None,
        "teacher_map": None,
        "baseline_run_id": None,
        "is_baseline_lost": False,
        "comparison": None,
        "report_run_id": None,
        "mlflow_run_id": None,
        "mlflow_url": None,
        "created_at": NOW,
        "started_at": None,
        "finished_at": None,
        "last_seen_at": None,
    }
    return RunView(**(fields | changes))


def make_run_summary(state: RunState = RunState.RUNNING, **changes: Any) -> RunSummaryView:
    """A run in a list, with the values of `make_run_view` where both have a field."""
    view = make_run_view(state)
    common = RunSummaryView.model_fields.keys() & RunView.model_fields.keys()
    fields: dict[str, Any] = {name: getattr(view, name) for name in common}
    own_fields = {"dataset": "digits-tiny", "gain": None, "verdict": None}
    return RunSummaryView(**(fields | own_fields | changes))
