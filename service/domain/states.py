"""The states of a run and the moves between them: one table."""

from enum import StrEnum
from typing import Final


class RunState(StrEnum):
    """Where a run is."""

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
"""From each state, those that may follow. A run may end while it starts: an instant one does.

A failed or cancelled one is queued again only when a person says so.
"""

FINISHED_STATES: Final = frozenset({_OK, _BAD, _END})
"""Nothing follows by itself."""

ACTIVE_STATES: Final = frozenset({RunState.STARTING, RunState.RUNNING})
"""An attempt exists."""


def is_over(state: RunState) -> bool:
    """Whether nothing follows by itself."""
    return state in FINISHED_STATES


def can_transition(from_state: RunState, to_state: RunState) -> bool:
    """Whether the table has this move."""
    return to_state in TRANSITIONS[from_state]
