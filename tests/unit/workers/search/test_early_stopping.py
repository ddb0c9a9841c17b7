"""Which trials go on: Ray's schedulers, the same after a restart as before."""

import numpy as np
import pytest

from configs.catalog import parse_spec
from configs.protocol.names import Metric
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
from tests.support.factories import a_bckd_spec
from tests.support.workers.sweeps import CLS, EPOCHS, LOC, a_log_range, a_sweep
from workers.search.early_stopping import EarlyStopper
from workers.search.sweep_log import ReplayedSweep

SCHEDULERS: dict[str, Scheduler] = {
    "none": NoScheduler(),
    "asha": Asha(factor=2),
    "hyperband": Hyperband(factor=2),
    "median": MedianStopping(min_trials=2),
}

each_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS.keys())


def begun(spec: SweepSpec, count: int) -> ReplayedSweep:
    values = {CLS: 1.0, LOC: 4.0}
    return ReplayedSweep(spec, [TrialSuggested(number=one, values=values) for one in range(count)])


def evaluations(count: int) -> list[tuple[int, int, float]]:
    """Of trials in turns: number, epoch, mAP."""
    tops = np.random.RandomState(0).permutation(count)
    return [
        (number, epoch, float(tops[number] * epoch))
        for epoch in range(1, EPOCHS + 1)
        for number in range(count)
    ]


def play(
    history: ReplayedSweep, told: list[tuple[int, int, float]], judge: EarlyStopper
) -> list[TrialJudged]:
    """What is decided; a trial that is stopped is evaluated no more."""
    decided: list[TrialJudged] = []
    for number, epoch, value in told:
        if any(not one.should_continue for one in history.trials[number].judgments):
            continue
        values = {str(Metric.MAP): value}
        goes_on = judge.should_continue(number, epoch=epoch, values=values)
        decided.append(
            TrialJudged(number=number, epoch=epoch, values=values, should_continue=goes_on)
        )
        history.add(decided[-1])
    return decided


@each_scheduler
def test_a_judge_that_is_rebuilt_decides_as_the_first_one_would_have(scheduler: Scheduler) -> None:
    spec, told = a_sweep(scheduler=scheduler), evaluations(12)
    whole = begun(spec, 12)
    first = EarlyStopper(whole)
    decided = play(whole, told, first)

    for cut in (0, 7, 20, len(decided)):
        history = begun(spec, 12)
        for judged in decided[:cut]:
            history.add(judged)
        again = EarlyStopper(history)
        known = {(one.number, one.epoch) for one in decided[:cut]}
        rest = [one for one in told if one[:2] not in known]
        assert play(history, rest, again) == decided[cut:]
        assert again.debug_string() == first.debug_string()


@each_scheduler
def test_only_a_scheduler_stops_trials(scheduler: Scheduler) -> None:
    spec = a_sweep(scheduler=scheduler)
    history = begun(spec, 12)

    stopped = {
        one.number
        for one in play(history, evaluations(12), EarlyStopper(history))
        if not one.should_continue
    }

    assert bool(stopped) == (not isinstance(scheduler, NoScheduler))
    best = int(np.argmax(np.random.RandomState(0).permutation(12)))
    assert best not in stopped


def test_less_can_be_better() -> None:
    spec = a_sweep(scheduler=Asha(factor=2), objectives=(Objective(goal="min"),))
    judge = EarlyStopper(begun(spec, 3))

    assert judge.should_continue(0, epoch=1, values={Metric.MAP: 0.2})
    assert judge.should_continue(1, epoch=1, values={Metric.MAP: 0.1})
    assert not judge.should_continue(2, epoch=1, values={Metric.MAP: 0.3})


def test_after_its_last_epoch_a_trial_is_not_stopped() -> None:
    spec = a_sweep(scheduler=Asha(grace_epochs=EPOCHS, factor=2))
    judge = EarlyStopper(begun(spec, 3))

    kept = [
        judge.should_continue(number, epoch=EPOCHS, values={Metric.MAP: value})
        for number, value in enumerate((0.3, 0.2, 0.1))
    ]

    assert kept == [True, True, True]


def test_a_trial_is_not_judged_by_rungs_that_its_evaluations_passed_over() -> None:
    judge = EarlyStopper(begun(a_sweep(scheduler=Asha(factor=3)), 2))
    judge.should_continue(0, epoch=1, values={Metric.MAP: 0.3})
    judge.should_continue(0, epoch=2, values={Metric.MAP: 0.4})

    assert judge.should_continue(1, epoch=4, values={Metric.MAP: 0.1})
    assert judge.should_continue(1, epoch=8, values={Metric.MAP: 0.1})


def test_an_evaluation_without_the_objective_decides_nothing() -> None:
    judge = EarlyStopper(begun(a_sweep(scheduler=Asha()), 1))

    assert judge.should_continue(0, epoch=1, values={})


def test_brackets_are_drawn_for_a_trial_and_leave_numpys_generator_alone() -> None:
    spec = a_sweep(scheduler=Hyperband(factor=2))
    values = {str(Metric.MAP): 0.1}
    np.random.seed(7)
    expected = np.random.random()
    one, other = EarlyStopper(begun(spec, 9)), EarlyStopper(begun(spec, 9))
    np.random.seed(7)

    for number in range(9):
        one.should_continue(number, epoch=EPOCHS, values=values)
    for number in reversed(range(9)):
        other.should_continue(number, epoch=EPOCHS, values=values)

    assert np.random.random() == expected
    assert one.debug_string() == other.debug_string()


def test_rungs_go_up_to_the_longest_trial() -> None:
    space = {CLS: a_log_range(0.25, 4), "schedule.epochs": Choice(values=(4, 16), when={})}
    base = parse_spec(a_bckd_spec(schedule={"epochs": 2}))
    spec = a_sweep(scheduler=Asha(factor=2), space=space, base=base)

    assert "Iter 16.000" in EarlyStopper(begun(spec, 1)).debug_string()
