"""Autopilots over the API; the tests simulate the workers."""

from collections.abc import Iterator
from typing import Any

import pytest

from configs.spec.autopilot import AutopilotBudget
from service.api.schemas.autopilots import AutopilotLaunchRequest, AutopilotQuery
from service.client import TandemClient
from service.client_transport import TandemApiError
from tests.support.autopilot.simulated import (
    HttpAutopilot,
    launch_autopilot,
    make_autopilot_request,
)
from tests.support.documents.workers import SimulatedWorkers
from tests.support.service.stage import Stage, open_stage


def test_a_paused_autopilot_plans_and_spends_nothing_until_it_is_resumed(stage: Stage) -> None:
    autopilot = launch_autopilot(stage, paused=True)
    before = autopilot.view

    autopilot.finish_probes()
    autopilot.advance()
    planned, decisions = autopilot.view, autopilot.decisions
    autopilot.act("resume")
    autopilot.advance()

    assert (before["phase"], before["plan"], before["spending"]) == ("probing", None, None)
    assert (planned["phase"], planned["desired"], decisions) == ("searching", "pause", [])
    assert planned["plan"]["is_affordable"]
    assert [stage["stage"] for stage in planned["stages"]] == [
        "teacher",
        "learning_rate",
        "noise_floor",
        "screening",
        "confirmation",
    ]
    assert planned["plan"]["total_s"] == pytest.approx(
        sum(stage["planned_s"] for stage in planned["stages"])
    )
    assert [job["key"] for job in planned["jobs"]] == ["probe.resnet18"]
    assert planned["spending"]["clock_left_s"] == 2 * 3600
    assert [item["entry"]["kind"] for item in autopilot.decisions] == ["launch"]


def test_a_finished_autopilot_says_what_it_decided_spent_and_delivers(stage: Stage) -> None:
    autopilot = launch_autopilot(stage)
    autopilot.finish()

    view, decisions = autopilot.view, autopilot.decisions
    url = f"/v1/autopilots/{autopilot.id}/decisions"
    page = stage.http.get(url, params={"cursor": 0, "limit": 2}).json()
    delivered = decisions[-1]["run"]

    # The simulated teacher is as good as the student.
    assert (view["phase"], view["conclusion"]["result"]) == ("succeeded", "weak_teacher")
    assert (view["conclusion"]["arm"], view["conclusion"]["claims_gain"]) == ("student-only", False)
    assert view["conclusion"]["run_id"] == delivered["id"]
    assert (delivered["state"], delivered["best_map"]) == ("succeeded", 0.3)
    spent_s = sum(stage["spent_s"] for stage in view["stages"])
    assert view["spending"]["spent_s"] == pytest.approx(spent_s)
    assert spent_s > 0
    results = [stage["result"] for stage in view["stages"]]
    assert results == ["passed", "passed", "weak_teacher", None, None]
    assert [item["position"] for item in decisions] == list(range(len(decisions)))
    assert (page["items"], page["next_cursor"]) == (decisions[1:3], 2)
    run = stage.run(delivered["id"])
    assert run["spec"]["tags"]["autopilot"] == autopilot.id


def test_a_person_pauses_resumes_extends_and_stops(stage: Stage) -> None:
    autopilot = launch_autopilot(stage, budget={"hours": 1.0})
    path = f"/v1/autopilots/{autopilot.id}"
    early = stage.http.post(f"{path}:extend", json={"budget": {"hours": 1.0}})
    autopilot.finish_probes()
    autopilot.advance()

    paused = autopilot.act("pause")
    resumed = autopilot.act("resume")
    extended = autopilot.act("extend", budget={"hours": 2.0})
    other_unit = stage.http.post(f"{path}:extend", json={"budget": {"price": 5.0}})
    stopped = autopilot.act("stop")
    autopilot.finish()
    late = stage.http.post(f"{path}:resume")

    assert (early.status_code, early.json()["code"]) == (409, "invalid_autopilot_transition")
    assert [view["desired"] for view in (paused, resumed, stopped)] == ["pause", "run", "stop"]
    assert extended["spending"]["clock_total_s"] == 3 * 3600
    assert (other_unit.status_code, other_unit.json()["errors"][0]["field"]) == (422, "budget")
    assert autopilot.view["phase"] == "stopped"
    assert (late.status_code, late.json()["code"]) == (409, "invalid_autopilot_transition")


