"""A packed sweep loses its driver, its head, its service, a pack: it ends as if nothing had been.

Trials are drawn at random and train to their end, so a sweep that was disturbed has the very values
and, on a CPU, the very mAPs of one that was not.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from configs.metric_keys import Metric
from service.api.schemas.runs import RunRequest, RunView
from service.api.schemas.sweeps import SweepRequest
from service.client import ServiceUnreachable, TandemApiError
from tests.support.stack.chaos_stack import Act, Theatre, when
from tests.support.stack.mlflow_runs import tracked_steps

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500)]

TRIALS, PACK, EPOCHS = 6, 3, 3
SWEEP_PATIENCE_S = 900.0


@pytest.fixture(scope="module")
def teacher(theatre: Theatre) -> str:
    act = Act("the sweeps' teacher")
    request = RunRequest(preset="quick/instant", changes={"schedule.epochs": 2, "seed": 9})
    run_id = theatre.client.launch(request).id
    act.runs.append(run_id)
    theatre.when(run_id, lambda run: run.is_over)
    return run_id


@pytest.fixture(scope="module")
def undisturbed(theatre: Theatre, teacher: str) -> dict[int, Any]:
    sweep_id = launch(theatre, teacher)
    wait_for_end(theatre, sweep_id)
    return outcome_of(theatre, sweep_id)


def kill_driver(theatre: Theatre, sweep_id: str) -> None:
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"sweep-driver", sweep_id} <= set(process.info["cmdline"] or ())
    ]
    assert found, "no driver lives"
    for process in found:
        process.kill()


def kill_pack(theatre: Theatre, sweep_id: str) -> None:
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "train-pack" in (process.info["cmdline"] or ())
    ]
    assert found, "no pack trains"
    found[0].kill()


def kill_head(theatre: Theatre, sweep_id: str) -> None:
    theatre.kill("ray")
    theatre.up()


def kill_service(theatre: Theatre, sweep_id: str) -> None:
    theatre.kill("service")
    time.sleep(5)
    theatre.up()


@pytest.mark.parametrize("strike", [kill_driver, kill_pack, kill_head, kill_service])
def test_a_packed_sweep_ends_as_if_nothing_had_been(
    theatre: Theatre,
    teacher: str,
    undisturbed: dict[int, Any],
    strike: Callable[[Theatre, str], None],
) -> None:
    with theatre.act(f"packed sweep, {strike.__name__}") as act:
        sweep_id = launch(theatre, teacher)
        when(lambda: steps_of(theatre, sweep_id) >= 8, patience_s=SWEEP_PATIENCE_S)

        strike(theatre, sweep_id)
        act.fault()
        before = steps_of(theatre, sweep_id)
        when(lambda: steps_of(theatre, sweep_id) > before, patience_s=SWEEP_PATIENCE_S)
        act.back()

        wait_for_end(theatre, sweep_id)
        after = outcome_of(theatre, sweep_id)
        runs = students(theatre, sweep_id)
        act.runs += [run.id for run in runs]
        act.lost += sum(run.state != "succeeded" for run in runs)
        act.doubled += len(runs) - TRIALS
        for run in runs:
            count_points(theatre, act, run.id)
        assert after == undisturbed
        assert theatre.client.report(sweep_id)


def launch(theatre: Theatre, teacher: str) -> str:
    changes = {
        "teacher": {"run": teacher},
        "schedule.epochs": EPOCHS,
        "checkpoints.every_steps": 5,
    }
    weights = {"kind": "loguniform", "low": 0.25, "high": 4.0}
    request = SweepRequest(
        preset="quick/instant_bckd",
        changes=changes,
        space={"distillation.cls_weight": weights, "distillation.loc_weight": weights},
        algorithm={"kind": "random"},
        budget={"trials": TRIALS},
        concurrency=TRIALS,
        pack=PACK,
        noise_runs=1,
        name="killed",
    )
    return theatre.client.launch_sweep(request).id


def wait_for_end(theatre: Theatre, sweep_id: str) -> None:
    def is_over() -> bool:
        try:
            return theatre.client.sweep(sweep_id).is_over
        except (ServiceUnreachable, TandemApiError):
            return False

    when(is_over, patience_s=SWEEP_PATIENCE_S)


def outcome_of(theatre: Theatre, sweep_id: str) -> dict[int, Any]:
    """Every trial's values and exact mAP, and that each ended once."""
    sweep = theatre.client.sweep(sweep_id)
    assert sweep.state == "succeeded", sweep.message
    trials = theatre.client.trials(sweep_id)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    by_run = {run.id: run for run in students(theatre, sweep_id)}
    found = {}
    for trial in trials:
        (run_id,) = (run.id for run in trial.runs)
        found[trial.number] = (json.dumps(trial.values, sort_keys=True), by_run[run_id].best_map)
    return found


def students(theatre: Theatre, sweep_id: str) -> list[RunView]:
    url = f"{theatre.shell.url}/v1/runs"
    answer = httpx.get(url, params={"sweep": sweep_id, "limit": 100}, trust_env=False)
    runs = [RunView.model_validate(item) for item in answer.json()["items"]]
    return [run for run in runs if run.trial is not None]


def steps_of(theatre: Theatre, sweep_id: str) -> int:
    """Steps of all trials together; of one that has not begun again, what it had."""
    try:
        runs = students(theatre, sweep_id)
    except (httpx.HTTPError, ValueError, KeyError):
        return -1
    return sum(0 if run.progress is None else run.progress.step for run in runs)


def count_points(theatre: Theatre, act: Act, run_id: str) -> None:
    ours = [point.step for point in theatre.client.metrics(run_id, key=Metric.LOSS)]
    theirs = tracked_steps(theatre.shell.mlflow_url, run_id, Metric.LOSS)
    act.doubled += len(ours) - len(set(ours)) + len(theirs) - len(set(theirs))
    act.missing += len(set(ours) ^ set(theirs))
