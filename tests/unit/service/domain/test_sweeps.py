"""A sweep's transitions, its trials by the log, and its findings."""

from dataclasses import replace
from typing import Any

import pytest

from configs.protocol.probe import ParameterEffect
from configs.protocol.records import Progress
from configs.protocol.sweep_log import (
    SweepClosed,
    SweepEntry,
    SweepExtended,
    Trial,
    TrialEnded,
    TrialJudged,
    TrialSuggested,
    active_spec,
    is_closed,
    replay_trials,
)
from configs.spec.search import GridSearch, RandomSearch, Uniform
from configs.spec.sweep import Budget, Objective, SweepSpec
from service.adapters.clock import FixedClock
from service.domain.errors.conflicts import InvalidSweepTransition
from service.domain.errors.requests import EntryRefused
from service.domain.planning.sweep_findings import grid_size, sweep_findings
from service.domain.runs import MetricPoint
from service.domain.states import RunState
from service.domain.sweeps import (
    SWEEP_TRANSITIONS,
    Sweep,
    SweepState,
    choose_pack_size,
    describe_ineffective_parameters,
    teacher_warning,
    transition_sweep,
)
from service.domain.trials import (
    TrialRun,
    best_trial,
    check_entries,
    compute_trial_progress,
    describe_exhausted_budget,
    format_values,
    running_trials,
)
from tests.support.factories import make_bckd_spec, make_run
from tests.support.service.simulated_sweep import CLS, LOC, MAP, make_probe

NOW = FixedClock().now()
MAXIMISE = Objective()
STEPS = 10


def make_sweep_spec(**changes: Any) -> SweepSpec:
    fields: dict[str, Any] = {
        "base": make_bckd_spec(schedule={"epochs": 4}),
        "space": {CLS: {"kind": "uniform", "low": 0.5, "high": 2.0}},
    }
    return SweepSpec.model_validate(fields | changes)


def make_sweep(state: SweepState = SweepState.SEARCHING, **changes: Any) -> Sweep:
    spec = changes.pop("spec", None) or make_sweep_spec()
    sweep = Sweep(
        id="s" + "0" * 12,
        name="a sweep",
        preset=None,
        spec=spec,
        state=state,
        created_at=NOW,
        updated_at=NOW,
        created_by="somebody",
    )
    return replace(sweep, **changes)


def make_suggested(number: int, **values: Any) -> TrialSuggested:
    return TrialSuggested(number=number, values=values or {CLS: 1.0})


def make_judged(
    number: int, epoch: int, value: float, *, should_continue: bool = True
) -> TrialJudged:
    return TrialJudged(
        number=number, epoch=epoch, values={MAP: value}, should_continue=should_continue
    )


def make_ended(number: int, result: Any = "finished", **fields: Any) -> TrialEnded:
    return TrialEnded(number=number, result=result, **fields)


def make_trial_run(step: int, value: float, *, at: int, **changes: Any) -> TrialRun:
    """Make a run of four epochs at a step, with one reported value."""
    progress = Progress(
        at=NOW,
        attempt=1,
        phase="training",
        epoch=1,
        epochs=4,
        step=at,
        steps=4 * STEPS,
        eta_s=None,
    )
    run = make_run(progress=progress, state=changes.pop("state", RunState.RUNNING))
    return TrialRun(run, {MAP: [MetricPoint(MAP, step, value, NOW)]})


@pytest.mark.parametrize("to", SweepState)
@pytest.mark.parametrize("from_", SweepState)
def test_a_sweep_changes_state_as_the_table_says(from_: SweepState, to: SweepState) -> None:
    sweep = make_sweep(from_)

    if to in SWEEP_TRANSITIONS[from_]:
        assert transition_sweep(sweep, to, at=NOW).state is to
    else:
        with pytest.raises(InvalidSweepTransition):
            transition_sweep(sweep, to, at=NOW)


