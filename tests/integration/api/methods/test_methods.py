"""Methods of other packages: the workers say which they have, launches are pinned and checked."""

import json
from typing import Any

import pytest

from tests.support.factories import make_bckd_spec
from tests.support.service.stage import Stage

RELEASE = {"version": "2", "digest": "a" * 64, "needs": ["features"]}
CARD = {
    "name": "shift",
    "title": "Shift",
    "package": "acme-shift",
    "release": RELEASE,
    "terms": {"weight": "distill_shift"},
    "fields": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "weight": {"type": "number", "exclusiveMinimum": 0.0, "default": 1.0},
            "levels": {"type": "array", "items": {"type": "integer"}, "default": []},
        },
    },
}
ANSWER = json.dumps({"methods": [CARD], "problems": ["Method 'shove' cannot be imported: no"]})
JOB = "tandem-methods-1"


def make_request(fields: dict[str, Any] | None = None, **method: Any) -> dict[str, Any]:
    installed = {"method": "installed", "name": "shift", "fields": fields or {}, **method}
    return {"spec": make_bckd_spec(distillation=installed)}


def make_extra_request(name: str = "shift", **method: Any) -> dict[str, Any]:
    distillation = {"method": "bckd", "extra": {"installed": {name: method}}}
    return {"spec": make_bckd_spec(distillation=distillation)}


def answer(stage: Stage, text: str = ANSWER, *, job: str = JOB) -> None:
    stage.cluster.set_job_state(job, "succeeded")
    stage.cluster.logs_by_job[job] = f"a library warns\n{text}\n"


@pytest.fixture
def answered(stage: Stage) -> Stage:
    stage.http.post("/v1/methods:refresh")
    answer(stage)
    return stage


