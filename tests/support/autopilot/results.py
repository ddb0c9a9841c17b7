"""Many simulated autopilots, and what they achieve together."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.domain.autopilot.confirmation import examine_pairs
from service.domain.autopilot.history import AutopilotHistory, Conclusion
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.state import replay_history
from tests.support.autopilot.trainer import SimulatedTrainer, run_autopilot
from tests.support.autopilot.worlds import World


@dataclass(frozen=True)
class SimulatedResult:
    """What an autopilot did in a world that is known."""

    world: World
    request: AutopilotRequest
    history: AutopilotHistory

    @property
    def conclusion(self) -> Conclusion:
        last = self.history.entries[-1]
        assert isinstance(last, Conclusion)
        return last

    @property
    def spent_s(self) -> float:
        return sum(outcome.spent_s for outcome in self.history.outcomes)

    @property
    def claimed(self) -> str | None:
        """The method that it delivers, with the claim that it helps. None if it claims nothing."""
        return self.conclusion.arm if self.conclusion.claims_gain else None

    @property
    def best(self) -> str | None:
        """The finalist that leads after the last pair, claimed or not. None without a finalist."""
        current = examine_pairs(self.request, replay_history(self.history))
        return max(current.gains, key=current.selection_mean, default=None)


def simulate_autopilots(
    worlds: Iterable[World], request: AutopilotRequest
) -> list[SimulatedResult]:
    return [
        SimulatedResult(world, request, run_autopilot(SimulatedTrainer(world, request)))
        for world in worlds
    ]


def count_false_claims(results: Sequence[SimulatedResult]) -> int:
    """Autopilots that claim a gain for a method that has none."""
    return sum(
        result.claimed is not None and result.world.gain_of(result.claimed) <= 0.0
        for result in results
    )


def mean_gain(results: Sequence[SimulatedResult], choices: Sequence[str | None]) -> float:
    """Mean true gain of the chosen methods, in mAP of 100; 0 where none is chosen."""
    return statistics.fmean(
        result.world.gain_of(choice) for result, choice in zip(results, choices, strict=True)
    )


def mean_cost(results: Sequence[SimulatedResult]) -> float:
    """Mean device seconds of an autopilot."""
    return statistics.fmean(result.spent_s for result in results)


def share_of_best(results: Sequence[SimulatedResult], choices: Sequence[str | None]) -> float:
    """How often the choice is the method with the largest true gain."""
    return statistics.fmean(
        choice is not None and result.world.gain_of(choice) == result.world.best_gain
        for result, choice in zip(results, choices, strict=True)
    )


def share_of_equal_decisions(first: Sequence[str | None], second: Sequence[str | None]) -> float:
    """How often both claim a gain, or both claim none."""
    return statistics.fmean(
        (one_claim is None) == (other_claim is None)
        for one_claim, other_claim in zip(first, second, strict=True)
    )
