"""Sweeps for tests, and a search played through without Ray or a service."""

import math
from collections.abc import Callable
from typing import Any

from configs.catalog import parse_spec
from configs.protocol.names import Metric
from configs.protocol.sweep_log import SweepEntry, TrialEnded, TrialJudged, TrialSuggested
from configs.spec.search import Choice, Integer, LogUniform
from configs.spec.sweep import SweepSpec, Values
from tests.support.factories import a_bckd_spec
from workers.search.space import Wait
from workers.search.suggest import suggest
from workers.search.sweep_log import ReplayedSweep

CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"
EPOCHS = 9


def a_log_range(low: float, high: float) -> LogUniform:
    return LogUniform(low=low, high=high, when={})


def an_integer(low: int, high: int, **more: Any) -> Integer:
    return Integer(low=low, high=high, **({"when": {}} | more))


def a_choice(*values: Any, **when: Any) -> Choice:
    return Choice(values=values, when=when)


def a_sweep(**changes: Any) -> SweepSpec:
    fields: dict[str, Any] = {
        "base": parse_spec(a_bckd_spec(schedule={"epochs": EPOCHS})),
        "space": {CLS: a_log_range(0.25, 4), LOC: a_log_range(1, 16)},
        "tags": {},
    }
    return SweepSpec(**(fields | changes))


def goodness(values: Values) -> float:
    """Best at the published weights, and a function of the values alone."""
    far = abs(math.log((float(values[CLS]) + 0.1) / 1.1)) + abs(
        math.log((float(values[LOC]) + 0.4) / 4.4)
    )
    return round(0.5 - 0.05 * far, 6)


def played(
    spec: SweepSpec, count: int, *, score: Callable[[Values], float | None] = goodness
) -> ReplayedSweep:
    """A search of at most `count` trials, one after the other; no score: the trial failed."""
    history = ReplayedSweep(spec)
    while len(history.trials) < count:
        values = suggest(history.active_spec, history.trials)
        if values is None:
            break
        assert not isinstance(values, Wait)
        for entry in a_trial(len(history.trials), values, score(values)):
            history.add(entry)
    return history


def a_trial(number: int, values: Values, score: float | None) -> list[SweepEntry]:
    """All entries of one trial."""
    begun = TrialSuggested(number=number, values=values)
    if score is None:
        return [begun, TrialEnded(number=number, result="failed", values={})]
    told = {Metric.MAP: score}
    judged = TrialJudged(number=number, epoch=EPOCHS, values=told, should_continue=True)
    ended = TrialEnded(number=number, result="finished", epoch=EPOCHS, values=told)
    return [begun, judged, ended]


def values_of(history: ReplayedSweep) -> list[Values]:
    return [trial.values for trial in history.trials]
