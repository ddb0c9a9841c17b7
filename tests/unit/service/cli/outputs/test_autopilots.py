"""Output of autopilots and their decisions."""

from collections.abc import Mapping

import pytest

from service.api.schemas.autopilots import AutopilotLaunchRequest, AutopilotPage, DecisionPage
from service.api.schemas.sweeps import SweepPage
from service.domain.autopilot.autopilots import AutopilotPhase
from tests.support.autopilot.views import (
    make_autopilot_view,
    make_decision_views,
    make_finished_autopilot_view,
)
from tests.support.cli.canned_api import Answer, Body
from tests.support.cli.outputs import CommandLine

AUTOPILOT = make_autopilot_view()
FINISHED = make_finished_autopilot_view()
DECISIONS = make_decision_views()
PATH = f"/v1/autopilots/{AUTOPILOT.id}"
LIST: Mapping[str, Answer] = {
    "GET /v1/autopilots": AutopilotPage(items=[AUTOPILOT], next_cursor=None),
    "GET /v1/sweeps": SweepPage(items=[], next_cursor=None),
}
DECISION_PAGE = {f"GET {PATH}/decisions": DecisionPage(items=DECISIONS, next_cursor=None)}
DETAILS: Mapping[str, Answer] = {**LIST, f"GET {PATH}": AUTOPILOT}
LAUNCH = ("autopilot", "cells", "--data", "digits", "--budget", "6h")


def test_an_autopilot_is_launched_and_followed_to_its_end(command_line: CommandLine) -> None:
    api = {"POST /v1/autopilots": AUTOPILOT, f"GET {PATH}": FINISHED, **DECISION_PAGE}

    command_line.check("autopilot", *LAUNCH, api=api)

    assert command_line.read_json(*LAUNCH, api=api)["id"] == AUTOPILOT.id


def test_a_plan_is_shown_after_the_probes(command_line: CommandLine) -> None:
    planned = make_autopilot_view(desired="pause", notes=["resnet50 is left out: it is slow."])
    api = {"POST /v1/autopilots": planned, f"GET {PATH}": planned}

    command_line.check("autopilot_plan", *LAUNCH, "--plan", api=api)

    assert command_line.read_json(*LAUNCH, "--plan", api=api)["plan"]["pairs"] == 12


def test_the_options_become_the_request(command_line: CommandLine) -> None:
    requests: list[AutopilotLaunchRequest] = []

    def answer(body: bytes) -> Body:
        requests.append(AutopilotLaunchRequest.model_validate_json(body))
        return AUTOPILOT

    options = ("--students", "resnet18, resnet34", "--latency", "20ms", "--teacher", "auto")
    api: Mapping[str, Answer] = {"POST /v1/autopilots": answer}
    command_line.read_json(*LAUNCH, *options, "schedule.epochs=24", api=api)
    command_line.read_json(*LAUNCH, api=api)

    first, second = requests
    assert (first.name, first.preset, first.changes) == (
        "cells",
        second.preset,
        {"schedule.epochs": 24},
    )
    assert (first.students, first.max_latency_ms) == (["resnet18", "resnet34"], 20.0)
    assert (first.budget.hours, first.teachers, second.teachers) == (6.0, "auto", None)
    assert second.preset is not None
    assert second.preset.startswith("digits/")


def test_an_autopilot_without_a_plan_fails_with_the_reason(command_line: CommandLine) -> None:
    failed = make_autopilot_view(
        AutopilotPhase.FAILED, plan=None, stages=[], message="resnet18 is left out: no memory."
    )
    api = {"POST /v1/autopilots": failed, f"GET {PATH}": failed}

    output = command_line.run(*LAUNCH, "--plan", api=api)

    assert output.exit_code == 1
    assert "resnet18 is left out: no memory." in output.text


@pytest.mark.parametrize("budget", ["6", "h", "1.2.3h", "0h", "12gpu", "price:", "price:0", "-1h"])
def test_an_invalid_budget_is_refused_with_those_that_are_accepted(
    command_line: CommandLine, budget: str
) -> None:
    output = command_line.run(*LAUNCH[:4], f"--budget={budget}")

    assert output.exit_code == 1
    assert "6h or 90min" in output.text
    assert "price:25" in output.text


def test_autopilots_and_decisions(command_line: CommandLine) -> None:
    api = {**LIST, **DECISION_PAGE}

    command_line.check("autopilots", "autopilots", api=api)
    command_line.check("decisions", "decisions", "a0", api=api)

    assert command_line.read_json("autopilots", api=api)[0]["budget"]["hours"] == 6.0
    assert len(command_line.read_json("decisions", "a0", api=api)) == len(DECISIONS)


def test_an_autopilot_is_shown(command_line: CommandLine) -> None:
    command_line.check("show_autopilot", "show", "a0", api={**LIST, f"GET {PATH}": FINISHED})


def test_actions_on_an_autopilot(command_line: CommandLine) -> None:
    paused = make_autopilot_view(desired="pause")
    stopping = make_autopilot_view(desired="stop")
    for action, view in (("pause", paused), ("resume", AUTOPILOT), ("stop", stopping)):
        api = {**DETAILS, f"POST {PATH}:{action}": view}
        command_line.check(f"{action}_autopilot", action, "a0", api=api)
    api = {**DETAILS, f"POST {PATH}:extend": AUTOPILOT}

    command_line.check("extend_autopilot", "extend", "a0", "--budget", "2h", api=api)
    refused = command_line.run("extend", "a0", "--trials", "3", api=api)
    of_a_sweep = command_line.run("extend", "s0", "--budget", "2h", api=api)

    assert (refused.exit_code, of_a_sweep.exit_code) == (1, 1)
    assert "--budget alone" in refused.text
    assert "--budget is for autopilots" in of_a_sweep.text


def test_an_unknown_autopilot_is_explained(command_line: CommandLine) -> None:
    api = {"GET /v1/autopilots": AutopilotPage(items=[], next_cursor=None)}

    output = command_line.run("show", "azz", api=api)

    assert output.exit_code == 1
    assert "No autopilot's id starts with 'azz'" in output.text
