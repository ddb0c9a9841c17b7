"""Decisions of each stage, on small worlds."""

import random
from dataclasses import replace

import pytest

from service.domain.autopilot.baseline import LEARNING_RATE
from service.domain.autopilot.decide import decide_next
from service.domain.autopilot.history import (
    AutopilotHistory,
    AutopilotStage,
    RunLaunch,
    RunOutcome,
    RunStop,
    StageEnd,
)
from service.domain.autopilot.request import BASELINE, StudentOption, TeacherOption
from service.domain.autopilot.state import add_decisions, replay_history
from tests.support.autopilot.trainer import SimulatedTrainer, run_autopilot
from tests.support.autopilot.worlds import (
    World,
    arm_names,
    draw_world,
    make_costs,
    make_request,
    run_cost_s,
)

GOOD = "pkd-6"


def make_world(**changes: object) -> World:
    """A quiet world in which one method gains 2 mAP."""
    gains = dict.fromkeys(arm_names(), 0.0) | {GOOD: 2.0}
    values: dict[str, object] = {
        "deviation": 0.2,
        "best_octave": 0.0,
        "curvature": 1.0,
        "gains": gains,
        "leads": {},
    }
    return replace(draw_world(1), **(values | changes))  # type: ignore[arg-type]


def launches_of(history: AutopilotHistory, stage: AutopilotStage) -> list[RunLaunch]:
    return [
        entry for entry in history.entries if isinstance(entry, RunLaunch) and entry.stage == stage
    ]


def end_of(history: AutopilotHistory, stage: AutopilotStage) -> StageEnd:
    return replay_history(history).ends[stage]


def test_a_real_gain_is_claimed_from_fresh_seeds_and_its_best_run_is_delivered() -> None:
    trainer = SimulatedTrainer(make_world(), make_request())

    history = run_autopilot(trainer)

    conclusion = replay_history(history).conclusion
    assert conclusion is not None
    assert (conclusion.result, conclusion.arm) == ("gain_confirmed", GOOD)
    gain = conclusion.gains[GOOD]
    assert gain.low is not None
    assert 0.0 < gain.low < 0.02
    assert gain.mean == pytest.approx(0.02, abs=0.004)
    delivered = trainer.launches[conclusion.run or ""]
    assert (delivered.stage, delivered.arm.name, delivered.epochs) == ("confirmation", GOOD, 12)
    confirmed = {run.seed for run in launches_of(history, "confirmation")}
    earlier = {run.seed for run in trainer.launches.values() if run.stage != "confirmation"}
    assert not confirmed & earlier
    assert conclusion.message.endswith("it is delivered.")


def test_without_a_gain_the_student_alone_is_delivered() -> None:
    world = make_world(gains=dict.fromkeys(arm_names(), -1.0))

    history = run_autopilot(SimulatedTrainer(world, make_request()))

    conclusion = replay_history(history).conclusion
    assert conclusion is not None
    assert (conclusion.result, conclusion.arm) == ("nothing_screened", BASELINE)
    assert launches_of(history, "confirmation") == []


def test_the_best_of_several_teachers_teaches() -> None:
    teachers = [TeacherOption(name=name, cost_s=60.0) for name in ("first", "second", "third")]
    request = make_request(teachers=teachers)
    history = add_decisions(AutopilotHistory(), decide_next(request, AutopilotHistory()))
    maps = {"first": 0.4, "second": 0.6, "third": 0.5}
    outcomes = [
        RunOutcome(key=run.key, state="succeeded", maps={0: maps[run.arm.name]})
        for run in launches_of(history, "teacher")
    ]

    (end,) = decide_next(request, add_decisions(history, outcomes=outcomes))

    assert isinstance(end, StageEnd)
    assert end.selected == ("second",)
    assert "first 40.0, second 60.0, third 50.0" in end.message


