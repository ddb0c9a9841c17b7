"""Sweeps for tests, and a search that runs without Ray or a service."""

import math
from collections.abc import Callable
from typing import Any

from configs.catalog import parse_spec
from configs.metric_keys import Metric
from configs.protocol.sweep_log import SweepEntry, TrialEnded, TrialJudged, TrialSuggested
from configs.spec.search import Choice, Integer, LogUniform
from configs.spec.sweep import SweepSpec, Values
from tests.support.factories import make_bckd_spec
from workers.search.space import Wait
from workers.search.suggest import suggest
from workers.search.sweep_log import ReplayedSweep

CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"
EPOCHS = 9


def make_log_uniform(low: float, high: float) -> LogUniform:
    return LogUniform(low=low, high=high, when={})


def make_integer(low: int, high: int, **options: Any) -> Integer:
    return Integer(low=low, high=high, **({"when": {}} | options))


def make_choice(*values: Any, **when: Any) -> Choice:
    return Choice(values=values, when=when)


def make_sweep(**changes: Any) -> SweepSpec:
    fields: dict[str, Any] = {
        "base": parse_spec(make_bckd_spec(schedule={"epochs": EPOCHS})),
        "space": {CLS: make_log_uniform(0.25, 4), LOC: make_log_uniform(1, 16)},
        "tags": {},
    }
    return SweepSpec(**(fields | changes))


def compute_score(values: Values) -> float:
    """A deterministic score with its maximum at the published weights."""
    distance = abs(math.log((float(values[CLS]) + 0.1) / 1.1)) + abs(
        math.log((float(values[LOC]) + 0.4) / 4.4)
    )
    return round(0.5 - 0.05 * distance, 6)


def run_search(
    spec: SweepSpec, count: int, *, score: Callable[[Values], float | None] = compute_score
) -> ReplayedSweep:
    """Run at most `count` trials, one after the other; a trial without a score fails."""
    sweep = ReplayedSweep(spec)
    while len(sweep.trials) < count:
        values = suggest(sweep.active_spec, sweep.trials)
        if values is None:
            break
        assert not isinstance(values, Wait)
        for entry in make_trial_entries(len(sweep.trials), values, score(values)):
            sweep.add(entry)
    return sweep


def make_trial_entries(number: int, values: Values, score: float | None) -> list[SweepEntry]:
    """All log entries of one trial; it fails without a score."""
    suggested = TrialSuggested(number=number, values=values)
    if score is None:
        return [suggested, TrialEnded(number=number, result="failed", values={})]
    metrics = {Metric.MAP: score}
    judgment = TrialJudged(number=number, epoch=EPOCHS, values=metrics, should_continue=True)
    ended = TrialEnded(number=number, result="finished", epoch=EPOCHS, values=metrics)
    return [suggested, judgment, ended]


def list_trial_values(sweep: ReplayedSweep) -> list[Values]:
    return [trial.values for trial in sweep.trials]
