"""Progress of a sweep in the terminal."""

import pytest
from rich.console import Console, RenderableType

from service.api.schemas.sweeps import BestView
from service.cli.progress.sweeps import (
    SweepProgress,
    build_trials_table,
    format_sweep_line,
    format_trial_line,
    render_sweep_summary,
    select_visible_trials,
)
from service.domain.sweeps import SweepState
from tests.support.service.sweep_views import CLS, make_sweep_view, make_trial_view


def render_text(renderable: RenderableType) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_sweep_shows_its_trials_with_values_epoch_and_map() -> None:
    best = BestView(trial=0, values={CLS: 0.123456}, objective=0.4125)
    view = make_sweep_view(best=best, waiting_for="room", warnings=["The teacher is weak."])

    rendered = render_text(render_sweep_summary(view)) + render_text(
        build_trials_table(view, [make_trial_view()])
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
    trials = [make_trial_view(number, state="finished") for number in range(40)]
    trials[3] = make_trial_view(3)

    numbers = [trial.number for trial in select_visible_trials(trials)]

    assert numbers == [3, *range(17, 40)]


def test_lines_change_with_counts_epochs_and_failures() -> None:
    view = make_sweep_view()

    assert format_sweep_line(view) != format_sweep_line(make_sweep_view(trials=3))
    assert format_trial_line(view, make_trial_view()) != format_trial_line(
        view, make_trial_view(epoch=3)
    )
    assert "it broke" in format_trial_line(
        view, make_trial_view(state="failed", message="it broke")
    )


@pytest.mark.parametrize("state", SweepState)
def test_every_state_can_be_shown(state: SweepState) -> None:
    assert state in render_text(render_sweep_summary(make_sweep_view(state)))
    assert state in format_sweep_line(make_sweep_view(state))


def test_without_a_terminal_only_what_has_changed_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SweepProgress() as progress:
        progress.show(make_sweep_view(), [make_trial_view()])
        progress.show(make_sweep_view(), [make_trial_view()])
        progress.show(make_sweep_view(), [make_trial_view(epoch=3)])

    output = capsys.readouterr().out
    assert output.count("sweep: ") == 1
    assert output.count("trial 0: ") == 2