def test_a_teacher_that_is_no_better_than_the_student_ends_it_with_advice() -> None:
    history = run_autopilot(SimulatedTrainer(make_world(baseline=60.0), make_request()))

    conclusion = replay_history(history).conclusion
    assert conclusion is not None
    assert (conclusion.result, conclusion.arm) == ("weak_teacher", BASELINE)
    assert "Name a better teacher" in conclusion.message
    assert launches_of(history, "screening") == []


@pytest.mark.parametrize("octave", [-3, 0, 3])
def test_the_learning_rate_is_searched_until_both_neighbors_are_worse(octave: int) -> None:
    world = make_world(best_octave=float(octave))

    history = run_autopilot(SimulatedTrainer(world, make_request()))

    (name,) = end_of(history, "learning_rate").selected
    rates = {
        run.arm.name: run.arm.values[LEARNING_RATE] for run in launches_of(history, "learning_rate")
    }
    assert rates[name] == pytest.approx(0.01 * 2.0**octave)
    assert {0.01 * 2.0 ** (octave + step) for step in (-1, 0, 1)} <= set(rates.values())
    for stage in ("noise_floor", "screening", "confirmation"):
        runs = launches_of(history, stage)
        assert {run.arm.values[LEARNING_RATE] for run in runs} == {rates[name]}


def test_of_two_students_the_better_is_distilled() -> None:
    students = [
        StudentOption(name=name, values={"student.backbone.depth": depth}, costs=make_costs())
        for name, depth in (("small", 18), ("large", 34))
    ]
    request = make_request(students=students, budget_s=60 * run_cost_s())

    class Trainer(SimulatedTrainer):
        def _curve(self, launch: RunLaunch) -> dict[int, float]:
            bonus = 0.02 if launch.arm.student == "large" else 0.0
            return {epoch: value + bonus for epoch, value in super()._curve(launch).items()}

    history = run_autopilot(Trainer(make_world(), request))

    assert {run.arm.student for run in launches_of(history, "learning_rate")} == {"small", "large"}
    assert {run.arm.student for run in launches_of(history, "confirmation")} == {"large"}
    assert launches_of(history, "confirmation")[0].arm.values["student.backbone.depth"] == 34


def test_other_schedules_are_tried_with_the_best_learning_rate() -> None:
    schedules = [{"schedule.policy.kind": "cosine"}, {"schedule.policy.kind": "step"}]
    request = make_request(schedules=schedules, budget_s=60 * run_cost_s())

    history = run_autopilot(SimulatedTrainer(make_world(), request))

    tried = launches_of(history, "learning_rate")[-2:]
    assert [run.arm.values["schedule.policy.kind"] for run in tried] == ["cosine", "step"]
    assert {run.arm.values[LEARNING_RATE] for run in tried} == {0.01}


def test_screening_stops_the_worse_and_never_the_student_alone() -> None:
    trainer = SimulatedTrainer(make_world(), make_request())

    history = run_autopilot(trainer)

    stops = [entry for entry in history.entries if isinstance(entry, RunStop)]
    screened = launches_of(history, "screening")
    assert len(screened) == 19
    assert 12 <= len(stops) <= 17
    assert {stop.reason for stop in stops} == {"screened_out"}
    assert f"screening.{GOOD}" not in {stop.key.rpartition(".")[0] for stop in stops}
    assert f"screening.{BASELINE}" not in {stop.key.rpartition(".")[0] for stop in stops}


