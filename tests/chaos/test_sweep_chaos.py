"""A packed sweep has the same results after its driver, head, service or pack is killed.

Its trials are sampled at random and train to their end, so an interrupted sweep must have the
values of an uninterrupted one, and on a CPU its mAPs, too.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from configs.metric_keys import Metric
from service.api.schemas.run_lists import RunSummaryView
from service.api.schemas.runs import RunRequest
from service.api.schemas.sweeps import SweepRequest
from service.client_transport import ServiceUnreachable, TandemApiError
from tests.support.stack.chaos_stack import ChaosResult, ChaosStack, wait_for
from tests.support.stack.mlflow_runs import read_mlflow_steps

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500)]

TRIALS, PACK, EPOCHS = 6, 3, 3
SWEEP_TIMEOUT_S = 900.0


@pytest.fixture(scope="module")
def teacher(chaos_stack: ChaosStack) -> str:
    result = ChaosResult("the sweeps' teacher")
    request = RunRequest(preset="quick/instant", changes={"schedule.epochs": 2, "seed": 9})
    run_id = chaos_stack.client.launch(request).id
    result.runs.append(run_id)
    chaos_stack.wait_for_run(run_id, lambda run: run.is_over)
    return run_id


@pytest.fixture(scope="module")
def expected(chaos_stack: ChaosStack, teacher: str) -> dict[int, Any]:
    sweep_id = launch(chaos_stack, teacher)
    wait_for_end(chaos_stack, sweep_id)
    return collect_outcome(chaos_stack, sweep_id)


def kill_driver(chaos_stack: ChaosStack, sweep_id: str) -> None:
    processes = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"sweep-driver", sweep_id} <= set(process.info["cmdline"] or ())
    ]
    assert processes, "no driver lives"
    for process in processes:
        process.kill()


def kill_pack(chaos_stack: ChaosStack, sweep_id: str) -> None:
    processes = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "train-pack" in (process.info["cmdline"] or ())
    ]
    assert processes, "no pack trains"
    processes[0].kill()


def kill_head(chaos_stack: ChaosStack, sweep_id: str) -> None:
    chaos_stack.kill("ray")
    chaos_stack.start_missing()


def kill_service(chaos_stack: ChaosStack, sweep_id: str) -> None:
    chaos_stack.kill("service")
    time.sleep(5)
    chaos_stack.start_missing()


@pytest.mark.parametrize("inject_fault", [kill_driver, kill_pack, kill_head, kill_service])
def test_a_packed_sweep_ends_as_if_nothing_had_been(
    chaos_stack: ChaosStack,
    teacher: str,
    expected: dict[int, Any],
    inject_fault: Callable[[ChaosStack, str], None],
) -> None:
    with chaos_stack.record_case(f"packed sweep, {inject_fault.__name__}") as result:
        sweep_id = launch(chaos_stack, teacher)
        wait_for(lambda: count_steps(chaos_stack, sweep_id) >= 8, timeout_s=SWEEP_TIMEOUT_S)

        inject_fault(chaos_stack, sweep_id)
        result.count_fault()
        before = count_steps(chaos_stack, sweep_id)
        wait_for(lambda: count_steps(chaos_stack, sweep_id) > before, timeout_s=SWEEP_TIMEOUT_S)
        result.mark_recovered()

        wait_for_end(chaos_stack, sweep_id)
        after = collect_outcome(chaos_stack, sweep_id)
        runs = list_students(chaos_stack, sweep_id)
        result.runs += [run.id for run in runs]
        result.lost += sum(run.state != "succeeded" for run in runs)
        result.duplicates += len(runs) - TRIALS
        for run in runs:
            count_points(chaos_stack, result, run.id)
        assert after == expected
        assert chaos_stack.client.report(sweep_id)


def launch(chaos_stack: ChaosStack, teacher: str) -> str:
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
    return chaos_stack.client.launch_sweep(request).id


def wait_for_end(chaos_stack: ChaosStack, sweep_id: str) -> None:
    def is_over() -> bool:
        try:
            return chaos_stack.client.sweep(sweep_id).is_over
        except (ServiceUnreachable, TandemApiError):
            return False

    wait_for(is_over, timeout_s=SWEEP_TIMEOUT_S)


def collect_outcome(chaos_stack: ChaosStack, sweep_id: str) -> dict[int, Any]:
    """Get every trial's values and mAP; fails if the sweep has not succeeded."""
    sweep = chaos_stack.client.sweep(sweep_id)
    assert sweep.state == "succeeded", sweep.message
    trials = chaos_stack.client.trials(sweep_id)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    by_run = {run.id: run for run in list_students(chaos_stack, sweep_id)}
    outcome = {}
    for trial in trials:
        (run_id,) = (run.id for run in trial.runs)
        outcome[trial.number] = (json.dumps(trial.values, sort_keys=True), by_run[run_id].best_map)
    return outcome


def list_students(chaos_stack: ChaosStack, sweep_id: str) -> list[RunSummaryView]:
    url = f"{chaos_stack.shell.url}/v1/runs"
    response = httpx.get(url, params={"sweep": sweep_id, "limit": 100}, trust_env=False)
    runs = [RunSummaryView.model_validate(item) for item in response.json()["items"]]
    return [run for run in runs if run.trial is not None]


def count_steps(chaos_stack: ChaosStack, sweep_id: str) -> int:
    """Sum the steps of all trials; -1 while the service does not respond."""
    try:
        runs = list_students(chaos_stack, sweep_id)
    except (httpx.HTTPError, ValueError, KeyError):
        return -1
    return sum(0 if run.progress is None else run.progress.step for run in runs)


def count_points(chaos_stack: ChaosStack, result: ChaosResult, run_id: str) -> None:
    service_steps = [point.step for point in chaos_stack.client.metrics(run_id, key=Metric.LOSS)]
    mlflow_steps = read_mlflow_steps(chaos_stack.shell.mlflow_url, run_id, Metric.LOSS)
    result.duplicates += (
        len(service_steps) - len(set(service_steps)) + len(mlflow_steps) - len(set(mlflow_steps))
    )
    result.missing += len(set(service_steps) ^ set(mlflow_steps))
