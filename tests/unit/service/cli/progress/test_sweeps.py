"""Progress of a sweep in the terminal."""

from typing import Any

import pytest
from rich.console import Console, RenderableType

from configs.catalog import spec_from_preset
from configs.spec.sweep import SweepSpec
from service.api.schemas.sweeps import BestView, SweepView, TrialView
from service.cli.progress.sweeps import (
    SweepProgress,
    build_trials_table,
    format_sweep_line,
    format_trial_line,
    render_sweep_summary,
    select_visible_trials,
)
from service.domain.sweeps import SweepState
from tests.support.service.run_views import NOW

CLS, MAP = "distillation.cls_weight", "val/bbox_mAP"


def make_view(state: SweepState = SweepState.SEARCHING, **changes: Any) -> SweepView:
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


def make_trial(number: int = 0, **changes: Any) -> TrialView:
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


def render_text(renderable: RenderableType) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_sweep_shows_its_trials_with_values_epoch_and_map() -> None:
    best = BestView(trial=0, values={CLS: 0.123456}, objective=0.4125)
    view = make_view(best=best, waiting_for="room", warnings=["The teacher is weak."])

    rendered = render_text(render_sweep_summary(view)) + render_text(
        build_trials_table(view, [make_trial()])
    )

    for text in (
        "2 of 16 trials (1 finished, 1 running)",
        "cls_weight=0.1235",
        "2/",
        "41.2",
        "room",
    ):
        assert text in rendered
    assert "The teacher is weak." in rendered


def test_running_trials_and_the_newest_others_are_shown() -> None:
    trials = [make_trial(number, state="finished") for number in range(40)]
    trials[3] = make_trial(3)

    numbers = [trial.number for trial in select_visible_trials(trials)]

    assert numbers == [3, *range(17, 40)]


def test_lines_change_with_counts_epochs_and_failures() -> None:
    view = make_view()

    assert format_sweep_line(view) != format_sweep_line(make_view(trials=3))
    assert format_trial_line(view, make_trial()) != format_trial_line(view, make_trial(epoch=3))
    assert "it broke" in format_trial_line(view, make_trial(state="failed", message="it broke"))


@pytest.mark.parametrize("state", SweepState)
def test_every_state_can_be_shown(state: SweepState) -> None:
    assert state in render_text(render_sweep_summary(make_view(state)))
    assert state in format_sweep_line(make_view(state))


def test_without_a_terminal_only_what_has_changed_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SweepProgress() as progress:
        progress.show(make_view(), [make_trial()])
        progress.show(make_view(), [make_trial()])
        progress.show(make_view(), [make_trial(epoch=3)])

    output = capsys.readouterr().out
    assert output.count("sweep: ") == 1
    assert output.count("trial 0: ") == 2
