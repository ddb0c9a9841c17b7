"""The log of a sweep: its entries, and the state of trials from replaying them.

The log is the sweep's whole state: append-only and kept by the service. Driver and scheduler are
rebuilt from it after a failure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from configs.spec.base import Contract
from configs.spec.search import Algorithm
from configs.spec.sweep import Budget, Objective, Space, SweepSpec, Values


class TrialSuggested(Contract):
    """A new trial; the service creates its runs in the same transaction."""

    kind: Literal["suggested"] = "suggested"
    number: Annotated[int, Field(ge=0)]
    values: Values


class TrialJudged(Contract):
    """An evaluation of a trial, and the scheduler's decision."""

    kind: Literal["judged"] = "judged"
    number: Annotated[int, Field(ge=0)]
    epoch: Annotated[int, Field(ge=1)]
    """Number of whole epochs trained."""

    values: dict[str, float]
    """By metric of the objectives; means over repeats."""

    should_continue: bool


TrialResult = Literal["finished", "stopped", "failed", "cancelled"]
"""`stopped` means by the scheduler, before the last epoch."""


class TrialEnded(Contract):
    """The end of a trial."""

    kind: Literal["ended"] = "ended"
    number: Annotated[int, Field(ge=0)]
    result: TrialResult
    epoch: Annotated[int, Field(ge=0)] = 0
    """Epoch of the last evaluation; 0 without one."""

    values: Annotated[dict[str, float], Field(default_factory=dict)]
    """Best value of each objective. Empty without an evaluation."""


class SweepExtended(Contract):
    """A finished sweep was extended; these values apply to all later trials."""

    kind: Literal["extended"] = "extended"
    by: Annotated[str, Field(max_length=64)]
    budget: Budget
    space: Space
    algorithm: Algorithm


class SweepClosed(Contract):
    """The end of the search: all trials are over, and no further one starts."""

    kind: Literal["closed"] = "closed"
    why: Annotated[str, Field(max_length=500)]


SweepEntry = Annotated[
    TrialSuggested | TrialJudged | TrialEnded | SweepExtended | SweepClosed,
    Field(discriminator="kind"),
]


class SweepLog(Contract):
    """The sweep's log from a position on, and instructions for the driver."""

    spec: SweepSpec
    entries: tuple[SweepEntry, ...]
    allows_new_trials: bool
    """False if the sweep was stopped or is out of budget."""

    concurrency: Annotated[int, Field(ge=1)]
    """Maximum number of concurrent trials."""


class SweepLogAppend(Contract):
    """Entries to append at position `first`; refused if the log has other entries there."""

    first: Annotated[int, Field(ge=0)]
    entries: Annotated[tuple[SweepEntry, ...], Field(min_length=1, max_length=1000)]


class AppendReceipt(Contract):
    """The length of the log after an append, and instructions for the driver."""

    next: int
    allows_new_trials: bool


class TrialEvaluation(Contract):
    """The objectives of a trial after an epoch; means over repeats."""

    epoch: Annotated[int, Field(ge=1)]
    values: dict[str, float]


class TrialProgress(Contract):
    """The progress of a trial, from the metrics of its runs."""

    number: int
    evaluations: tuple[TrialEvaluation, ...]
    result: TrialResult | None = None
    """None while the trial is running."""


class SearchProgress(Contract):
    """The progress of all trials that have not ended in the log."""

    trials: tuple[TrialProgress, ...]
    allows_new_trials: bool


COMPLETED_RESULTS: tuple[TrialResult, ...] = ("finished", "stopped")
"""Results whose values count, because the trial trained as planned."""


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep, as its log records it."""

    number: int
    values: Values
    judgments: tuple[TrialJudged, ...] = ()
    ended: TrialEnded | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the scheduler has stopped the trial."""
        return any(not judgment.should_continue for judgment in self.judgments)

    @property
    def last_epoch(self) -> int:
        """Epoch of the newest evaluation in the log; 0 without one."""
        return self.judgments[-1].epoch if self.judgments else 0

    def best_value(self, objective: Objective) -> float | None:
        """The trial's best value of an objective so far. None before the first evaluation."""
        evaluations = [judgment.values for judgment in self.judgments]
        if self.ended is not None:
            evaluations.append(self.ended.values)
        return best_value(objective, evaluations)


def best_value(objective: Objective, evaluations: Iterable[dict[str, float]]) -> float | None:
    """The best value of an objective over evaluations. None if none of them has its metric."""
    metric = objective.metric
    candidates = [values[metric] for values in evaluations if metric in values]
    if not candidates:
        return None
    return max(candidates) if objective.goal == "max" else min(candidates)


def replay_trials(entries: Iterable[SweepEntry]) -> dict[int, Trial]:
    """The trials of a log, by number."""
    trials: dict[int, Trial] = {}
    for entry in entries:
        apply_entry(entry, trials)
    return trials


def apply_entry(entry: SweepEntry, trials: dict[int, Trial]) -> None:
    """Update `trials` in place with one entry of the log."""
    if isinstance(entry, TrialSuggested):
        trials[entry.number] = Trial(entry.number, entry.values)
    elif isinstance(entry, TrialJudged):
        trial = trials[entry.number]
        trials[entry.number] = replace(trial, judgments=(*trial.judgments, entry))
    elif isinstance(entry, TrialEnded):
        trials[entry.number] = replace(trials[entry.number], ended=entry)


def active_spec(spec: SweepSpec, entries: Iterable[SweepEntry]) -> SweepSpec:
    """The spec with budget, space and algorithm of the last extension, if there was one."""
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
    """Whether the search has ended and was not extended since."""
    result = False
    for entry in entries:
        if isinstance(entry, SweepClosed | SweepExtended):
            result = isinstance(entry, SweepClosed)
    return result
