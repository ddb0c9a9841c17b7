"""What is killed, repeated, canceled, extended or too expensive."""

import json
import random
from dataclasses import dataclass, replace

import pytest

from service.domain.autopilot.budget import measure_stage_costs, time_to_spend_s
from service.domain.autopilot.decide import decide_next
from service.domain.autopilot.history import (
    AutopilotCancellation,
    AutopilotHistory,
    BudgetExtension,
    Conclusion,
    RunLaunch,
    RunStop,
)
from service.domain.autopilot.plan import plan_stages
from service.domain.autopilot.state import add_decisions, replay_history
from tests.support.autopilot.trainer import (
    SimulatedTrainer,
    advance_history,
    run_autopilot,
    settle,
)
from tests.support.autopilot.worlds import draw_world, make_request, run_cost_s


def histories_of(trainer: SimulatedTrainer) -> list[AutopilotHistory]:
    """The history after each report."""
    histories = [settle(trainer, AutopilotHistory())]
    while not isinstance(histories[-1].entries[-1], Conclusion):
        histories.append(advance_history(trainer, histories[-1]))
    return histories


def test_a_settled_history_has_no_further_decision_and_survives_storage() -> None:
    request = make_request()

    histories = histories_of(SimulatedTrainer(draw_world(3), request, reports_every_epoch=True))

    assert len(histories) > 20
    for history in histories:
        stored = AutopilotHistory.model_validate(json.loads(history.model_dump_json()))
        assert stored == history
        assert decide_next(request, stored) == ()


def test_a_service_that_is_killed_before_it_stores_its_answer_gets_the_same_one() -> None:
    request, world = make_request(), draw_world(3)
    complete = run_autopilot(SimulatedTrainer(world, request))
    outcomes = {outcome.key: outcome for outcome in complete.outcomes}
    history = AutopilotHistory()

    for _ in range(3):
        first = decide_next(request, history)
        assert first == decide_next(request, history)
        history = add_decisions(history, first)
        finished = [outcomes[entry.key] for entry in first if isinstance(entry, RunLaunch)]
        history = add_decisions(history, outcomes=finished)

    assert history.entries == complete.entries[: len(history.entries)]


def test_a_service_that_is_killed_before_it_acts_creates_the_runs_that_are_missing() -> None:
    request, world = make_request(), draw_world(3)
    trainer, history = SimulatedTrainer(world, request), AutopilotHistory()

    while not (history.entries and isinstance(history.entries[-1], Conclusion)):
        history = add_decisions(history, decide_next(request, history))
        missing = [entry for entry in history.entries if not is_done(trainer, entry)]
        for entry in missing:  # by the next process, which has only read the history
            trainer.apply(entry)
        reports = () if missing else trainer.advance()
        history = add_decisions(history, outcomes=reports)

    assert history.entries == run_autopilot(SimulatedTrainer(world, request)).entries


def is_done(trainer: SimulatedTrainer, entry: object) -> bool:
    if isinstance(entry, RunLaunch):
        return entry.key in trainer.launches
    return not isinstance(entry, RunStop) or trainer.outcomes[entry.key].state == "stopped"


@pytest.mark.parametrize("number", range(6))
def test_the_budget_is_kept(number: int) -> None:
    """Within a report of a pack: the costs of what trains between two reports are not seen."""
    request = make_request(budget_s=25 * run_cost_s())
    trainer = SimulatedTrainer(draw_world(number), request)

    history = run_autopilot(trainer)

    spent_s = sum(outcome.spent_s for outcome in history.outcomes)
    assert spent_s <= request.budget_s
    assert time_to_spend_s(request, history) == pytest.approx(request.budget_s - spent_s)


def test_runs_that_cost_more_than_planned_are_stopped_with_what_they_have() -> None:
    request = make_request(budget_s=30 * run_cost_s())
    trainer = SimulatedTrainer(draw_world(3), request, cost_factor=2.5, reports_every_epoch=True)

    history = run_autopilot(trainer)

    state = replay_history(history)
    assert state.conclusion is not None
    assert state.conclusion.result == "out_of_budget"
    assert state.conclusion.run is not None
    assert not any(map(state.is_live, state.launches.values()))
    costs = {cost.stage: cost for cost in measure_stage_costs(history)}
    assert costs["noise_floor"].spent_s == pytest.approx(2.5 * costs["noise_floor"].planned_s)


