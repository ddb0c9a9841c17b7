"""Progress of runs in the terminal."""

import pytest
from rich.console import Console

from configs.metric_keys import Metric
from configs.protocol.failure import FailureReason
from configs.protocol.records import Progress
from service.api.schemas.runs import RunView
from service.cli.progress.runs import format_run_line, render_run, should_stop_watching
from service.domain.states import RunState
from tests.support.service.run_views import NOW, make_run_view


def _progress(step: int = 30) -> Progress:
    return Progress(
        at=NOW, attempt=1, phase="training", epoch=2, epochs=6, step=step, steps=90, eta_s=75.0
    )


def _render_text(view: RunView, *, label: str = "baseline", width: int = 140) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(render_run(label, view))
    return capture.get()


def test_a_training_run_shows_epoch_step_losses_map_and_remaining_time() -> None:
    latest = {Metric.LOSS: 1.5, Metric.LOSS_DISTILL_LOC: 0.25, Metric.MAP: 0.412}

    rendered = _render_text(make_run_view(progress=_progress(), latest=latest))

    texts = ("epoch 2/6", "step 30/90", "1 min 15 s left", "loss 1.500", "loss_distill_loc 0.250")
    assert all(text in rendered for text in (*texts, "mAP 41.2"))


def test_epoch_step_and_time_left_fit_80_columns() -> None:
    view = make_run_view(progress=_progress(), latest={Metric.LOSS: 1.5, Metric.MAP: 0.412})

    rendered = _render_text(view, label="with BCKD, seed 10", width=80)

    assert max(map(len, rendered.splitlines())) <= 80
    for text in ("with BCKD, seed 10", "epoch 2/6  step 30/90", "1 min 15 s left", "mAP 41.2"):
        assert text in rendered


def test_a_job_without_epochs_shows_its_steps() -> None:
    progress = _progress().model_copy(update={"epoch": 0, "epochs": 0, "eta_s": None})

    rendered = _render_text(make_run_view(progress=progress))

    assert "step 30/90" in rendered
    assert "epoch" not in rendered


def test_a_waiting_run_shows_the_reason() -> None:
    assert "waits for its teacher" in _render_text(
        make_run_view(RunState.QUEUED, waiting_for="its teacher")
    )
    assert "waits for a worker" in _render_text(make_run_view(RunState.QUEUED))


def test_a_failed_run_shows_its_message_as_it_is() -> None:
    view = make_run_view(RunState.FAILED, reason=FailureReason.BUG, message="[x] at [/y]")

    assert "[x] at [/y]" in _render_text(view)
    assert "[x] at [/y]" in format_run_line(view)


def test_a_line_changes_with_the_epoch_but_not_with_the_step() -> None:
    early, late = (make_run_view(progress=_progress(step)) for step in (31, 32))

    assert format_run_line(early) == format_run_line(late)
    assert "epoch 2/6" in format_run_line(early)


@pytest.mark.parametrize("state", RunState)
def test_every_state_can_be_shown(state: RunState) -> None:
    assert state in _render_text(make_run_view(state))
    assert state in format_run_line(make_run_view(state))


@pytest.mark.parametrize(
    ("states", "stops"),
    [
        ((RunState.SUCCEEDED, RunState.SUCCEEDED), True),
        ((RunState.SUCCEEDED, RunState.RUNNING), False),
        ((RunState.FAILED, RunState.RUNNING), True),
        ((RunState.CANCELLED, RunState.QUEUED), True),
    ],
)
def test_watching_stops_when_all_are_over_or_the_first_one_failed(
    states: tuple[RunState, ...], stops: bool
) -> None:
    assert should_stop_watching(make_run_view(state) for state in states) is stops
