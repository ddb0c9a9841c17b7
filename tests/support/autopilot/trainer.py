"""A simulated trainer, and the loop that a service would run around `decide_next`."""

import random
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from service.domain.autopilot.decide import decide_next
from service.domain.autopilot.halving import list_rungs
from service.domain.autopilot.history import (
    AutopilotHistory,
    Conclusion,
    RunLaunch,
    RunOutcome,
    RunStop,
)
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.state import add_decisions
from service.domain.estimates import pack_duration_s
from tests.support.autopilot.worlds import World

_MAX_TURNS = 100


@dataclass
class SimulatedTrainer:
    """Trains launched runs in packs, one pack after the other.

    Packs hold runs of one stage and seed. `order` shuffles the reports of a pack's members.
    """

    world: World
    request: AutopilotRequest
    order: random.Random | None = None
    cost_factor: float = 1.0
    """How much more a step costs than the probe measured."""

    reports_every_epoch: bool = False
    failing: Container[str] = frozenset()
    """Keys of runs that fail in their first epoch."""

    launches: dict[str, RunLaunch] = field(default_factory=dict)
    outcomes: dict[str, RunOutcome] = field(default_factory=dict)
    curves: dict[str, dict[int, float]] = field(default_factory=dict)

    def apply(self, decision: object) -> None:
        """Queue or stop a run."""
        if isinstance(decision, RunLaunch):
            self.launches[decision.key] = decision
            earlier = self.outcomes.get(decision.continues or "")
            self.outcomes[decision.key] = RunOutcome(
                key=decision.key, state="queued", maps=earlier.maps if earlier else {}
            )
        elif isinstance(decision, RunStop):
            self._set(decision.key, state="stopped")

    def advance(self) -> Iterator[RunOutcome]:
        """Train the first pack that is not over until something may be decided.

        Yields the outcomes that changed.
        """
        members = self._next_pack()
        if not members:
            return
        epochs = self._count_epochs(members[0])
        for member in members:
            self._train(member, epochs=epochs, share_s=self._share_s(members, epochs))
        if self.order is not None:
            self.order.shuffle(members)
        for member in members:
            yield self.outcomes[member.key]

    def _count_epochs(self, launch: RunLaunch) -> int:
        """Until the next epoch that may change a decision."""
        done = max(self.outcomes[launch.key].maps, default=0)
        if self.reports_every_epoch:
            return 1
        rungs = list_rungs(self.request) if launch.stage == "screening" else ()
        ends = (*rungs, max(launch.epochs, done + 1))
        return min(end for end in ends if end > done) - done

    def _next_pack(self) -> list[RunLaunch]:
        live = [
            launch
            for launch in self.launches.values()
            if self.outcomes[launch.key].state in ("queued", "running")
        ]
        started = [launch for launch in live if self.outcomes[launch.key].state == "running"]
        if started:
            return started
        queued = [
            launch
            for launch in live
            if (launch.stage, launch.seed) == (live[0].stage, live[0].seed)
        ]
        return queued[: self.request.pack_size]

    def _share_s(self, members: list[RunLaunch], epochs: int) -> float:
        student = members[0].arm.student
        if student is None:
            return members[0].planned_s
        costs = next(option.costs for option in self.request.students if option.name == student)
        pack_s = pack_duration_s(
            costs,
            students=len(members),
            epochs=epochs,
            every_epochs=self.request.every_epochs,
            has_teacher=any(member.arm.role == "distilled" for member in members),
        )
        return self.cost_factor * pack_s / len(members)

    def _train(self, launch: RunLaunch, *, epochs: int, share_s: float) -> None:
        outcome = self.outcomes[launch.key]
        curve = self._curve(launch)
        done = max(outcome.maps, default=0) + epochs
        is_over = done >= max(curve)
        state = "failed" if launch.key in self.failing else "succeeded" if is_over else "running"
        self._set(
            launch.key,
            state=state,
            spent_s=outcome.spent_s + share_s,
            maps={epoch: value for epoch, value in curve.items() if epoch <= done},
        )

    def _curve(self, launch: RunLaunch) -> dict[int, float]:
        if launch.key not in self.curves:
            self.curves[launch.key] = self.world.curve(launch.arm, launch.seed)
        return self.curves[launch.key]

    def _set(self, key: str, **changes: object) -> None:
        self.outcomes[key] = self.outcomes[key].model_copy(update=changes)


def run_autopilot(
    trainer: SimulatedTrainer, history: AutopilotHistory | None = None
) -> AutopilotHistory:
    """The history after the conclusion. Decisions are stored before they are acted on."""
    history = settle(trainer, history or AutopilotHistory())
    while not isinstance(history.entries[-1], Conclusion):
        history = advance_history(trainer, history)
    return history


def advance_history(trainer: SimulatedTrainer, history: AutopilotHistory) -> AutopilotHistory:
    """The history after the next reports, and all that follows from them."""
    if trainer.order is None:
        return settle(trainer, add_decisions(history, outcomes=trainer.advance()))
    for report in trainer.advance():
        history = settle(trainer, add_decisions(history, outcomes=[report]))
    return history


def settle(trainer: SimulatedTrainer, history: AutopilotHistory) -> AutopilotHistory:
    """The history once there is nothing to decide before a run reports."""
    for _ in range(_MAX_TURNS):
        decisions = decide_next(trainer.request, history)
        if not decisions:
            return history
        history = add_decisions(history, decisions)
        for decision in decisions:
            trainer.apply(decision)
        history = add_decisions(history, outcomes=trainer.outcomes.values())
    raise AssertionError("it decides without end")
