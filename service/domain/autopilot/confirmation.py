"""Confirmation: the finalists against the baseline on fresh seeds, by a sequential test."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from configs.conclusions import format_points
from configs.protocol.probe import Costs
from service.domain.autopilot.baseline import baseline_arm
from service.domain.autopilot.budget import find_student, packs_s
from service.domain.autopilot.history import Arm, ConfirmedGain, StageEnd
from service.domain.autopilot.launches import (
    Decisions,
    choose_seeds,
    launch_missing,
    launch_within_budget,
)
from service.domain.autopilot.request import BASELINE, AutopilotRequest
from service.domain.autopilot.sequential_test import (
    LOOK_SHARES,
    MAX_PAIRS,
    can_be_claimed,
    claim_gains,
    lower_bound,
    next_look,
    simultaneous_level,
    upper_bound,
)
from service.domain.autopilot.state import FAILED_MAP, AutopilotState

_DROP_LEVEL = 0.25
"""How often an arm may be dropped by mistake at a look. It costs power and never a false claim."""

_ENOUGH_PAIRS = 6
"""A further finalist is not worth fewer pairs."""


@dataclass
class Confirmation:
    """What the pairs so far amount to."""

    gains: Mapping[str, Sequence[float]]
    """Of each finalist, run minus baseline, by seed in the order of launches."""

    screened: Mapping[str, Sequence[float]]
    """Of each finalist, the gains on the screening's seeds: they help to select, never to claim."""

    pairs: int = 0
    """Of the newest look; 0 before the first."""

    claimed: frozenset[str] = frozenset()
    dropped: dict[str, str] = field(default_factory=dict)
    """The finalists that get no further seeds, and why."""

    @property
    def remaining(self) -> list[str]:
        """The finalists that get further seeds."""
        return [arm for arm in self.gains if arm not in self.dropped]

    @property
    def leader(self) -> str | None:
        """The best finalist that may still win. None if all are dropped without a claim."""
        candidates = [arm for arm in self.gains if arm in self.claimed or arm in self.remaining]
        candidates = [arm for arm in candidates if self.gains[arm]]
        return max(candidates, key=self.selection_mean, default=None)

    def selection_mean(self, arm: str) -> float:
        """The mean gain over all seeds on which the arm was trained to the end."""
        return statistics.fmean([*self.gains[arm], *self.screened[arm]])

    @property
    def is_decided(self) -> bool:
        """Whether further seeds would change nothing that matters."""
        return (
            not self.remaining
            or (self.pairs > 0 and self.leader in self.claimed)
            or self.pairs >= MAX_PAIRS
        )


def decide_confirmation(request: AutopilotRequest, state: AutopilotState) -> Decisions:
    """Launches the seeds of the next look until the test has decided."""
    current = examine_pairs(request, state)
    if current.is_decided:
        return (end_confirmation(current),)
    if state.has_live_runs("confirmation"):
        return ()
    interrupted = [
        (launch.arm, launch.seed)
        for launch in state.interrupted.values()
        if launch.stage == "confirmation"
    ]
    arms = [_finalist_arm(state, name) for name in current.remaining]
    baseline = baseline_arm(state)
    costs = find_student(request, baseline.student).costs
    wanted = (next_look(current.pairs) or 0) - _count_complete(current)
    seeds = [] if interrupted else choose_seeds(request, state, wanted=wanted)
    launches = launch_missing(
        state,
        "confirmation",
        interrupted or [(arm, seed) for seed in seeds for arm in (baseline, *arms)],
        epochs=request.epochs,
        cost_s=confirmation_cost_s(request, costs, arms=len(arms), pairs=wanted),
    )
    decisions = launch_within_budget(request, state, launches)
    if current.claimed and decisions != launches:
        return (end_confirmation(current),)
    return decisions


def confirmation_cost_s(request: AutopilotRequest, costs: Costs, *, arms: int, pairs: int) -> float:
    """Device seconds of so many seeds of the arms and the baseline."""
    return pairs * packs_s(
        request, costs, students=arms + 1, epochs=request.epochs, has_teacher=True
    )


def count_finalists(request: AutopilotRequest, costs: Costs, *, arms: int, free_s: float) -> int:
    """How many of the arms to confirm: as many as the budget pays enough pairs for, at least 1."""
    affordable = [
        count
        for count in range(1, min(request.finalists, arms) + 1)
        if confirmation_cost_s(request, costs, arms=count, pairs=_ENOUGH_PAIRS) <= free_s
    ]
    return max(affordable, default=1)


def examine_pairs(request: AutopilotRequest, state: AutopilotState) -> Confirmation:
    """The results of all looks that the complete pairs allow."""
    end = state.ends.get("screening")
    finalists = () if end is None else end.selected
    result = Confirmation(
        _collect_gains(state, finalists),
        {arm: state.list_gains("screening", arm) for arm in finalists},
    )
    complete = _count_complete(result)
    for pairs in LOOK_SHARES:
        if pairs > complete or result.is_decided:
            break
        _examine_look(request, result, pairs, arms=len(finalists))
    return result