def test_hours_of_searching_add_up_over_extensions() -> None:
    clock = FixedClock()
    sweep = transition_sweep(make_sweep(SweepState.PROBING), SweepState.SEARCHING, at=clock.now())
    clock.advance(3600)
    sweep = transition_sweep(sweep, SweepState.REPORTING, at=clock.now())
    clock.advance(3600)
    sweep = transition_sweep(sweep, SweepState.SUCCEEDED, at=clock.now())
    sweep = transition_sweep(sweep, SweepState.SEARCHING, at=clock.now())
    clock.advance(1800)

    assert sweep.search_hours(clock.now()) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("pack", "expected"), [("off", 1), (5, 5), ("auto", 3)], ids=["off", "a size", "auto"]
)
def test_a_pack_is_as_large_as_requested_or_as_fits(pack: Any, expected: int) -> None:
    sweep = make_sweep(spec=make_sweep_spec(pack=pack))

    assert choose_pack_size(sweep, make_probe(), slots=1) == expected


def test_an_automatic_pack_ends_at_the_budget_at_eight_and_without_a_probe_at_one() -> None:
    probe = make_probe().model_copy(
        update={"costs": make_probe().costs.model_copy(update={"available_bytes": 10**9})}
    )

    assert choose_pack_size(make_sweep(), probe, slots=1) == 8
    assert (
        choose_pack_size(
            make_sweep(spec=make_sweep_spec(budget={"trials": 2}, repeats=2)), probe, slots=1
        )
        == 2
    )
    assert choose_pack_size(make_sweep(), None, slots=1) == 1


def test_an_automatic_pack_never_relies_on_the_memory_of_another_kind_of_gpu() -> None:
    same, mixed = frozenset({"A100"}), frozenset({"A100", "T4"})

    assert choose_pack_size(make_sweep(), make_probe(), slots=1, gpu_kinds=same) == 3
    assert choose_pack_size(make_sweep(), make_probe(), slots=1, gpu_kinds=mixed) == 1
    assert (
        choose_pack_size(
            make_sweep(spec=make_sweep_spec(pack=5)), make_probe(), slots=1, gpu_kinds=mixed
        )
        == 5
    )


def test_a_run_of_several_processes_is_in_no_pack() -> None:
    base = make_bckd_spec(resources={"processes": 2})

    assert choose_pack_size(make_sweep(spec=make_sweep_spec(base=base, pack=4)), None, slots=1) == 1


def test_a_parameter_without_effect_is_named_with_its_reason() -> None:
    idle = ParameterEffect(has_effect=False, detail="the term is 0 at the beginning")
    probe = make_probe(effects={CLS: make_probe().effects[CLS], LOC: idle})

    assert describe_ineffective_parameters(make_probe()) is None
    assert "distillation.loc_weight (the term is 0 at the beginning)" in (
        describe_ineffective_parameters(probe) or ""
    )


@pytest.mark.parametrize(
    ("measured", "registered", "message"),
    [
        (0.4, 0.42, None),
        (0.4, None, None),
        (None, 0.4, None),
        (0.1, 0.4, "registered"),
        (0.0, None, "little to teach"),
    ],
    ids=["as known", "not known", "not measured", "far below", "nothing"],
)
def test_a_teacher_that_is_not_what_it_was_is_told(
    measured: float | None, registered: float | None, message: str | None
) -> None:
    warning = teacher_warning(make_probe(teacher_map=measured), registered)

    assert (warning is None) if message is None else (message in (warning or ""))


def test_trials_are_what_the_list_says() -> None:
    entries: list[SweepEntry] = [
        make_suggested(0),
        make_suggested(1),
        make_judged(0, 1, 0.3),
        make_judged(0, 2, 0.2),
        make_ended(0, epoch=2, values={MAP: 0.3}),
        make_judged(1, 1, 0.1, should_continue=False),
    ]

    trials = replay_trials(entries)

    assert set(running_trials(trials)) == {1}
    assert trials[1].is_stopped
    assert trials[0].best_value(MAXIMISE) == 0.3
    assert trials[0].best_value(Objective(goal="min")) == 0.2


def test_the_best_is_of_trials_that_trained_as_they_were_meant_to() -> None:
    entries: list[SweepEntry] = [
        make_suggested(0),
        make_suggested(1),
        make_suggested(2),
        make_suggested(3),
    ]
    entries += [make_judged(0, 1, 0.3), make_judged(1, 1, 0.9), make_judged(2, 1, 0.3)]
    entries += [
        make_ended(0, "stopped", values={MAP: 0.3}),
        make_ended(1, "failed", values={MAP: 0.9}),
    ]

    best = best_trial(replay_trials(entries).values(), MAXIMISE)

    assert best is not None
    assert best.number == 0
    assert best_trial([Trial(0, {})], MAXIMISE) is None


