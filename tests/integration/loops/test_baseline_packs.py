"""A run and its baseline in one process: launched together, or separately if necessary."""

from pathlib import Path
from typing import Any

import pytest

from configs.protocol.pack import PackJob
from service.domain.ports import Node
from service.domain.scheduling.packs import PACK_FILL_TIMEOUT_S
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.stage import Stage


@pytest.fixture
def pair(stage: Stage) -> tuple[str, str]:
    """A run that was launched with `pack: true`, and its baseline."""
    prepare(stage)
    run = stage.launch(spec=make_bckd_spec(), pack=True)
    return run["id"], run["baseline_run_id"]


def prepare(stage: Stage) -> None:
    stage.cluster.cluster_nodes = (Node(1.0, 0.0, 1.0, 0.0, "n1"),)
    stage.add_dataset()
    stage.add_teacher()


def members(stage: Stage) -> list[list[str]]:
    """The runs of each pack that was submitted."""
    orders = [
        PackJob.model_validate_json(Path(order.command[-1]).read_text())
        for job, order in stage.cluster.job_requests.items()
        if job.startswith("p")
    ]
    return [[member.run_id for member in order.members] for order in orders]


def list_states(stage: Stage, *runs: str) -> list[str]:
    return [stage.run(run)["state"] for run in runs]


def test_both_start_at_once_as_one_job_with_the_capacity_of_one(
    stage: Stage, pair: tuple[str, str]
) -> None:
    stage.run_loops()

    assert members(stage) == [list(pair)]
    assert list_states(stage, *pair) == ["starting", "starting"]
    assert [order.num_cpus for order in stage.cluster.job_requests.values()] == [1]


def test_without_pack_each_has_a_job_of_its_own(stage: Stage) -> None:
    prepare(stage)
    run = stage.launch(spec=make_bckd_spec())

    stage.run_loops()

    assert members(stage) == []
    assert sorted(list_states(stage, run["id"], run["baseline_run_id"])) == ["queued", "starting"]


@pytest.mark.parametrize("is_over", [False, True])
def test_with_an_existing_baseline_a_run_starts_by_itself_and_waits_for_none(
    stage: Stage, is_over: bool
) -> None:
    prepare(stage)
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
    baseline_id = stage.launch(spec=make_spec())["id"]
    if is_over:
        stage.run_loops()
        stage.cluster.set_job_state(f"{baseline_id}-a1", "succeeded", exit_code=0)
        stage.run_loops()

    run = stage.launch(spec=make_bckd_spec(), pack=True)
    stage.run_loops()

    assert run["baseline_run_id"] == baseline_id
    assert members(stage) == []
    assert list_states(stage, run["id"]) == ["starting"]


def test_a_member_that_is_cancelled_before_the_start_leaves_the_other_to_start_alone(
    stage: Stage, pair: tuple[str, str]
) -> None:
    run, baseline = pair
    stage.http.post(f"/v1/runs/{run}:cancel")
    stage.clock.advance(PACK_FILL_TIMEOUT_S + 1)

    stage.run_loops()

    assert list_states(stage, run, baseline) == ["cancelled", "starting"]
    assert members(stage) == []


def test_a_member_that_was_paused_goes_on_alone_when_the_other_is_under_way(
    stage: Stage, pair: tuple[str, str]
) -> None:
    run, baseline = pair
    stage.http.post(f"/v1/runs/{run}:pause")
    stage.clock.advance(PACK_FILL_TIMEOUT_S + 1)
    stage.run_loops()
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)
    stage.http.post(f"/v1/runs/{run}:resume")
    stage.clock.advance(PACK_FILL_TIMEOUT_S + 1)

    stage.run_loops()

    assert list_states(stage, run, baseline) == ["starting", "starting"]
    assert members(stage) == []


def test_a_pair_whose_job_is_lost_comes_back_as_a_pair(stage: Stage, pair: tuple[str, str]) -> None:
    stage.run_loops()
    (job,) = stage.cluster.job_requests
    stage.cluster.set_job_state(job, "failed", exit_code=-9)
    stage.run_loops()
    stage.clock.advance(2 * PACK_FILL_TIMEOUT_S)

    stage.run_loops()

    assert members(stage) == [list(pair), list(pair)]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"spec": make_bckd_spec(), "baseline": "off"}, "no_baseline"),
        ({"spec": make_spec()}, "no_baseline"),
        ({"spec": make_bckd_spec(resources={"num_cpus": 1, "processes": 2})}, "several_processes"),
    ],
)
def test_what_cannot_be_packed_is_refused_before_anything_is_queued(
    stage: Stage, request_: dict[str, Any], code: str
) -> None:
    prepare(stage)
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 2.0, 0.0, "n1"),)

    response = stage.http.post("/v1/runs", json={**request_, "pack": True})

    assert response.status_code == 422
    assert [(fault["field"], fault["code"]) for fault in response.json()["errors"]] == [
        ("pack", code)
    ]
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_on_a_gpu_the_plan_warns_that_the_memory_of_both_is_not_known(stage: Stage) -> None:
    prepare(stage)
    stage.cluster.cluster_nodes = (Node(4.0, 1.0, 4.0, 1.0, "n1"),)
    spec = make_bckd_spec(resources={"num_cpus": 1, "num_gpus": 1})

    plan = stage.http.post("/v1/runs:plan", json={"spec": spec, "pack": True}).json()

    severities = {finding["code"]: finding["severity"] for finding in plan["findings"]}
    assert severities["memory_unknown"] == "warning"


def test_a_key_is_bound_to_whether_the_pair_is_packed(stage: Stage) -> None:
    prepare(stage)
    headers = {"Idempotency-Key": "once"}
    stage.http.post("/v1/runs", json={"spec": make_bckd_spec()}, headers=headers)

    repeated = stage.http.post(
        "/v1/runs", json={"spec": make_bckd_spec(), "pack": False}, headers=headers
    )
    other = stage.http.post(
        "/v1/runs", json={"spec": make_bckd_spec(), "pack": True}, headers=headers
    )

    assert (repeated.status_code, other.status_code) == (200, 409)