def test_the_first_launch_asks_the_workers_and_the_next_one_is_queued(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()

    refused = stage.http.post("/v1/runs", json=make_request())
    request = stage.cluster.job_requests[JOB]
    again = stage.http.post("/v1/runs", json=make_request())
    answer(stage)
    launched = stage.http.post("/v1/runs", json=make_request({"weight": 3.0}))

    assert (refused.status_code, refused.json()["code"]) == (409, "methods_unknown")
    assert again.status_code == 409
    assert request.command == ("tandem-worker", "methods", "--json")
    assert [job for job in stage.cluster.job_requests if job.startswith("tandem-m")] == [JOB]
    assert launched.status_code == 201
    assert launched.json()["spec"]["distillation"] == {
        "method": "installed",
        "name": "shift",
        "fields": {"weight": 3.0, "levels": []},
        "release": RELEASE,
    }


def test_one_that_is_added_to_bckd_is_pinned_as_a_single_one(answered: Stage) -> None:
    answered.add_dataset()
    answered.add_teacher()

    launched = answered.http.post("/v1/runs", json=make_extra_request(fields={"weight": 3.0}))

    assert launched.status_code == 201, launched.json()
    assert launched.json()["spec"]["distillation"]["extra"]["installed"] == {
        "shift": {
            "method": "installed",
            "name": "shift",
            "fields": {"weight": 3.0, "levels": []},
            "release": RELEASE,
        }
    }


@pytest.mark.parametrize(
    ("request_", "field", "message"),
    [
        (
            make_extra_request(fields={"weight": 0}),
            "distillation.extra.installed.shift.fields.weight",
            "0",
        ),
        (make_extra_request("shfit"), "distillation.extra.installed.shfit", "did you mean shift?"),
        (
            make_extra_request(release={**RELEASE, "digest": "b" * 64}),
            "distillation.extra.installed.shift.release",
            "the workers have version 2",
        ),
        (make_request({"weight": 0}), "distillation.fields.weight", "0"),
        (make_request({"weigth": 1}), "distillation.fields", "'weigth' was unexpected"),
        (make_request({"levels": ["p3"]}), "distillation.fields.levels.0", "not of type"),
        (make_request(name="shfit"), "distillation.name", "did you mean shift?"),
        (make_request(name="shove"), "distillation.name", "cannot be imported"),
        (make_request(name="other"), "distillation.name", "installed methods: shift"),
        (
            make_request(release={**RELEASE, "version": "1"}),
            "distillation.release",
            "the workers have version 2",
        ),
    ],
)
def test_what_the_workers_would_refuse_is_not_queued(
    request_: dict[str, Any], field: str, message: str, answered: Stage
) -> None:
    answered.add_dataset()
    answered.add_teacher()

    response = answered.http.post("/v1/runs", json=request_)

    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == field
    assert message in error["message"]


def test_a_sweep_over_its_fields_is_checked_at_their_limits(answered: Stage) -> None:
    answered.add_dataset()
    answered.add_teacher()
    space = {"distillation.fields.weight": {"kind": "uniform", "low": 0.0, "high": 1.0}}
    body = {**make_request(), "space": space, "budget": {"trials": 2}}

    refused = answered.http.post("/v1/sweeps", json=body)
    space["distillation.fields.weight"]["low"] = 0.5
    launched = answered.http.post("/v1/sweeps", json=body)

    assert refused.status_code == 422, refused.json()
    assert refused.json()["errors"][0]["field"] == "space.distillation.fields.weight"
    assert launched.status_code == 201, launched.json()


def test_the_list_has_our_methods_and_those_of_the_workers(stage: Stage) -> None:
    before = stage.http.get("/v1/methods").json()
    refreshed = stage.http.post("/v1/methods:refresh")
    answer(stage)
    after = stage.http.get("/v1/methods").json()

    assert (before["answer"], before["installed"]) == ("none", [])
    assert {"name": "pkd", "title": "PKD", "needs_labels": False} in before["own"]
    assert (refreshed.status_code, refreshed.json()["answer"]) == (202, "pending")
    assert (after["answer"], after["installed"]) == ("received", [CARD])
    assert after["problems"] == ["Method 'shove' cannot be imported: no"]


def test_while_the_workers_are_asked_again_their_last_answer_counts(answered: Stage) -> None:
    state = answered.http.post("/v1/methods:refresh").json()
    listed = answered.http.get("/v1/methods").json()
    answer(answered, json.dumps({"methods": []}), job="tandem-methods-2")
    later = answered.http.get("/v1/methods").json()

    assert state["answer"] == listed["answer"] == "pending"
    assert [card["name"] for card in listed["installed"]] == ["shift"]
    assert (later["answer"], later["installed"]) == ("received", [])


def test_a_job_that_fails_is_reported_and_the_next_launch_asks_again(stage: Stage) -> None:
    stage.http.post("/v1/methods:refresh")
    stage.cluster.set_job_state(JOB, "failed")

    listed = stage.http.get("/v1/methods").json()
    refused = stage.http.post("/v1/runs", json=make_request())

    assert (listed["answer"], listed["failure"]) == ("none", "failed")
    assert "They did not answer before: failed." in refused.json()["detail"]
    assert "tandem-methods-2" in stage.cluster.job_requests


def test_without_ray_the_list_says_so_and_a_launch_is_refused(stage: Stage) -> None:
    stage.cluster.is_reachable = False

    listed, refreshed = stage.http.get("/v1/methods"), stage.http.post("/v1/methods:refresh")
    refused = stage.http.post("/v1/runs", json=make_request())

    assert "unreachable" in listed.json()["failure"]
    assert "unreachable" in refreshed.json()["failure"]
    assert (refused.status_code, refused.json()["code"]) == (409, "methods_unknown")


def test_the_cost_of_the_list_hardly_grows_with_the_number_of_refreshes(answered: Stage) -> None:
    for number in range(2, 101):
        answered.http.post("/v1/methods:refresh")
        answer(answered, job=f"tandem-methods-{number}")
    answered.cluster.requested_jobs.clear()

    listed = answered.http.get("/v1/methods").json()

    assert [card["name"] for card in listed["installed"]] == ["shift"]
    assert len(answered.cluster.requested_jobs) <= 14