def test_the_last_extension_is_in_force_and_opens_what_was_closed() -> None:
    wider = {CLS: Uniform(low=0.0, high=9.0, when={})}
    entries: list[SweepEntry] = [
        SweepClosed(why="done"),
        SweepExtended(by="me", budget=Budget(trials=9), space=wider, algorithm=RandomSearch()),
    ]

    in_force = active_spec(make_sweep_spec(), entries)

    assert (in_force.budget.trials, in_force.space) == (9, wider)
    assert in_force.algorithm == RandomSearch()
    assert is_closed(entries[:1])
    assert not is_closed(entries)


@pytest.mark.parametrize(
    ("trials", "hours", "gpu_hours", "message"),
    [(4, 0, 0, "4 trials"), (0, 2, 0, "2 hours"), (0, 0, 3, "3 GPU hours"), (3, 1, 2, None)],
)
def test_no_trial_begins_when_a_part_of_the_budget_is_used_up(
    trials: int, hours: float, gpu_hours: float, message: str | None
) -> None:
    spec = make_sweep_spec(budget={"trials": 4, "hours": 2, "gpu_hours": 3})

    reason = describe_exhausted_budget(spec, trials=trials, hours=hours, gpu_hours=gpu_hours)

    assert (reason is None) if message is None else (message in (reason or ""))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ([make_suggested(3)], "next trial is 2"),
        ([make_suggested(2), make_suggested(2)], "next trial is 3"),
        ([make_suggested(2, other=1)], "other is not in the space"),
        ([make_judged(0, 1, 0.1)], "trial 0 is not running"),
        ([make_judged(7, 1, 0.1)], "trial 7 is not running"),
        ([make_ended(1), make_ended(1)], "trial 1 is not running"),
        ([SweepClosed(why="tired")], "trial 1 is still running"),
        ([make_ended(1), SweepClosed(why="done"), make_suggested(2)], "closed"),
        (
            [
                SweepExtended(
                    by="me",
                    budget=Budget(),
                    space=make_sweep_spec().space,
                    algorithm=RandomSearch(),
                )
            ],
            "only `tandem extend`",
        ),
    ],
)
def test_a_driver_may_not_write_what_does_not_follow(new: list[SweepEntry], message: str) -> None:
    trials = replay_trials([make_suggested(0), make_suggested(1), make_ended(0)])

    with pytest.raises(EntryRefused, match=message):
        check_entries(new, trials=trials, space=make_sweep_spec().space, closed=False)


def test_what_follows_may_be_written() -> None:
    trials = replay_trials([make_suggested(0)])
    new: list[SweepEntry] = [
        make_suggested(1),
        make_judged(1, 1, 0.2),
        make_ended(1),
        make_ended(0),
        SweepClosed(why="x"),
    ]

    check_entries(new, trials=trials, space=make_sweep_spec().space, closed=False)


def test_an_evaluation_is_of_a_whole_epoch_of_all_repeats() -> None:
    runs = [make_trial_run(2 * STEPS, 0.2, at=20), make_trial_run(2 * STEPS, 0.4, at=33)]

    progress = compute_trial_progress(Trial(0, {}), runs, [MAXIMISE], why=None)

    (evaluation,) = progress.evaluations
    assert evaluation.epoch == 2
    assert evaluation.values[MAP] == pytest.approx(0.3)
    assert progress.result is None


def test_an_epoch_that_one_repeat_has_not_reached_does_not_count() -> None:
    runs = [make_trial_run(STEPS, 0.2, at=20), make_trial_run(2 * STEPS, 0.4, at=20)]

    assert compute_trial_progress(Trial(0, {}), runs, [MAXIMISE], why=None).evaluations == ()