def confirmed_gains(current: Confirmation) -> dict[str, ConfirmedGain]:
    """The gains of all finalists that completed two pairs or more, with their bounds."""
    arms = len(current.gains)
    return {
        arm: ConfirmedGain(
            pairs=len(gains),
            mean=statistics.fmean(gains),
            low=_bound(gains, arms=arms, is_claimed=arm in current.claimed),
        )
        for arm, gains in current.gains.items()
        if len(gains) > 1
    }


def _collect_gains(state: AutopilotState, finalists: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Up to the first seed that is not complete. A seed whose baseline failed does not count; an
    arm has no gains from the seed on which it failed."""
    gains: dict[str, list[float]] = {arm: [] for arm in finalists}
    closed: set[str] = set()
    for seed in state.list_seeds("confirmation"):
        baseline = state.final_map("confirmation", BASELINE, seed)
        maps = {
            arm: state.final_map("confirmation", arm, seed)
            for arm in finalists
            if ("confirmation", arm, seed) in state.launches
        }
        is_interrupted = any(
            stage == "confirmation" and number == seed for stage, _, number in state.interrupted
        )
        if is_interrupted or baseline is None or None in maps.values():
            break
        if baseline == FAILED_MAP:
            continue
        for arm in finalists:
            value = maps.get(arm)
            if value is None or value == FAILED_MAP:
                closed.add(arm)
            elif arm not in closed:
                gains[arm].append(value - baseline)
    return {arm: tuple(values) for arm, values in gains.items()}


def _count_complete(current: Confirmation) -> int:
    return max((len(gains) for gains in current.gains.values()), default=0)


def _examine_look(
    request: AutopilotRequest, result: Confirmation, pairs: int, *, arms: int
) -> None:
    for arm in result.remaining:
        if len(result.gains[arm]) < pairs:
            result.dropped[arm] = f"a run failed after {len(result.gains[arm])} pairs"
    samples = {arm: result.gains[arm][:pairs] for arm in result.remaining}
    if not samples:
        return
    result.pairs = pairs
    result.claimed = claim_gains(samples, claimed=result.claimed, arms=arms)
    best = max(samples, key=lambda arm: statistics.fmean(samples[arm]))
    for arm, gains in samples.items():
        if upper_bound(gains, level=_DROP_LEVEL) < request.min_gain:
            result.dropped[arm] = f"its gain is below {format_points(request.min_gain)}"
        elif not can_be_claimed(gains, arms=arms, level=_DROP_LEVEL):
            result.dropped[arm] = f"{MAX_PAIRS} pairs would hardly confirm it"
        elif arm != best and _is_worse(result, arm, best, pairs):
            result.dropped[arm] = f"it is worse than {best}"


def _is_worse(result: Confirmation, arm: str, best: str, pairs: int) -> bool:
    """Whether the best is better on the seeds of screening and confirmation together."""
    differences = [
        high - low
        for low, high in zip(
            [*result.screened[arm], *result.gains[arm][:pairs]],
            [*result.screened[best], *result.gains[best][:pairs]],
            strict=True,
        )
    ]
    return lower_bound(differences, level=_DROP_LEVEL) > 0.0


def _finalist_arm(state: AutopilotState, name: str) -> Arm:
    return next(launch.arm for launch in state.list_runs("screening") if launch.arm.name == name)


def _bound(gains: Sequence[float], *, arms: int, is_claimed: bool) -> float | None:
    """The bound of the newest look. Holm's method may claim an arm whose own bound is below 0."""
    pairs = max((size for size in LOOK_SHARES if size <= len(gains)), default=None)
    if pairs is None:
        return None
    low = lower_bound(gains[:pairs], level=simultaneous_level(pairs, arms=arms))
    return max(low, 0.0) if is_claimed else low


def end_confirmation(current: Confirmation) -> StageEnd:
    """The end with what is claimed, also where another finalist might still have overtaken it."""
    gains = confirmed_gains(current)
    details = "; ".join(
        f"{arm} {format_points(gain.mean)} over {gain.pairs} pairs"
        + (f", {current.dropped[arm]}" if arm in current.dropped else "")
        for arm, gain in gains.items()
    )
    winner = current.leader if current.leader in current.claimed else None
    if winner is None and current.claimed:
        winner = max(sorted(current.claimed), key=current.selection_mean)
    return StageEnd(
        stage="confirmation",
        result="no_gain_confirmed" if winner is None else "gain_confirmed",
        selected=() if winner is None else (winner,),
        message=f"On fresh seeds: {details or 'no pair is complete'}.",
    )