def test_a_rung_waits_for_runs_that_train() -> None:
    """As long as one of five has not reached the first rung, none is stopped."""
    request = make_request(finalists=1)
    complete = run_autopilot(SimulatedTrainer(make_world(), request))
    runs = launches_of(complete, "screening")[:19]
    index = complete.entries.index(runs[0])
    earlier = {run.key for run in complete.entries[:index] if isinstance(run, RunLaunch)}
    launched = AutopilotHistory(
        entries=(*complete.entries[:index], *runs),
        outcomes=tuple(outcome for outcome in complete.outcomes if outcome.key in earlier),
    )
    reports = [
        RunOutcome(key=run.key, state="running", maps={2: 0.1, 3: 0.3 - 0.01 * number})
        for number, run in enumerate(runs[1:6])
    ]
    late = reports[0].model_copy(update={"maps": {2: 0.1}})

    waiting = decide_next(request, add_decisions(launched, outcomes=[late, *reports[1:]]))
    decided = decide_next(request, add_decisions(launched, outcomes=reports))

    assert waiting == ()
    assert [stop.key for stop in decided if isinstance(stop, RunStop)] == [
        run.key for run in runs[4:6]
    ]


def test_an_arm_that_fails_is_out_and_the_others_go_on() -> None:
    world = make_world(gains=dict.fromkeys(arm_names(), 0.0) | {GOOD: 2.0, "bckd-1": 3.0})
    request = make_request(budget_s=60 * run_cost_s())
    undisturbed = run_autopilot(SimulatedTrainer(world, request))
    keys = [run.key for run in launches_of(undisturbed, "confirmation") if run.arm.name == "bckd-1"]

    trainer = SimulatedTrainer(world, request, failing=frozenset(keys[1:2]))
    history = run_autopilot(trainer)

    conclusion = replay_history(history).conclusion
    assert conclusion is not None
    assert (conclusion.result, conclusion.arm) == ("gain_confirmed", GOOD)
    assert "bckd-1" not in conclusion.gains


def test_a_claim_is_delivered_if_the_budget_ends_before_a_better_arm_is_confirmed() -> None:
    world = make_world(gains=dict.fromkeys(arm_names(), 0.0) | {GOOD: 2.0, "bckd-1": 2.0})
    request = make_request(finalists=2)
    complete = run_autopilot(SimulatedTrainer(world, request))
    launches = launches_of(complete, "confirmation")[:9]
    entries = complete.entries[: complete.entries.index(launches[-1]) + 1]
    gains = {BASELINE: (0.0, 0.0, 0.0), GOOD: (0.01, 0.0101, 0.0102), "bckd-1": (0.0, 0.03, 0.06)}
    remaining = {name: iter(values) for name, values in gains.items()}
    outcomes = [
        RunOutcome(key=run.key, state="succeeded", maps={12: 0.3 + next(remaining[run.arm.name])})
        for run in launches
    ]
    history = AutopilotHistory(entries=entries, outcomes=complete.outcomes)
    history = add_decisions(history, outcomes=outcomes)
    spent = outcomes[0].model_copy(update={"spent_s": request.budget_s})

    (further, *_) = decide_next(request, history)
    (end,) = decide_next(request, add_decisions(history, outcomes=[spent]))

    assert isinstance(further, RunLaunch)
    assert isinstance(end, StageEnd)
    assert (end.result, end.selected) == ("gain_confirmed", (GOOD,))


def test_a_seed_on_which_the_student_alone_fails_is_replaced() -> None:
    undisturbed = run_autopilot(SimulatedTrainer(make_world(), make_request()))
    first = launches_of(undisturbed, "confirmation")[0]
    assert first.arm.name == BASELINE

    trainer = SimulatedTrainer(make_world(), make_request(), failing=frozenset({first.key}))
    history = run_autopilot(trainer)

    conclusion = replay_history(history).conclusion
    assert conclusion is not None
    assert conclusion.arm == GOOD
    assert first.seed in {run.seed for run in launches_of(history, "confirmation")}


def test_the_order_of_reports_changes_nothing() -> None:
    world = draw_world(77)
    expected = replay_history(run_autopilot(SimulatedTrainer(world, make_request())))

    for number in range(3):
        trainer = SimulatedTrainer(world, make_request(), order=random.Random(number))
        state = replay_history(run_autopilot(trainer))

        assert state.conclusion == expected.conclusion
        assert {stop.key for stop in state.stops.values()} == set(expected.stops)