def test_a_value_within_an_epoch_counts_when_the_epoch_is_over() -> None:
    early = make_trial_run(15, 0.2, at=17)
    late = make_trial_run(15, 0.2, at=20)

    assert compute_trial_progress(Trial(0, {}), [early], [MAXIMISE], why=None).evaluations == ()
    assert (
        compute_trial_progress(Trial(0, {}), [late], [MAXIMISE], why=None).evaluations[0].epoch == 2
    )


@pytest.mark.parametrize(
    ("states", "is_stopped", "expected"),
    [
        (["succeeded", "succeeded"], False, "finished"),
        (["succeeded", "running"], False, None),
        (["failed", "succeeded"], False, "failed"),
        (["failed", "running"], False, None),
        (["cancelled", "succeeded"], True, "stopped"),
        (["succeeded", "succeeded"], True, "finished"),
        (["cancelled", "cancelled"], False, "cancelled"),
        (["paused", "succeeded"], False, None),
    ],
)
def test_a_trials_end_follows_from_those_of_its_runs(
    states: list[str], is_stopped: bool, expected: str | None
) -> None:
    trial = Trial(0, {}, (make_judged(0, 1, 0.1, should_continue=not is_stopped),))
    runs = [TrialRun(make_run(state=RunState(state))) for state in states]

    assert compute_trial_progress(trial, runs, [MAXIMISE], why=None).result == expected


def test_a_trial_without_runs_has_failed_or_never_began() -> None:
    assert compute_trial_progress(Trial(0, {}), [], [MAXIMISE], why="no spec").result == "failed"
    assert compute_trial_progress(Trial(0, {}), [], [MAXIMISE], why=None).result == "cancelled"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"space": {CLS: {"kind": "uniform", "low": -1, "high": 1}}}, f"space.{CLS}", "cls_weight"),
        (
            {"space": {"distillation.typo": {"kind": "choice", "values": [1, 2]}}},
            "space.distillation.typo",
            "typo",
        ),
        (
            {"space": {CLS: {"kind": "choice", "values": [1, "much"]}}},
            f"space.{CLS}",
            "= much",
        ),
        (
            {"space": {"ratio": {"kind": "choice", "values": ["a", "b"]}}},
            "space.ratio",
            "float",
        ),
        ({"initial_points": [{CLS: -3}]}, "initial_points.0", "cls_weight"),
        (
            {"scheduler": {"kind": "asha", "grace_epochs": 4}},
            "scheduler.grace_epochs",
            "4 epochs",
        ),
        ({"budget": {"gpu_hours": 1}}, "budget.gpu_hours", "CPU"),
        (
            {
                "space": {
                    CLS: {
                        "kind": "uniform",
                        "low": 1,
                        "high": 2,
                        "when": {"distillation.levels": ["all"]},
                    },
                    "distillation.levels": {"kind": "choice", "values": ["with_positives", "x"]},
                }
            },
            f"space.{CLS}",
            "never exists",
        ),
    ],
)
def test_what_stands_against_a_sweep_names_the_field(
    changes: dict[str, Any], field: str, message: str
) -> None:
    findings = [
        finding
        for finding in sweep_findings(make_sweep_spec(**changes))
        if finding.severity == "error"
    ]

    assert findings[0].field == field
    assert message in findings[0].message


def test_a_conditional_parameter_is_tried_where_it_exists() -> None:
    space = {
        "distillation.method": {"kind": "choice", "values": ["bckd", "pkd"]},
        "distillation.weight": {
            "kind": "loguniform",
            "low": 1,
            "high": 10,
            "when": {"distillation.method": ["pkd"]},
        },
        CLS: {"kind": "uniform", "low": 0, "high": 1, "when": {"distillation.method": ["bckd"]}},
    }

    assert list(sweep_findings(make_sweep_spec(space=space))) == []


def test_a_parameter_that_another_method_does_not_have_is_found() -> None:
    space = {
        "distillation.method": {"kind": "choice", "values": ["bckd", "pkd"]},
        CLS: {"kind": "uniform", "low": 0, "high": 1},
    }

    (finding, *_) = sweep_findings(make_sweep_spec(space=space))

    assert finding.severity == "error"
    assert "pkd" in finding.message


def test_the_ratio_and_the_balance_stand_for_the_weights() -> None:
    space = {
        "ratio": {"kind": "loguniform", "low": 0.1, "high": 10},
        "balance": {"kind": "uniform", "low": 0.1, "high": 0.9},
    }

    assert list(sweep_findings(make_sweep_spec(space=space))) == []


