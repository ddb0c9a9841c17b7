"""Why an action on a run is refused in its state, and what to do instead."""

from typing import Literal

from service.domain.errors.conflicts import Conflict, InvalidTransition
from service.domain.runs import Run
from service.domain.states import RunState

Action = Literal["cancel", "pause", "resume", "retry", "prioritize"]

_PAST = {
    RunState.SUCCEEDED: "has succeeded",
    RunState.FAILED: "has failed",
    RunState.CANCELLED: "is cancelled",
}
_PARTICIPLES: dict[Action, str] = {
    "cancel": "cancelled",
    "pause": "paused",
    "resume": "resumed",
    "retry": "retried",
    "prioritize": "given another priority",
}


class ActionRefused(InvalidTransition):
    """The state of a run does not allow an action of a person."""

    def __init__(self, run: Run, action: Action) -> None:
        Conflict.__init__(self, f"{_describe(run, action)} {_advise(run, action)}")


def _describe(run: Run, action: Action) -> str:
    if run.desired == "cancelled" and not run.is_over:
        state = "is being cancelled"
    else:
        state = _PAST.get(run.state, f"is {run.state}")
    return f"Run {run.id} {state} and cannot be {_PARTICIPLES[action]}."


def _advise(run: Run, action: Action) -> str:
    if run.state is RunState.SUCCEEDED:
        return (
            "Launch a new run to train further or again: `tandem run PRESET schedule.epochs=N`, "
            f"or `tandem repeat {run.id}` for more seeds."
        )
    if action == "retry" and run.state is RunState.PAUSED:
        return f"`tandem resume {run.id}` continues it."
    if action == "retry":
        return f"Only failed and cancelled runs are retried; `tandem show {run.id}` shows it."
    return f"`tandem retry {run.id}` continues a failed or cancelled run from its last checkpoint."
