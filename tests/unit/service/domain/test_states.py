"""Every pair of states: either the table has the move, or it is refused."""

from itertools import product

import pytest

from service.adapters.clock import FixedClock
from service.domain.errors import InvalidTransition
from service.domain.runs import transition
from service.domain.states import TRANSITIONS, RunState, can_transition, is_over
from tests.support.factories import a_run

PAIRS = list(product(RunState, RunState))
NOW = FixedClock().now()


@pytest.mark.parametrize(("from_state", "to_state"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_a_move_happens_if_and_only_if_the_table_has_it(
    from_state: RunState, to_state: RunState
) -> None:
    run = a_run(state=from_state)

    if can_transition(from_state, to_state):
        assert transition(run, to_state, at=NOW).state is to_state
        return
    with pytest.raises(InvalidTransition, match=f"is {from_state} and cannot become {to_state}"):
        transition(run, to_state, at=NOW)


def test_every_state_has_a_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(RunState)


def test_three_states_are_over() -> None:
    over = {state for state in RunState if is_over(state)}

    assert over == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


def test_the_end_of_a_run_is_news_for_mlflow() -> None:
    ended = transition(a_run(state=RunState.RUNNING), RunState.SUCCEEDED, at=NOW)

    assert not ended.tracking.mlflow_synced
    assert ended.finished_at == NOW
