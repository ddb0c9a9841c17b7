"""What became of a sweep so far, as its list of entries tells it."""

from collections.abc import Iterable, Sequence

from configs.spec import Closed, Ended, Judged, Objective, SweepEntry, SweepSpec, TrialResult
from configs.sweep_list import AS_MEANT, Trial, best_of, note, spec_in_force


class History:
    """The list of a sweep, entry by entry."""

    def __init__(self, spec: SweepSpec, entries: Iterable[SweepEntry] = ()) -> None:
        self.spec = spec
        self.length = 0
        self.is_closed = False
        self.plan = spec
        """The spec in force: as it was asked, or as a person extended it."""

        self._trials: dict[int, Trial] = {}
        self._judged: list[Judged] = []
        for entry in entries:
            self.add(entry)

    @property
    def trials(self) -> Sequence[Trial]:
        """By number."""
        return list(self._trials.values())

    @property
    def judged(self) -> Sequence[Judged]:
        """Of all trials, in the list's order."""
        return self._judged

    def add(self, entry: SweepEntry) -> None:
        """One thing more happened."""
        self.length += 1
        note(entry, self._trials)
        if isinstance(entry, Judged):
            self._judged.append(entry)
        self.plan = spec_in_force(self.plan, [entry])
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


def best_values(objectives: Iterable[Objective], judged: Sequence[Judged]) -> dict[str, float]:
    """Each objective's best over some evaluations, by metric."""
    told = [one.values for one in judged]
    found = {objective.metric: best_of(objective, told) for objective in objectives}
    return {metric: value for metric, value in found.items() if value is not None}


def score(trial: Trial, objective: Objective) -> tuple[bool, float] | None:
    """Larger is better, and a finished trial before a stopped one; none: it has no result."""
    if trial.ended is None or trial.ended.result not in AS_MEANT:
        return None
    value = trial.ended.values.get(objective.metric)
    if value is None:
        return None
    return trial.ended.result == "finished", value if objective.goal == "max" else -value
