"""Output of sweeps and their trials."""

from collections.abc import Mapping

from service.api.schemas.runs import FindingView
from service.api.schemas.sweeps import BestView, EstimateView, SweepPage, SweepPlanView, TrialPage
from service.domain.states import RunState
from service.domain.sweeps import SweepState
from tests.support.cli.canned_api import Answer
from tests.support.cli.outputs import CommandLine
from tests.support.cli.runs import ESTIMATE
from tests.support.service.run_views import make_run_view
from tests.support.service.sweep_views import CLS, MAP, make_sweep_view, make_trial_view

SWEEP = make_sweep_view(
    SweepState.SUCCEEDED,
    name="weights of both losses on the digits with the shipped teacher",
    best=BestView(trial=1, values={CLS: 2.5}, objective=0.4125),
    estimate=EstimateView(
        hours=1.5, gpu_hours=1.5, cpu_hours=12.0, separate_hours=3.0, saved=0.5, price=None
    ),
    pack_size=4,
    mlflow_url="http://127.0.0.1:5500/#/experiments/1/runs/0123456789abcdef0123456789abcdef",
)
TRIALS = [
    make_trial_view(0, state="stopped", objectives={MAP: -1.0}),
    make_trial_view(1, state="finished", values={CLS: 2.5}, epoch=12),
    make_trial_view(2, state="failed", objectives={}, epoch=0, message="The teacher is gone."),
]
SWEEP_LIST: Mapping[str, Answer] = {"GET /v1/sweeps": SweepPage(items=[SWEEP], next_cursor=None)}
SWEEP_DETAILS: Mapping[str, Answer] = {
    **SWEEP_LIST,
    f"GET /v1/sweeps/{SWEEP.id}": SWEEP,
    f"GET /v1/sweeps/{SWEEP.id}/trials": TrialPage(items=TRIALS, next_cursor=None),
}
SPACE = ("digits/bckd", f"{CLS}=loguniform:0.25,4")


def test_sweeps(command_line: CommandLine) -> None:
    command_line.check("sweeps", "sweeps", api=SWEEP_LIST)

    assert command_line.read_json("sweeps", api=SWEEP_LIST)[0]["best"]["objective"] == 0.4125


def test_trials(command_line: CommandLine) -> None:
    command_line.check("trials", "trials", "s0", api=SWEEP_DETAILS)

    assert len(command_line.read_json("trials", "s0", api=SWEEP_DETAILS)["trial_details"]) == len(
        TRIALS
    )


def test_a_plan_begins_with_trials_and_findings(command_line: CommandLine) -> None:
    finding = FindingView(
        severity="warning",
        field="scheduler",
        code="short_rungs",
        message="The first rung of asha compares trials after one epoch, where all are alike.",
    )
    plan = SweepPlanView(
        spec=SWEEP.spec,
        findings=[finding],
        waiting_for="a node with 2 CPUs",
        trials=32,
        runs=64,
        run_estimate=ESTIMATE,
    )
    api = {"POST /v1/sweeps:plan": plan}

    command_line.check("sweep_plan", "sweep", *SPACE, "--plan", api=api)

    assert "space:" not in command_line.run("sweep", *SPACE, "--plan", api=api).text
    assert "space:" in command_line.run("sweep", *SPACE, "--plan", "--spec", api=api).text
    assert command_line.read_json("sweep", *SPACE, "--plan", api=api)["runs"] == 64


def test_a_sweep_is_launched_and_watched(command_line: CommandLine) -> None:
    api = {**SWEEP_DETAILS, "POST /v1/sweeps": SWEEP}

    command_line.check("sweep", "sweep", *SPACE, api=api)
    command_line.check("sweep_watch", "sweep", *SPACE, "--watch", api=api)

    assert command_line.read_json("sweep", *SPACE, api=api)["id"] == SWEEP.id


def test_progress_and_json_exclude_each_other(command_line: CommandLine) -> None:
    output = command_line.run("sweep", *SPACE, "--watch", "--json")

    assert output.exit_code == 1
    assert "leave out" in output.text


def test_actions_on_a_sweep(command_line: CommandLine) -> None:
    run = make_run_view(RunState.QUEUED, name="best of the sweep")
    stopping = make_sweep_view(SweepState.SEARCHING)
    path = f"POST /v1/sweeps/{SWEEP.id}"

    command_line.check("stop", "stop", "s0", api={**SWEEP_DETAILS, f"{path}:stop": stopping})
    command_line.check(
        "extend", "extend", "s0", "--trials", "4", api={**SWEEP_DETAILS, f"{path}:extend": stopping}
    )
    command_line.check("promote", "promote", "s0", api={**SWEEP_DETAILS, f"{path}:promote": run})
    for action, view in (("stop", stopping), ("extend", stopping), ("promote", run)):
        document = command_line.read_json(
            action, "s0", api={**SWEEP_DETAILS, f"{path}:{action}": view}
        )
        assert document["id"] == view.id
