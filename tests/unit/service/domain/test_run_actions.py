"""Refused actions on a run: what its state is, and what to do instead."""

from typing import get_args

import pytest

from service.domain.run_actions import Action, ActionRefused
from service.domain.states import RunState
from tests.support.factories import make_run


@pytest.mark.parametrize(
    ("state", "desired", "action", "parts"),
    [
        ("succeeded", "run", "resume", ("has succeeded and cannot be resumed", "Launch a new run")),
        (
            "succeeded",
            "run",
            "cancel",
            ("has succeeded and cannot be cancelled", "tandem repeat r1"),
        ),
        ("failed", "run", "resume", ("has failed and cannot be resumed", "`tandem retry r1`")),
        ("cancelled", "cancelled", "pause", ("is cancelled and cannot", "`tandem retry r1`")),
        ("running", "cancelled", "resume", ("is being cancelled and cannot", "`tandem retry r1`")),
        ("paused", "paused", "retry", ("is paused and cannot be retried", "`tandem resume r1`")),
        ("running", "run", "retry", ("is running and cannot be retried", "`tandem show r1`")),
    ],
)
def test_a_refusal_says_why_and_what_to_do(
    state: str, desired: str, action: Action, parts: tuple[str, str]
) -> None:
    message = str(ActionRefused(make_run(id="r1", state=RunState(state), desired=desired), action))

    assert all(part in message for part in parts)


@pytest.mark.parametrize("action", get_args(Action))
@pytest.mark.parametrize("state", RunState)
def test_no_refusal_speaks_of_states_to_become(state: RunState, action: Action) -> None:
    message = str(ActionRefused(make_run(state=state), action))

    assert "cannot become" not in message
    assert f"Run {make_run().id} " in message
    assert "`tandem " in message
