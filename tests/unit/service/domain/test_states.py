"""Every pair of states is a transition in the table, or is refused."""

from itertools import product

import pytest

from service.adapters.clock import FixedClock
from service.domain.errors.conflicts import InvalidTransition
from service.domain.runs import transition
from service.domain.states import TRANSITIONS, RunState, can_transition, is_over
from tests.support.factories import make_run

PAIRS = list(product(RunState, RunState))
NOW = FixedClock().now()


@pytest.mark.parametrize(("from_state", "to_state"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_a_transition_happens_if_and_only_if_the_table_has_it(
    from_state: RunState, to_state: RunState
) -> None:
    run = make_run(state=from_state)

    if can_transition(from_state, to_state):
        assert transition(run, to_state, at=NOW).state is to_state
        return
    with pytest.raises(InvalidTransition, match=f"is {from_state} and cannot become {to_state}"):
        transition(run, to_state, at=NOW)


def test_every_state_has_a_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(RunState)


def test_three_states_are_over() -> None:
    finished = {state for state in RunState if is_over(state)}

    assert finished == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


def test_the_end_of_a_run_is_news_for_mlflow() -> None:
    run = transition(make_run(state=RunState.RUNNING), RunState.SUCCEEDED, at=NOW)

    assert not run.tracking.mlflow_synced
    assert run.finished_at == NOW
