"""The state of an autopilot, from replaying its history."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.domain.autopilot.history import (
    AutopilotCancellation,
    AutopilotEntry,
    AutopilotHistory,
    AutopilotStage,
    BudgetExtension,
    Conclusion,
    DeadlineReached,
    RunLaunch,
    RunOutcome,
    RunStop,
    StageEnd,
)
from service.domain.autopilot.request import BASELINE

FAILED_MAP = -math.inf
"""The mAP of a run that failed: below any other, so that nothing selects it."""

RunIndex = tuple[AutopilotStage, str, int]
"""Stage, name of the arm, and seed."""


@dataclass
class AutopilotState:
    """What the entries of a history amount to."""

    outcomes: Mapping[str, RunOutcome]
    launches: dict[RunIndex, RunLaunch] = field(default_factory=dict)
    """Without those that were stopped for the budget before it was extended."""

    stops: dict[str, RunStop] = field(default_factory=dict)
    interrupted: dict[RunIndex, RunLaunch] = field(default_factory=dict)
    """Runs that may continue since the budget was extended."""

    ends: dict[AutopilotStage, StageEnd] = field(default_factory=dict)
    conclusion: Conclusion | None = None
    extension_s: float = 0.0
    is_deadline_reached: bool = False
    is_canceled: bool = False

    @property
    def spent_s(self) -> float:
        """Device seconds of all runs so far."""
        return math.fsum(outcome.spent_s for outcome in self.outcomes.values())

    def spent_in(self, stage: AutopilotStage) -> float:
        """Device seconds of a stage's runs so far."""
        keys = {
            run.key
            for run in (*self.launches.values(), *self.interrupted.values())
            if run.stage == stage
        }
        return math.fsum(self.outcomes[key].spent_s for key in keys if key in self.outcomes)

    def list_runs(self, stage: AutopilotStage) -> list[RunLaunch]:
        """The launches of a stage, in their order."""
        return [launch for (name, _, _), launch in self.launches.items() if name == stage]

    def list_seeds(self, stage: AutopilotStage) -> list[int]:
        """The seeds of a stage, in the order in which they were launched."""
        return list(dict.fromkeys(launch.seed for launch in self.list_runs(stage)))

    def is_live(self, launch: RunLaunch) -> bool:
        """Whether a run may still change: neither over nor to be stopped."""
        outcome = self.outcomes.get(launch.key)
        is_over = outcome is not None and outcome.state in ("succeeded", "failed", "stopped")
        return not is_over and launch.key not in self.stops

    def has_live_runs(self, stage: AutopilotStage) -> bool:
        return any(map(self.is_live, self.list_runs(stage)))

    def final_map(self, stage: AutopilotStage, arm: str, seed: int) -> float | None:
        """mAP of the best checkpoint of a complete run; `FAILED_MAP` if it ended otherwise. None
        while it is live, or if there is no such run."""
        launch = self.launches.get((stage, arm, seed))
        if launch is None or self.is_live(launch):
            return None
        outcome = self.outcomes.get(launch.key)
        if outcome is None or outcome.state != "succeeded" or not outcome.maps:
            return FAILED_MAP
        return max(outcome.maps.values())

    def mean_map(self, stage: AutopilotStage, arm: str) -> float | None:
        """The mean of an arm's mAPs over the seeds of a stage. None until all are complete."""
        maps = [
            self.final_map(stage, launch.arm.name, launch.seed)
            for launch in self.list_runs(stage)
            if launch.arm.name == arm
        ]
        complete = [value for value in maps if value is not None]
        if not complete or len(complete) < len(maps):
            return None
        return math.fsum(complete) / len(complete)

    def list_gains(self, stage: AutopilotStage, arm: str) -> list[float]:
        """An arm's mAP minus the baseline's on each seed of a stage that both completed."""
        pairs = (
            (self.final_map(stage, arm, seed), self.final_map(stage, BASELINE, seed))
            for seed in self.list_seeds(stage)
        )
        return [
            value - baseline
            for value, baseline in pairs
            if value is not None and baseline is not None and FAILED_MAP not in (value, baseline)
        ]


def replay_history(history: AutopilotHistory) -> AutopilotState:
    """The state after all entries; the order of the outcomes does not matter."""
    state = AutopilotState({outcome.key: outcome for outcome in history.outcomes})
    for entry in history.entries:
        _apply_entry(entry, state)
    return state


def add_decisions(
    history: AutopilotHistory,
    decisions: Iterable[AutopilotEntry] = (),
    *,
    outcomes: Iterable[RunOutcome] = (),
) -> AutopilotHistory:
    """The history with further entries, and with newer outcomes of its runs."""
    newest = {outcome.key: outcome for outcome in (*history.outcomes, *outcomes)}
    return AutopilotHistory(entries=(*history.entries, *decisions), outcomes=tuple(newest.values()))


def _apply_entry(entry: AutopilotEntry, state: AutopilotState) -> None:
    if isinstance(entry, RunLaunch):
        index = (entry.stage, entry.arm.name, entry.seed)
        state.launches[index] = entry
        state.interrupted.pop(index, None)
    elif isinstance(entry, RunStop):
        state.stops[entry.key] = entry
    elif isinstance(entry, StageEnd):
        state.ends[entry.stage] = entry
    elif isinstance(entry, Conclusion):
        state.conclusion = entry
    elif isinstance(entry, BudgetExtension):
        _extend(entry, state)
    elif isinstance(entry, DeadlineReached):
        state.is_deadline_reached = True
    elif isinstance(entry, AutopilotCancellation):
        state.is_canceled = True


def _extend(extension: BudgetExtension, state: AutopilotState) -> None:
    """Reopens what the budget has ended; stages that ended by a result stay."""
    state.extension_s += extension.budget_s
    state.is_deadline_reached = False
    if state.conclusion is not None and state.conclusion.result == "out_of_budget":
        state.conclusion = None
    state.ends = {stage: end for stage, end in state.ends.items() if end.result != "out_of_budget"}
    for index, launch in list(state.launches.items()):
        stop = state.stops.get(launch.key)
        if stop is not None and stop.reason == "out_of_budget":
            state.interrupted[index] = state.launches.pop(index)
