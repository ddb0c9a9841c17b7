"""Autopilots: probes, stages, delivery, and what a person or a kill does in between."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from configs.spec.autopilot import AutopilotBudget
from configs.spec.jobs import EvaluationSpec, ExportSpec, ReportSpec
from configs.spec.references import RunTeacher
from configs.spec.run import RunSpec
from configs.spec.students import choose_teacher_backbone
from service.domain.access import LOCAL_CALLER
from service.domain.autopilot.autopilots import AutopilotActionRefused, AutopilotPhase
from service.domain.autopilot.decide import decide_next
from service.domain.autopilot.history import AutopilotCancellation, RunLaunch, StageEnd
from service.domain.errors.requests import SpecRefused
from service.domain.estimates import Prices
from service.domain.repositories.runs import RunFilter
from service.domain.states import RunState
from service.usecases.autopilots.actions import (
    extend_autopilot,
    pause_autopilot,
    resume_autopilot,
    stop_autopilot,
)
from service.usecases.autopilots.outcomes import share_time
from service.usecases.runs.plan import LaunchRun
from tests.support.factories import make_bckd_spec, make_manifest
from tests.support.service.simulated_autopilot import (
    COSTS,
    TURN_S,
    SimulatedAutopilot,
    launch_simulated,
)
from tests.support.service.stage import SLOW_ON_POSTGRESQL, Stage

ENDS = (AutopilotPhase.SUCCEEDED, AutopilotPhase.FAILED, AutopilotPhase.STOPPED)
SEARCHING = AutopilotPhase.SEARCHING


def advance_to_stage(autopilot: SimulatedAutopilot, name: str) -> None:
    """Take turns until a run of a stage has trained an epoch."""
    for _ in range(200):
        if any(run.results.progress for key, run in autopilot.runs.items() if key.startswith(name)):
            return
        autopilot.turn()
    raise AssertionError(f"no run of {name} trains")


def live_runs(autopilot: SimulatedAutopilot) -> list[str]:
    return [key for key, run in autopilot.runs.items() if not run.is_over]


@SLOW_ON_POSTGRESQL
def test_the_best_method_is_confirmed_and_delivered(any_stage: Stage) -> None:
    autopilot = launch_simulated(any_stage)

    autopilot.advance_to(*ENDS)

    assert autopilot.phase is AutopilotPhase.SUCCEEDED, autopilot.autopilot.message
    conclusion = autopilot.conclusion
    assert conclusion.result == "gain_confirmed"
    assert (conclusion.arm or "").startswith("bckd")
    ends = [entry.stage for entry in autopilot.history.entries if isinstance(entry, StageEnd)]
    assert ends == ["teacher", "learning_rate", "noise_floor", "screening", "confirmation"]
    delivered = autopilot.runs[conclusion.run or ""]
    export = autopilot.runs[f"export.{conclusion.run}"].spec
    assert isinstance(export, ExportSpec)
    assert export.model == RunTeacher(run=delivered.id)
    evaluated = {
        run.spec.model
        for key, run in autopilot.runs.items()
        if key.startswith("evaluation.") and isinstance(run.spec, EvaluationSpec)
    }
    assert RunTeacher(run=delivered.id) in evaluated
    assert len(evaluated) == 2  # and the student alone
    check_seeds(autopilot)
    check_report(autopilot)


def check_seeds(autopilot: SimulatedAutopilot) -> None:
    """What is claimed comes from seeds that no other stage has used."""
    launches = [entry for entry in autopilot.history.entries if isinstance(entry, RunLaunch)]
    confirmed = {launch.seed for launch in launches if launch.stage == "confirmation"}
    earlier = {launch.seed for launch in launches if launch.stage != "confirmation"}
    assert confirmed.isdisjoint(earlier)


def check_report(autopilot: SimulatedAutopilot) -> None:
    """One report compares all pairs of the winner; the runs that did not win have none."""
    report = autopilot.runs[f"report.{autopilot.conclusion.run}"]
    confirmed = {k: run for k, run in autopilot.runs.items() if k.startswith("confirmation.")}
    assert isinstance(report.spec, ReportSpec)
    assert report.spec.run == confirmed[autopilot.conclusion.run or ""].id
    compared = {run.lineage.baseline_run_id for run in confirmed.values()} - {None}
    pairs = autopilot.conclusion.gains[autopilot.conclusion.arm or ""].pairs
    assert len(compared) == pairs
    assert {run.lineage.report_run_id for run in confirmed.values()} == {None, report.id}
    with autopilot.stage.ctx.store.snapshot() as uow:
        reports = uow.runs.page(RunFilter(tasks=("report",)))
    assert [run.id for run in reports] == [report.id]


@pytest.mark.slow
def test_without_a_gain_the_student_alone_is_delivered(stage: Stage) -> None:
    autopilot = launch_simulated(stage)
    autopilot.gains = {"bckd": -0.05, "cwd": -0.02}

    autopilot.advance_to(*ENDS)

    assert autopilot.phase is AutopilotPhase.SUCCEEDED, autopilot.autopilot.message
    assert autopilot.conclusion.arm == "student-only"
    assert not autopilot.conclusion.claims_gain


def test_a_service_that_is_replaced_at_every_turn_decides_the_same(stage: Stage) -> None:
    autopilot = launch_simulated(stage, budget=AutopilotBudget(hours=2.0))

    while autopilot.phase not in ENDS:
        autopilot.turn()
        stage.restart()

    launches = [entry for entry in autopilot.history.entries if isinstance(entry, RunLaunch)]
    keys = [launch.key for launch in launches]
    assert len(set(keys)) == len(keys)
    run_ids = [autopilot.runs[key].id for key in keys]
    assert len(set(run_ids)) == len(run_ids)
    assert autopilot.conclusion.result == "gain_confirmed"


def test_decisions_of_a_service_that_was_killed_before_acting_are_acted_on(stage: Stage) -> None:
    autopilot = launch_simulated(stage)
    autopilot.advance_to(SEARCHING)
    request = autopilot.autopilot.request
    assert request is not None
    decisions = decide_next(request, autopilot.history)
    with stage.ctx.store.transaction() as uow:
        uow.autopilots.append(autopilot.id, decisions, first=0)

    autopilot.turn()

    assert autopilot.history.entries == decisions
    assert "teacher.big.0" in autopilot.runs


def test_a_paused_autopilot_pauses_its_runs_and_its_clock(stage: Stage) -> None:
    autopilot = launch_simulated(stage)
    advance_to_stage(autopilot, "learning_rate")
    live = live_runs(autopilot)

    pause_autopilot(autopilot.id, caller=LOCAL_CALLER, ctx=stage.ctx)
    before_s = autopilot.autopilot.elapsed_s(stage.clock.now())
    for _ in range(5):
        autopilot.turn()

    assert live
    run_ids = {autopilot.runs[key].id for key in live}
    with stage.ctx.store.snapshot() as uow:
        assert uow.retention.find_referenced(run_ids) >= run_ids
    assert {autopilot.runs[key].state for key in live} == {RunState.PAUSED}
    assert autopilot.autopilot.elapsed_s(stage.clock.now()) == before_s

    resume_autopilot(autopilot.id, caller=LOCAL_CALLER, ctx=stage.ctx)
    autopilot.turn()
    autopilot.turn()
    assert autopilot.autopilot.elapsed_s(stage.clock.now()) == before_s + 2 * TURN_S
    assert {autopilot.runs[key].desired for key in live} == {"run"}


def test_a_stopped_autopilot_cancels_its_runs(stage: Stage) -> None:
    autopilot = launch_simulated(stage)
    advance_to_stage(autopilot, "learning_rate")

    stop_autopilot(autopilot.id, caller=LOCAL_CALLER, ctx=stage.ctx)
    autopilot.advance_to(*ENDS)
    autopilot.turn()

    assert autopilot.phase is AutopilotPhase.STOPPED
    assert AutopilotCancellation() in autopilot.history.entries
    autopilot.turn()
    assert live_runs(autopilot) == []
    with pytest.raises(AutopilotActionRefused):
        resume_autopilot(autopilot.id, caller=LOCAL_CALLER, ctx=stage.ctx)


def test_probes_are_cancelled_with_their_autopilot(stage: Stage) -> None:
    autopilot = launch_simulated(stage)
    stage.run_loops()

    stop_autopilot(autopilot.id, caller=LOCAL_CALLER, ctx=stage.ctx)

    assert autopilot.phase is AutopilotPhase.STOPPED
    assert autopilot.runs["probe.resnet18"].desired == "cancelled"


def test_at_the_deadline_runs_stop_and_an_extension_continues_them(stage: Stage) -> None:
    autopilot = launch_simulated(stage, budget=AutopilotBudget(hours=1.0))
    advance_to_stage(autopilot, "screening")
    interrupted = live_runs(autopilot)
    stage.clock.advance(3600.0)
    autopilot.advance_to(*ENDS)

    assert autopilot.autopilot.message.startswith("The hours of the budget are over.")
    assert autopilot.phase is AutopilotPhase.SUCCEEDED, autopilot.autopilot.message
    assert {autopilot.runs[key].state for key in interrupted} == {RunState.CANCELLED}

    spent_s = sum(outcome.spent_s for outcome in autopilot.history.outcomes)
    extend_autopilot(autopilot.id, AutopilotBudget(hours=2.0), ctx=stage.ctx)
    assert autopilot.phase is SEARCHING
    autopilot.advance_to(*ENDS)

    assert autopilot.conclusion.result == "gain_confirmed"
    runs, outcomes = autopilot.runs, {o.key: o for o in autopilot.history.outcomes}
    continued = [key for key in interrupted if f"{key}+" in runs]
    assert continued
    assert all(runs[key].id == runs[f"{key}+"].id for key in continued)
    before_s = sum(outcomes[key].spent_s for key in outcomes if not key.endswith("+"))
    assert before_s >= spent_s


def test_a_plan_can_be_looked_at_before_anything_is_spent(stage: Stage) -> None:
    autopilot = launch_simulated(stage, is_paused=True)
    autopilot.advance_to(SEARCHING)
    for _ in range(3):
        autopilot.turn()

    assert autopilot.runs.keys() == {"probe.resnet18"}
    assert autopilot.autopilot.request is not None

    resume_autopilot(autopilot.id, caller=LOCAL_CALLER, ctx=stage.ctx)
    autopilot.turn()
    assert "teacher.big.0" in autopilot.runs


def test_a_budget_that_pays_for_no_result_ends_with_advice(stage: Stage) -> None:
    autopilot = launch_simulated(stage, budget=AutopilotBudget(hours=0.02))

    autopilot.advance_to(*ENDS)

    assert autopilot.phase is AutopilotPhase.FAILED
    assert "does not pay for a confirmed result" in autopilot.autopilot.message
    assert autopilot.runs.keys() == {"probe.resnet18"}


def test_students_that_are_too_slow_are_not_trained(stage: Stage) -> None:
    autopilot = launch_simulated(stage, max_latency_ms=5.0)

    autopilot.advance_to(*ENDS)

    assert autopilot.phase is AutopilotPhase.FAILED
    assert autopilot.autopilot.message == (
        "resnet18 is left out: its latency is 12.0 ms on cpu, and at most 5 ms are allowed."
    )


def test_a_student_within_the_latency_is_trained(stage: Stage) -> None:
    autopilot = launch_simulated(stage, max_latency_ms=1000.0 * (COSTS.latency_s or 0.0))

    autopilot.advance_to(SEARCHING)

    assert autopilot.autopilot.notes == ()


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"budget": AutopilotBudget(gpu_hours=1.0)}, "budget.gpu_hours", "num_gpus is 0"),
        ({"budget": AutopilotBudget(price=5.0)}, "budget.price", "TANDEM_CPU_HOUR_PRICE"),
        ({"teachers": ("huge",)}, "teachers", "No teacher is called 'huge'"),
        ({"trained_teachers": ("resnet18",)}, "trained_teachers", "student"),
        ({"students": ("resnet19",)}, "students", "resnet18"),
        ({"methods": ("bkcd",)}, "methods", "bckd"),
        ({"students": ("resnet18", "resnet18")}, "students", "only once"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_spent(
    stage: Stage, changes: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(SpecRefused) as refused:
        launch_simulated(stage, **changes)

    (problem,) = refused.value.field_errors
    assert (problem.field, message in problem.message) == (field, True), problem
    with stage.ctx.store.snapshot() as uow:
        assert uow.autopilots.in_phases(*AutopilotPhase) == []


def test_auto_takes_the_teachers_with_the_classes_of_the_dataset(stage: Stage) -> None:
    stage.add_teacher("other", classes=("bird",))

    autopilot = launch_simulated(stage, teachers="auto")

    assert autopilot.autopilot.spec.teachers == ("big",)


def test_without_a_registered_teacher_a_larger_detector_is_trained(stage: Stage) -> None:
    autopilot = launch_simulated(stage, teachers=(), trained_teachers=("resnet50",))
    autopilot.advance_to(SEARCHING)
    request = autopilot.autopilot.request
    assert request is not None
    (option,) = request.teachers
    assert (option.name, option.values["student.backbone.depth"]) == ("resnet50", 50)
    assert request.students[0].costs.teacher_s > 0

    advance_to_stage(autopilot, "screening")

    teacher = autopilot.runs["teacher.resnet50.0"]
    assert isinstance(teacher.spec, RunSpec)
    assert (teacher.spec.teacher, teacher.state) == (None, RunState.SUCCEEDED)
    distilled = {
        run.spec.teacher
        for key, run in autopilot.runs.items()
        if key.startswith("screening.") and isinstance(run.spec, RunSpec) and run.spec.teacher
    }
    assert distilled == {RunTeacher(run=teacher.id)}


@pytest.mark.parametrize(
    ("students", "expected"),
    [
        (("efficientnet_lite0",), "resnet50"),
        (("resnet18", "resnet50"), "resnet101"),
        (("resnet101",), "resnet152"),
    ],
)
def test_the_trained_teacher_is_larger_than_the_students(
    students: tuple[str, ...], expected: str
) -> None:
    assert choose_teacher_backbone(students) == expected


def test_auto_trains_a_teacher_where_none_knows_the_classes(stage: Stage) -> None:
    stage.add_dataset("birds", make_manifest(name="birds", classes=("bird",)))
    spec = make_bckd_spec()
    base = LaunchRun(spec=spec | {"data": spec["data"] | {"dataset": {"name": "birds"}}})

    autopilot = launch_simulated(stage, base=base, teachers="auto")

    stored = autopilot.autopilot.spec
    assert (stored.teachers, stored.trained_teachers) == ((), ("resnet50",))


def test_another_schedule_is_tried_with_the_best_learning_rate(stage: Stage) -> None:
    schedule = {"schedule.optimizer.weight_decay": 0.01}
    autopilot = launch_simulated(stage, schedules=(schedule,))

    advance_to_stage(autopilot, "noise_floor")

    key = "learning_rate.resnet18, lr 0.01, schedule 1.1"
    spec = autopilot.runs[key].spec
    assert isinstance(spec, RunSpec)
    assert (spec.schedule.optimizer.weight_decay, spec.schedule.optimizer.lr) == (0.01, 0.01)


def test_the_budget_is_extended_in_its_own_unit(stage: Stage) -> None:
    autopilot = launch_simulated(stage)
    autopilot.advance_to(SEARCHING)

    with pytest.raises(SpecRefused, match="in hours"):
        extend_autopilot(autopilot.id, AutopilotBudget(gpu_hours=1.0), ctx=stage.ctx)


def test_a_price_is_spent_by_the_price_of_an_hour(stage: Stage) -> None:
    ctx = stage.ctx
    prices = Prices(gpu_hour=None, cpu_hour=2.0)
    stage.app.state.ctx = replace(ctx, policy=replace(ctx.policy, prices=prices))
    stage.restart()
    autopilot = launch_simulated(stage, budget=AutopilotBudget(price=3.0))

    autopilot.advance_to(SEARCHING)

    request = autopilot.autopilot.request
    assert request is not None
    assert request.budget_s == 1.5 * 3600.0


def test_members_of_a_pack_share_its_time() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    spans = [(start, start + timedelta(seconds=seconds)) for seconds in (10, 30)]

    assert share_time(spans) == [5.0, 25.0]


def test_what_runs_are_warned_of_is_noted_at_the_launch(stage: Stage) -> None:
    stage.cluster.is_reachable = False

    autopilot = launch_simulated(stage)

    assert autopilot.autopilot.notes == ("Ray does not answer, so resources were not checked.",)
