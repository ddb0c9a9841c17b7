"""The log of a sweep: its entries, and the trials that follow from replaying them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from configs.spec.base import Contract
from configs.spec.search import (
    Algorithm,
)
from configs.spec.sweep import Budget, Objective, Space, SweepSpec, Values


class TrialSuggested(Contract):
    """A trial begins; the service makes its runs in the same transaction."""

    kind: Literal["suggested"] = "suggested"
    number: Annotated[int, Field(ge=0)]
    values: Values


class TrialJudged(Contract):
    """The scheduler was told of an evaluation, and what it decided."""

    kind: Literal["judged"] = "judged"
    number: Annotated[int, Field(ge=0)]
    epoch: Annotated[int, Field(ge=1)]
    """Whole epochs trained."""

    values: dict[str, float]
    """By the metric of each objective; over repeats the mean."""

    should_continue: bool


TrialResult = Literal["finished", "stopped", "failed", "cancelled"]
"""`stopped`: by the scheduler, before its last epoch."""


class TrialEnded(Contract):
    """A trial is over."""

    kind: Literal["ended"] = "ended"
    number: Annotated[int, Field(ge=0)]
    result: TrialResult
    epoch: Annotated[int, Field(ge=0)] = 0
    """Of its last evaluation."""

    values: Annotated[dict[str, float], Field(default_factory=dict)]
    """Each objective's best over its evaluations; empty if there was none."""


class SweepExtended(Contract):
    """A person gave a finished sweep more to do: later trials follow these."""

    kind: Literal["extended"] = "extended"
    by: Annotated[str, Field(max_length=64)]
    budget: Budget
    space: Space
    algorithm: Algorithm


class SweepClosed(Contract):
    """The search begins no more trials, and all are over."""

    kind: Literal["closed"] = "closed"
    why: Annotated[str, Field(max_length=500)]


SweepEntry = Annotated[
    TrialSuggested | TrialJudged | TrialEnded | SweepExtended | SweepClosed,
    Field(discriminator="kind"),
]


class SweepLog(Contract):
    """The list from a position on, and what the driver is to do."""

    spec: SweepSpec
    entries: tuple[SweepEntry, ...]
    allows_new_trials: bool
    """False: stopped, or out of budget. What trains may end first, or was told to leave."""

    concurrency: Annotated[int, Field(ge=1)]
    """Trials at the same time."""


class SweepLogAppend(Contract):
    """Entries for the list's end; refused if somebody else has written at `first` before."""

    first: Annotated[int, Field(ge=0)]
    entries: Annotated[tuple[SweepEntry, ...], Field(min_length=1, max_length=1000)]


class AppendReceipt(Contract):
    """The list's length now."""

    next: int
    allows_new_trials: bool


class TrialEvaluation(Contract):
    """A trial's objectives after an epoch; over repeats the mean."""

    epoch: Annotated[int, Field(ge=1)]
    values: dict[str, float]


class TrialProgress(Contract):
    """How far a trial is, as its runs have told the service."""

    number: int
    evaluations: tuple[TrialEvaluation, ...]
    result: TrialResult | None = None
    """None: it goes on."""


class SearchProgress(Contract):
    """Of all trials that have not ended in the list."""

    trials: tuple[TrialProgress, ...]
    allows_new_trials: bool


COMPLETED_RESULTS: tuple[TrialResult, ...] = ("finished", "stopped")
"""Results of trials that were trained as they were meant to: their values count."""


@dataclass(frozen=True)
class Trial:
    """One point of a sweep, as its list tells it."""

    number: int
    values: Values
    judgments: tuple[TrialJudged, ...] = ()
    ended: TrialEnded | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the scheduler has ended it."""
        return any(not one.should_continue for one in self.judgments)

    @property
    def last_epoch(self) -> int:
        """Of the newest evaluation in the list; 0: there is none."""
        return self.judgments[-1].epoch if self.judgments else 0

    def best_value(self, objective: Objective) -> float | None:
        """Its best value of an objective so far."""
        told = [one.values for one in self.judgments]
        if self.ended is not None:
            told.append(self.ended.values)
        return best_value(objective, told)


def best_value(objective: Objective, evaluations: Iterable[dict[str, float]]) -> float | None:
    """The best value of an objective among what evaluations found; none: no one measured it."""
    found = [values[objective.metric] for values in evaluations if objective.metric in values]
    if not found:
        return None
    return max(found) if objective.goal == "max" else min(found)


def replay_trials(entries: Iterable[SweepEntry]) -> dict[int, Trial]:
    """All trials so far, by number."""
    trials: dict[int, Trial] = {}
    for entry in entries:
        apply_entry(entry, trials)
    return trials


def apply_entry(entry: SweepEntry, trials: dict[int, Trial]) -> None:
    """Add to `trials` what one entry says of them."""
    if isinstance(entry, TrialSuggested):
        trials[entry.number] = Trial(entry.number, entry.values)
    elif isinstance(entry, TrialJudged):
        trial = trials[entry.number]
        trials[entry.number] = replace(trial, judgments=(*trial.judgments, entry))
    elif isinstance(entry, TrialEnded):
        trials[entry.number] = replace(trials[entry.number], ended=entry)


def active_spec(spec: SweepSpec, entries: Iterable[SweepEntry]) -> SweepSpec:
    """The spec with the budget, the space and the algorithm of the last extension."""
    for entry in entries:
        if isinstance(entry, SweepExtended):
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
        if isinstance(entry, SweepClosed | SweepExtended):
            closed = isinstance(entry, SweepClosed)
    return closed
