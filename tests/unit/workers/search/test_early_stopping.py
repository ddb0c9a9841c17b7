"""Early stopping with Ray's schedulers, with the same decisions after a restart."""

import numpy as np
import pytest

from configs.catalog import parse_spec
from configs.metric_keys import Metric
from configs.protocol.sweep_log import TrialJudged, TrialSuggested
from configs.spec.search import (
    Asha,
    Choice,
    Hyperband,
    MedianStopping,
    NoScheduler,
    Scheduler,
)
from configs.spec.sweep import Objective, SweepSpec
from tests.support.factories import make_bckd_spec
from tests.support.workers.sweeps import CLS, EPOCHS, LOC, make_log_uniform, make_sweep
from workers.search.early_stopping import EarlyStopper
from workers.search.sweep_log import ReplayedSweep

SCHEDULERS: dict[str, Scheduler] = {
    "none": NoScheduler(),
    "asha": Asha(factor=2),
    "hyperband": Hyperband(factor=2),
    "median": MedianStopping(min_trials=2),
}

each_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS.keys())


def start_sweep(spec: SweepSpec, count: int) -> ReplayedSweep:
    values = {CLS: 1.0, LOC: 4.0}
    return ReplayedSweep(
        spec, [TrialSuggested(number=number, values=values) for number in range(count)]
    )


def interleave_evaluations(count: int) -> list[tuple[int, int, float]]:
    """Evaluations of trials in turn: number, epoch, mAP."""
    tops = np.random.RandomState(0).permutation(count)
    return [
        (number, epoch, float(tops[number] * epoch))
        for epoch in range(1, EPOCHS + 1)
        for number in range(count)
    ]


def replay(
    sweep: ReplayedSweep, results: list[tuple[int, int, float]], stopper: EarlyStopper
) -> list[TrialJudged]:
    """Judge the results in order; a stopped trial is not evaluated any more."""
    judgments: list[TrialJudged] = []
    for number, epoch, value in results:
        if any(not judgment.should_continue for judgment in sweep.trials[number].judgments):
            continue
        values = {str(Metric.MAP): value}
        should_continue = stopper.should_continue(number, epoch=epoch, values=values)
        judgments.append(
            TrialJudged(number=number, epoch=epoch, values=values, should_continue=should_continue)
        )
        sweep.add(judgments[-1])
    return judgments


@each_scheduler
def test_a_rebuilt_early_stopper_makes_the_same_decisions(scheduler: Scheduler) -> None:
    spec, results = make_sweep(scheduler=scheduler), interleave_evaluations(12)
    full_sweep = start_sweep(spec, 12)
    first = EarlyStopper(full_sweep)
    judgments = replay(full_sweep, results, first)

    for count in (0, 7, 20, len(judgments)):
        sweep = start_sweep(spec, 12)
        for judged in judgments[:count]:
            sweep.add(judged)
        rebuilt = EarlyStopper(sweep)
        judged_epochs = {(judgment.number, judgment.epoch) for judgment in judgments[:count]}
        remaining = [judgment for judgment in results if judgment[:2] not in judged_epochs]
        assert replay(sweep, remaining, rebuilt) == judgments[count:]
        assert rebuilt.debug_string() == first.debug_string()


@each_scheduler
def test_only_a_scheduler_stops_trials(scheduler: Scheduler) -> None:
    spec = make_sweep(scheduler=scheduler)
    sweep = start_sweep(spec, 12)

    stopped = {
        judgment.number
        for judgment in replay(sweep, interleave_evaluations(12), EarlyStopper(sweep))
        if not judgment.should_continue
    }

    assert bool(stopped) == (not isinstance(scheduler, NoScheduler))
    best = int(np.argmax(np.random.RandomState(0).permutation(12)))
    assert best not in stopped


def test_less_can_be_better() -> None:
    spec = make_sweep(scheduler=Asha(factor=2), objectives=(Objective(goal="min"),))
    stopper = EarlyStopper(start_sweep(spec, 3))

    assert stopper.should_continue(0, epoch=1, values={Metric.MAP: 0.2})
    assert stopper.should_continue(1, epoch=1, values={Metric.MAP: 0.1})
    assert not stopper.should_continue(2, epoch=1, values={Metric.MAP: 0.3})


def test_after_its_last_epoch_a_trial_is_not_stopped() -> None:
    spec = make_sweep(scheduler=Asha(grace_epochs=EPOCHS, factor=2))
    stopper = EarlyStopper(start_sweep(spec, 3))

    decisions = [
        stopper.should_continue(number, epoch=EPOCHS, values={Metric.MAP: value})
        for number, value in enumerate((0.3, 0.2, 0.1))
    ]

    assert decisions == [True, True, True]


def test_a_trial_is_not_judged_by_rungs_that_its_evaluations_skipped() -> None:
    stopper = EarlyStopper(start_sweep(make_sweep(scheduler=Asha(factor=3)), 2))
    stopper.should_continue(0, epoch=1, values={Metric.MAP: 0.3})
    stopper.should_continue(0, epoch=2, values={Metric.MAP: 0.4})

    assert stopper.should_continue(1, epoch=4, values={Metric.MAP: 0.1})
    assert stopper.should_continue(1, epoch=8, values={Metric.MAP: 0.1})


def test_an_evaluation_without_the_objective_decides_nothing() -> None:
    stopper = EarlyStopper(start_sweep(make_sweep(scheduler=Asha()), 1))

    assert stopper.should_continue(0, epoch=1, values={})


def test_brackets_are_drawn_per_trial_and_leave_numpys_generator_unchanged() -> None:
    spec = make_sweep(scheduler=Hyperband(factor=2))
    values = {str(Metric.MAP): 0.1}
    np.random.seed(7)
    expected = np.random.random()
    first, second = EarlyStopper(start_sweep(spec, 9)), EarlyStopper(start_sweep(spec, 9))
    np.random.seed(7)

    for number in range(9):
        first.should_continue(number, epoch=EPOCHS, values=values)
    for number in reversed(range(9)):
        second.should_continue(number, epoch=EPOCHS, values=values)

    assert np.random.random() == expected
    assert first.debug_string() == second.debug_string()


def test_rungs_go_up_to_the_longest_trial() -> None:
    space = {CLS: make_log_uniform(0.25, 4), "schedule.epochs": Choice(values=(4, 16), when={})}
    base = parse_spec(make_bckd_spec(schedule={"epochs": 2}))
    spec = make_sweep(scheduler=Asha(factor=2), space=space, base=base)

    assert "Iter 16.000" in EarlyStopper(start_sweep(spec, 1)).debug_string()
