"""How a run's end is shown in the tracker."""

from typing import Final, Literal

from service.domain.states import RunState

TrackerStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

FINAL_STATUS: Final[dict[RunState, TrackerStatus]] = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
}
"""What MLflow shows of a run that is over."""
