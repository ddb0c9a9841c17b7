"""The end of an autopilot: what it claims, and which checkpoint it delivers."""

from typing import Literal

from configs.conclusions import format_points
from service.domain.autopilot.confirmation import confirmed_gains, examine_pairs
from service.domain.autopilot.history import (
    AutopilotHistory,
    AutopilotStage,
    Conclusion,
    ConfirmedGain,
    RunLaunch,
    StageResult,
)
from service.domain.autopilot.request import BASELINE, AutopilotRequest
from service.domain.autopilot.state import FAILED_MAP, AutopilotState, replay_history

_BASELINE_STAGES: tuple[AutopilotStage, ...] = ("confirmation", "screening", "noise_floor")


def conclude_autopilot(
    request: AutopilotRequest,
    state: AutopilotState,
    result: Literal["canceled"] | StageResult,
    *,
    message: str,
) -> Conclusion:
    """The conclusion from complete runs.

    A winner is delivered as a run of its confirmation, which trained the full schedule; without a
    winner, the student alone. Of several runs it is the one with the best mAP on the validation
    images, so that this mAP is overstated a little.
    """
    current = examine_pairs(request, state)
    gains = confirmed_gains(current)
    end = state.ends.get("confirmation")
    winner = end.selected[0] if end is not None and end.selected else None
    launch = _best_run(state, winner)
    return Conclusion(
        result=result,
        arm=None if launch is None else (winner or BASELINE),
        run=None if launch is None else launch.key,
        gains=gains,
        message=f"{message} {_describe_result(winner, gains, launch)}".strip(),
    )


def list_rivals(history: AutopilotHistory) -> tuple[str, ...]:
    """The keys of the best complete runs of each student without a teacher: of the selected one
    with its final setting, and of the others with the best of theirs."""
    state = replay_history(history)
    best: dict[str, RunLaunch] = {}
    for stage in ("learning_rate", *reversed(_BASELINE_STAGES)):
        for launch in state.list_runs(stage):
            student, value = launch.arm.student, _map_of(state, launch)
            if launch.arm.role != "baseline" or student is None or value == FAILED_MAP:
                continue
            rival = best.get(student)
            is_later = rival is not None and rival.stage != stage
            if rival is None or is_later or value > _map_of(state, rival):
                best[student] = launch
    return tuple(launch.key for launch in best.values())


def list_winning_pairs(history: AutopilotHistory) -> tuple[tuple[str, str], ...]:
    """The keys of the winner's complete runs of the confirmation, each with that of its baseline;
    none without a winner."""
    state = replay_history(history)
    end = state.ends.get("confirmation")
    winner = end.selected[0] if end is not None and end.selected else None
    complete = {
        (run.arm.name, run.seed): run.key
        for run in state.list_runs("confirmation")
        if _map_of(state, run) != FAILED_MAP
    }
    return tuple(
        (key, complete[BASELINE, seed])
        for (arm, seed), key in complete.items()
        if arm == winner and (BASELINE, seed) in complete
    )


def _best_run(state: AutopilotState, winner: str | None) -> RunLaunch | None:
    """The complete run with the best mAP of the winner, or else of the student alone."""
    if winner is not None:
        return _best_of(state, "confirmation", winner)
    runs = [
        run for stage in _BASELINE_STAGES if (run := _best_of(state, stage, BASELINE)) is not None
    ]
    if not runs:
        names = {run.arm.name for run in state.list_runs("learning_rate")}
        candidates = (_best_of(state, "learning_rate", name) for name in sorted(names))
        runs = [run for run in candidates if run is not None]
    return max(runs, key=lambda run: _map_of(state, run), default=None)


def _best_of(state: AutopilotState, stage: AutopilotStage, arm: str) -> RunLaunch | None:
    """The best complete run of an arm in a stage. None if none is complete."""
    runs = [run for run in state.list_runs(stage) if run.arm.name == arm]
    complete = [run for run in runs if _map_of(state, run) != FAILED_MAP]
    return max(complete, key=lambda run: _map_of(state, run), default=None)


def _map_of(state: AutopilotState, run: RunLaunch) -> float:
    value = state.final_map(run.stage, run.arm.name, run.seed)
    return FAILED_MAP if value is None else value


def _describe_result(
    winner: str | None, gains: dict[str, ConfirmedGain], launch: RunLaunch | None
) -> str:
    if winner is not None:
        gain = gains[winner]
        low = "" if gain.low is None else f", above {format_points(gain.low)}"
        return (
            f"{winner} helps: {format_points(gain.mean)} mAP over {gain.pairs} seeds{low}; it is "
            "delivered."
        )
    if launch is None:
        return ""
    return "No gain is confirmed; the student without a teacher is delivered."