def test_a_grid_that_is_larger_than_the_budget_is_told() -> None:
    space = {
        CLS: {"kind": "uniform", "low": 0, "high": 1},
        LOC: {"kind": "choice", "values": [0, 1, 2]},
    }
    spec = make_sweep_spec(space=space, algorithm=GridSearch(points=4), budget={"trials": 5})

    (finding,) = sweep_findings(spec)

    assert (finding.severity, grid_size(spec.space, 4)) == ("warning", 12)
    assert finding.message == (
        "The grid has 12 points, of which the first 5 are trained; trials: 12 trains all."
    )


def test_a_grid_with_more_points_than_trials_are_possible_is_not_counted_to_its_end() -> None:
    space = {
        f"student.field{number}": {"kind": "uniform", "low": 0, "high": 1} for number in range(16)
    }

    assert grid_size(make_sweep_spec(space=space).space, 64) == 10_001


def test_a_metric_that_no_run_logs_and_a_bracket_that_stops_nothing_are_told() -> None:
    spec = make_sweep_spec(
        objectives=[{"metric": "val/typo"}],
        scheduler={"kind": "hyperband", "grace_epochs": 1, "factor": 2, "brackets": 3},
    )

    findings = list(sweep_findings(spec))

    assert {finding.code for finding in findings} == {"unknown_metric", "bracket_never_stops"}
    assert all(finding.severity == "warning" for finding in findings)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {
                CLS: {"kind": "uniform", "low": 0, "high": 1, "when": {LOC: [5]}},
                LOC: {"kind": "integer", "low": 1, "high": 4},
            },
            "never exists",
        ),
        (
            {
                CLS: {"kind": "uniform", "low": 1, "high": 2, "when": {LOC: [2]}},
                LOC: {"kind": "uniform", "low": 1, "high": 4, "when": {CLS: [2]}},
            },
            "never exists",
        ),
        ({"ratio": {"kind": "uniform", "low": -1, "high": 1}}, "ratio is 0 or more"),
        (
            {
                "ratio": {"kind": "uniform", "low": 1, "high": 2},
                "balance": {"kind": "uniform", "low": 0.5, "high": 2},
            },
            "fraction from 0 to 1",
        ),
    ],
    ids=["outside of its bounds", "two that need each other", "ratio", "balance"],
)
def test_what_can_never_be_a_trial_is_found(space: dict[str, Any], message: str) -> None:
    findings = [
        finding
        for finding in sweep_findings(make_sweep_spec(space=space))
        if finding.severity == "error"
    ]

    assert message in findings[0].message


def test_a_condition_on_a_number_within_its_bounds_can_hold() -> None:
    space = {
        CLS: {"kind": "uniform", "low": 1, "high": 2, "when": {LOC: [2]}},
        LOC: {"kind": "integer", "low": 1, "high": 4},
    }

    assert list(sweep_findings(make_sweep_spec(space=space))) == []
    assert grid_size(make_sweep_spec(space=space).space, 3) == 1 + 3 + 1
    assert grid_size(make_sweep_spec(space=space).space, 5) == 1 + 5 + 1 + 1


def test_more_tags_than_a_run_may_have_are_refused() -> None:
    tags = {f"t{number}": "x" for number in range(32)}

    (finding,) = sweep_findings(make_sweep_spec(base=make_bckd_spec(tags={"mine": "x"}), tags=tags))

    assert finding.field == "tags"


def test_epochs_that_are_swept_count_for_the_scheduler() -> None:
    space = {"schedule.epochs": {"kind": "integer", "low": 2, "high": 8}}
    scheduler = {"kind": "median", "grace_epochs": 3}

    (finding,) = sweep_findings(make_sweep_spec(space=space, scheduler=scheduler))

    assert finding.field == "scheduler.grace_epochs"
    assert "2 epochs" in finding.message


def test_values_are_told_in_one_line() -> None:
    assert format_values({CLS: 0.123456, LOC: 2}) == f"{CLS}=0.1235, {LOC}=2"
    assert format_values({}) == "the values of the base"
