"""What the list of a sweep says: its trials, what is in force, whether the search has ended."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from configs.spec import (
    Closed,
    Ended,
    Extended,
    Judged,
    Objective,
    Suggested,
    SweepEntry,
    SweepSpec,
    TrialResult,
    Values,
)

AS_MEANT: tuple[TrialResult, ...] = ("finished", "stopped")
"""Results of trials that were trained as they were meant to: their values count."""


@dataclass(frozen=True)
class Trial:
    """One point of a sweep, as its list tells it."""

    number: int
    values: Values
    judged: tuple[Judged, ...] = ()
    ended: Ended | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the scheduler has ended it."""
        return any(not one.goes_on for one in self.judged)

    @property
    def last_epoch(self) -> int:
        """Of the newest evaluation in the list; 0: there is none."""
        return self.judged[-1].epoch if self.judged else 0

    def best(self, objective: Objective) -> float | None:
        """Its best value of an objective so far."""
        told = [one.values for one in self.judged]
        if self.ended is not None:
            told.append(self.ended.values)
        return best_of(objective, told)


def best_of(objective: Objective, told: Iterable[dict[str, float]]) -> float | None:
    """The best value of an objective among what evaluations found; none: no one measured it."""
    found = [values[objective.metric] for values in told if objective.metric in values]
    if not found:
        return None
    return max(found) if objective.goal == "max" else min(found)


def trials_of(entries: Iterable[SweepEntry]) -> dict[int, Trial]:
    """All trials so far, by number."""
    trials: dict[int, Trial] = {}
    for entry in entries:
        note(entry, trials)
    return trials


def note(entry: SweepEntry, trials: dict[int, Trial]) -> None:
    """Add to `trials` what one entry says of them."""
    if isinstance(entry, Suggested):
        trials[entry.number] = Trial(entry.number, entry.values)
    elif isinstance(entry, Judged):
        trial = trials[entry.number]
        trials[entry.number] = replace(trial, judged=(*trial.judged, entry))
    elif isinstance(entry, Ended):
        trials[entry.number] = replace(trials[entry.number], ended=entry)


def spec_in_force(spec: SweepSpec, entries: Iterable[SweepEntry]) -> SweepSpec:
    """The spec with the budget, the space and the algorithm of the last extension."""
    for entry in entries:
        if isinstance(entry, Extended):
            spec = spec.model_copy(
                update={
                    "budget": entry.budget,
                    "space": entry.space,
                    "algorithm": entry.algorithm,
                }
            )
    return spec


def is_closed(entries: Iterable[SweepEntry]) -> bool:
    """Whether the search has ended, and was not taken up again."""
    closed = False
    for entry in entries:
        if isinstance(entry, Closed | Extended):
            closed = isinstance(entry, Closed)
    return closed