@pytest.mark.parametrize(
    ("units", "cost_factor", "stage"),
    [(30, 8.0, "noise_floor"), (40, 3.0, "screening"), (46, 2.0, "confirmation")],
)
def test_an_extended_autopilot_continues_its_runs_and_decides(
    units: int, cost_factor: float, stage: str
) -> None:
    request = make_request(budget_s=units * run_cost_s())
    world = replace(draw_world(3), best_octave=0.0, curvature=1.0)
    trainer = SimulatedTrainer(world, request, cost_factor=cost_factor, reports_every_epoch=True)
    stopped = run_autopilot(trainer)
    assert {stop.reason for stop in replay_history(stopped).stops.values()} >= {"out_of_budget"}

    extended = add_decisions(stopped, [BudgetExtension(budget_s=40.0 * request.budget_s)])
    history = run_autopilot(trainer, extended)

    state = replay_history(history)
    assert state.conclusion is not None
    assert state.conclusion.result in ("gain_confirmed", "no_gain_confirmed", "nothing_screened")
    continued = [run for run in trainer.launches.values() if run.continues is not None]
    assert {run.stage for run in continued} == {stage}
    assert {run.continues for run in continued} <= set(trainer.launches)


def test_a_canceled_autopilot_stops_its_runs_and_claims_nothing() -> None:
    request = make_request()
    trainer = SimulatedTrainer(draw_world(3), request, reports_every_epoch=True)
    running = histories_of(trainer)[12]

    history = add_decisions(running, [AutopilotCancellation()])
    history = add_decisions(history, decide_next(request, history))

    state = replay_history(history)
    assert state.conclusion is not None
    assert state.conclusion.result == "canceled"
    assert not state.conclusion.claims_gain
    assert not any(map(state.is_live, state.launches.values()))
    assert decide_next(request, history) == ()


def test_a_budget_that_pays_for_no_result_is_not_spent() -> None:
    request = make_request(budget_s=10 * run_cost_s())

    (conclusion,) = decide_next(request, AutopilotHistory())

    assert isinstance(conclusion, Conclusion)
    assert (conclusion.result, conclusion.run) == ("out_of_budget", None)
    assert plan_stages(request).advice[0] in conclusion.message


@dataclass(frozen=True)
class RandomFailures:
    """Contains a share of all keys of runs."""

    number: int
    share: float

    def __contains__(self, key: object) -> bool:
        return random.Random(f"{self.number}/{key}").random() < self.share


@pytest.mark.parametrize("number", range(24))
def test_whatever_fails_it_ends_with_complete_runs_and_none_that_train(number: int) -> None:
    draw = random.Random(number)
    request = make_request(
        budget_s=draw.choice([15, 25, 40, 80]) * run_cost_s(),
        pack_size=draw.choice([1, 3, 8]),
        finalists=draw.choice([1, 2, 3]),
        every_epochs=draw.choice([1, 2, 4]),
    )
    trainer = SimulatedTrainer(
        draw_world(number),
        request,
        order=draw,
        cost_factor=draw.choice([0.5, 1.0, 2.0]),
        failing=RandomFailures(number, draw.choice([0.05, 0.2, 0.5])),
    )

    history = run_autopilot(trainer)

    state = replay_history(history)
    launches = [entry for entry in history.entries if isinstance(entry, RunLaunch)]
    assert len({launch.key for launch in launches}) == len(launches)
    assert not any(map(state.is_live, launches))
    assert state.conclusion is not None
    if state.conclusion.run is not None:
        assert trainer.outcomes[state.conclusion.run].state == "succeeded"
    if state.conclusion.claims_gain:
        assert state.conclusion.gains[state.conclusion.arm or ""].pairs >= 3
