"""The plan before anything is spent."""

import pytest
from pydantic import ValidationError

from service.domain.autopilot.budget import measure_stage_costs
from service.domain.autopilot.halving import list_rungs
from service.domain.autopilot.plan import plan_stages
from service.domain.autopilot.request import AutopilotRequest, MethodOption
from tests.support.autopilot.trainer import SimulatedTrainer, run_autopilot
from tests.support.autopilot.worlds import draw_world, make_request, run_cost_s


def test_the_plan_fits_the_budget_and_screens_what_it_pays_for() -> None:
    pairs, methods = [], []
    for units in (20, 25, 30, 40, 60):
        plan = plan_stages(make_request(budget_s=units * run_cost_s()))
        assert plan.total_s <= units * run_cost_s()
        assert plan.is_affordable
        pairs.append(plan.pairs)
        methods.append(plan.methods)

    assert pairs[1:] == sorted(pairs[1:])  # the first has fewer finalists
    assert methods == sorted(methods)
    assert methods[0] < methods[-1] == len(make_request().methods)


def test_a_small_budget_screens_the_first_methods_and_names_the_others() -> None:
    request = make_request(budget_s=20 * run_cost_s())

    plan = plan_stages(request)

    unscreened = request.methods[plan.methods]
    assert any(unscreened.name in sentence for sentence in plan.advice)
    # Student's t of two degrees of freedom at 1 % is 6.96, over the root of three pairs.
    assert plan.pairs == 3
    assert "4.0 times the deviation" in plan.advice[-1]


def test_the_advice_for_a_budget_that_is_too_small_is_enough() -> None:
    request = make_request(budget_s=10 * run_cost_s())

    plan = plan_stages(request)

    assert not plan.is_affordable
    amount, unit = plan.advice[0].split("needs about ")[1].split(" ")[:2]
    needed_s = float(amount) * {"h": 3600.0, "min": 60.0}[unit]
    assert plan_stages(make_request(budget_s=needed_s)).is_affordable


def test_planned_costs_are_those_that_a_trainer_has() -> None:
    request = make_request()

    history = run_autopilot(SimulatedTrainer(draw_world(3), request))

    planned = {stage.stage: stage.cost_s for stage in plan_stages(request).stages}
    costs = {cost.stage: cost for cost in measure_stage_costs(history)}
    for stage in ("teacher", "noise_floor"):
        assert costs[stage].spent_s == pytest.approx(planned[stage])
    assert costs["confirmation"].spent_s == pytest.approx(costs["confirmation"].planned_s)
    assert costs["screening"].spent_s == pytest.approx(planned["screening"], rel=0.3)


@pytest.mark.parametrize(
    ("epochs", "every", "rungs"),
    [(12, 1, (3, 6)), (12, 4, (4, 8)), (12, 6, (6,)), (2, 1, (1,)), (1, 1, ())],
)
def test_rungs_are_epochs_of_evaluations(epochs: int, every: int, rungs: tuple[int, ...]) -> None:
    assert list_rungs(make_request(epochs=epochs, every_epochs=every)) == rungs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": [MethodOption(name="pkd", values={"distillation.method": "pkd"})] * 2}, "pkd"),
        ({"teachers": []}, "teachers"),
        ({"finalists": 4}, "finalists"),
        ({"screening_share": 1.0}, "screening_share"),
        ({"epoch": 12}, "epoch"),
    ],
)
def test_a_request_without_meaning_is_refused(changes: dict[str, object], message: str) -> None:
    document = make_request().model_dump() | changes

    with pytest.raises(ValidationError, match=message):
        AutopilotRequest.model_validate(document)