INVALID_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no budget": ({"budget": None}, "budget"),
    "a budget of two units": ({"budget": {"hours": 1, "price": 2}}, "budget"),
    "a budget of nothing": ({"budget": {"hours": 0}}, "budget.hours"),
    "GPU hours on a CPU": ({"budget": {"gpu_hours": 2}}, "budget.gpu_hours"),
    "no price of an hour": ({"budget": {"price": 2}}, "budget.price"),
    "an unknown student": ({"students": ["resnet19"]}, "students"),
    "a student twice": ({"students": ["resnet18", "resnet18"]}, "students"),
    "a student as a teacher": ({"trained_teachers": ["resnet18"]}, "trained_teachers"),
    "an unknown method": ({"methods": ["magic"]}, "methods"),
    "an epoch in a schedule": ({"schedules": [{"schedule.epochs": 3}]}, "schedules"),
    "an unknown schedule": ({"schedules": [{"schedule.policy.kind": "odd"}]}, "schedules"),
    "an unknown teacher": ({"teachers": ["giant"]}, "teachers"),
    "no teacher at all": ({"teachers": []}, "teachers"),
    "no time": ({"max_latency_ms": 0}, "max_latency_ms"),
    "another format": ({"formats": ["tflite"]}, "formats.0"),
    "another field": ({"color": "red"}, "color"),
    "a base that cannot be": ({"spec": None, "preset": "digits/none"}, "preset"),
    "a long name": ({"name": "x" * 201}, "name"),
}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One service for all refused requests, which create nothing."""
    with open_stage(tmp_path_factory.mktemp("refusing")) as created:
        created.add_dataset()
        created.add_teacher()
        yield created


@pytest.mark.parametrize(
    ("changes", "field"), INVALID_REQUESTS.values(), ids=INVALID_REQUESTS.keys()
)
def test_an_invalid_request_names_its_field_and_creates_nothing(
    refusing: Stage, changes: dict[str, Any], field: str
) -> None:
    response = refusing.http.post("/v1/autopilots", json=make_autopilot_request(**changes))

    assert response.status_code == 422, response.text
    assert field in [error["field"] for error in response.json()["errors"]]
    assert refusing.http.get("/v1/autopilots").json()["items"] == []


def test_the_same_key_gives_the_same_autopilot(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    headers = {"Idempotency-Key": "once"}

    first, repeated, other = (
        stage.http.post("/v1/autopilots", json=make_autopilot_request(**changes), headers=headers)
        for changes in ({}, {}, {"budget": {"hours": 3.0}})
    )

    assert (first.status_code, repeated.status_code, other.status_code) == (201, 200, 409)
    assert first.headers["location"] == f"/v1/autopilots/{first.json()['id']}"
    assert first.json()["id"] == repeated.json()["id"]


def test_pages_of_autopilots_continue_after_the_previous_one(stage: Stage) -> None:
    created = [launch_autopilot(stage).id for _ in range(3)]
    stage.http.post(f"/v1/autopilots/{created[0]}:stop")

    first = stage.http.get("/v1/autopilots", params={"limit": 2}).json()
    second = stage.http.get("/v1/autopilots", params={"cursor": first["next_cursor"]}).json()
    stopped = stage.http.get("/v1/autopilots", params={"phase": "stopped"}).json()

    assert [item["id"] for item in first["items"] + second["items"]] == created[::-1]
    assert second["next_cursor"] is None
    assert [item["id"] for item in stopped["items"]] == created[:1]
    for path in ("?cursor=anone", "/anone", "/anone/decisions"):
        response = stage.http.get(f"/v1/autopilots{path}")
        assert (response.status_code, response.json()["code"]) == (404, "autopilot_not_found")


def test_the_typed_client_covers_autopilots(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    document = make_autopilot_request() | {"budget": AutopilotBudget(hours=1.0)}
    request = AutopilotLaunchRequest(**document)
    with TandemClient("http://localhost", transport=stage.transport) as client:
        launched = client.launch_autopilot(request, idempotency_key="once")
        autopilot = HttpAutopilot(stage, launched.id, SimulatedWorkers(stage, {}))
        autopilot.finish_probes()
        autopilot.advance()
        (first,) = client.decisions(launched.id)

        paused = client.pause_autopilot(launched.id)
        resumed = client.resume_autopilot(launched.id)
        extended = client.extend_autopilot(launched.id, AutopilotBudget(hours=1.0))
        last = client.decisions(launched.id, after=first.position)[-1]
        client.stop_autopilot(launched.id)
        autopilot.finish()

        assert client.launch_autopilot(request, idempotency_key="once").id == launched.id
        assert (paused.desired, resumed.desired) == ("pause", "run")
        assert extended.spending is not None
        assert extended.spending.clock_total_s == 2 * 3600
        assert (first.entry.kind, last.entry.kind) == ("launch", "extension")
        assert client.autopilot(launched.id).is_over
        stopped = client.autopilots(AutopilotQuery(id_prefix=launched.id)).items
        assert [item.phase for item in stopped] == ["stopped"]
        with pytest.raises(TandemApiError, match="no autopilot anone"):
            client.autopilot("anone")
