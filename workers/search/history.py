"""What became of a sweep so far, as its list of entries tells it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from configs.spec import (
    Algorithm,
    Budget,
    Closed,
    Ended,
    Extended,
    Judged,
    Objective,
    Parameter,
    Suggested,
    SweepEntry,
    SweepSpec,
    TrialResult,
    Values,
)

_USEFUL: tuple[TrialResult, ...] = ("finished", "stopped")


@dataclass(frozen=True)
class Plan:
    """How the next trials are found: the spec's wish, or what a person made of it later."""

    space: dict[str, Parameter]
    algorithm: Algorithm
    budget: Budget
    objectives: tuple[Objective, ...]
    first: tuple[Values, ...]
    seed: int


@dataclass(frozen=True)
class Trial:
    """One point of the sweep, and what is known of it."""

    number: int
    values: Values
    judged: tuple[Judged, ...] = ()
    ended: Ended | None = None

    @property
    def last_epoch(self) -> int:
        """Of the newest evaluation in the list; 0: there is none."""
        return self.judged[-1].epoch if self.judged else 0

    def score(self, objective: Objective) -> tuple[bool, float] | None:
        """Larger is better, and a finished trial before a stopped one; none: it has no result."""
        if self.ended is None or self.ended.result not in _USEFUL:
            return None
        value = self.ended.values.get(objective.metric)
        if value is None:
            return None
        return self.ended.result == "finished", value if objective.goal == "max" else -value


class History:
    """The list of a sweep, entry by entry."""

    def __init__(self, spec: SweepSpec, entries: Iterable[SweepEntry] = ()) -> None:
        self.spec = spec
        self.length = 0
        self.is_closed = False
        self.plan = Plan(
            space=spec.space,
            algorithm=spec.algorithm,
            budget=spec.budget,
            objectives=spec.objectives,
            first=spec.first,
            seed=spec.seed,
        )
        self._trials: list[Trial] = []
        self._judged: list[Judged] = []
        for entry in entries:
            self.add(entry)

    @property
    def trials(self) -> Sequence[Trial]:
        """By number."""
        return self._trials

    @property
    def judged(self) -> Sequence[Judged]:
        """Of all trials, in the list's order."""
        return self._judged

    def add(self, entry: SweepEntry) -> None:
        """One thing more happened."""
        self.length += 1
        if isinstance(entry, Suggested):
            self._trials.append(Trial(entry.number, entry.values))
        elif isinstance(entry, Judged):
            trial = self._trials[entry.number]
            self._trials[entry.number] = replace(trial, judged=(*trial.judged, entry))
            self._judged.append(entry)
        elif isinstance(entry, Ended):
            self._trials[entry.number] = replace(self._trials[entry.number], ended=entry)
        elif isinstance(entry, Extended):
            self._extend(entry)
        self.is_closed = isinstance(entry, Closed)

    def end_of(self, number: int, result: TrialResult, *, last: Judged | None = None) -> Ended:
        """What is written of a trial's end; `last`: a judgement that is not in the list yet."""
        judged = [*self._trials[number].judged, *([] if last is None else [last])]
        return Ended(
            number=number,
            result=result,
            epoch=judged[-1].epoch if judged else 0,
            values=best_values(self.spec.objectives, judged),
        )

    def _extend(self, entry: Extended) -> None:
        self.plan = replace(
            self.plan, space=entry.space, algorithm=entry.algorithm, budget=entry.budget
        )


def best_values(objectives: Iterable[Objective], judged: Iterable[Judged]) -> dict[str, float]:
    """Each objective's best over some evaluations, by metric."""
    best: dict[str, float] = {}
    for judgement in judged:
        for objective in objectives:
            value = judgement.values.get(objective.metric)
            if value is None:
                continue
            choose = max if objective.goal == "max" else min
            best[objective.metric] = choose(best.get(objective.metric, value), value)
    return best
