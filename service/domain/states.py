"""The states of a run, and the transitions between them as one table."""

from enum import StrEnum
from typing import Final


class RunState(StrEnum):
    """The state of a run; `TRANSITIONS` says how they follow each other."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_Q, _S, _R, _P = RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.PAUSED
_OK, _BAD, _END = RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED

TRANSITIONS: Final[dict[RunState, frozenset[RunState]]] = {
    _Q: frozenset({_S, _P, _BAD, _END}),
    _S: frozenset({_R, _Q, _P, _OK, _BAD, _END}),
    _R: frozenset({_Q, _P, _OK, _BAD, _END}),
    _P: frozenset({_Q, _END}),
    _OK: frozenset(),
    _BAD: frozenset({_Q}),
    _END: frozenset({_Q}),
}
"""The states that may follow each state.

A run may end while it starts, as a very short one does. A failed or cancelled run is queued again
only when a person retries it.
"""

FINISHED_STATES: Final = frozenset({_OK, _BAD, _END})
"""States that a run does not leave by itself."""

ACTIVE_STATES: Final = frozenset({RunState.STARTING, RunState.RUNNING})
"""States with a current attempt."""


def is_over(state: RunState) -> bool:
    return state in FINISHED_STATES


def can_transition(from_state: RunState, to_state: RunState) -> bool:
    return to_state in TRANSITIONS[from_state]
