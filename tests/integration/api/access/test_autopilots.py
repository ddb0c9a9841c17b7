"""Who may see and change autopilots."""

from service.domain.vocabulary import Role
from tests.support.autopilot.simulated import launch_autopilot, make_autopilot_request
from tests.support.service.access import make_token, send_request
from tests.support.service.stage import Stage

ACTIONS = ("pause", "resume", "stop", "extend")


def test_autopilots_of_others_do_not_exist(guarded: Stage) -> None:
    autopilot = launch_autopilot(guarded, project="vision")
    own_token, other_token = (
        make_token(guarded, "somebody", Role.RUNNER, project=project)
        for project in ("vision", "sound")
    )
    path = f"/v1/autopilots/{autopilot.id}"

    for method, endpoint in (
        ("GET", path),
        ("GET", f"{path}/decisions"),
        ("GET", f"/v1/autopilots?cursor={autopilot.id}"),
        *(("POST", f"{path}:{action}") for action in ACTIONS),
    ):
        response = send_request(guarded, method, endpoint, other_token, json={})
        assert response.json()["code"] == "autopilot_not_found", endpoint
    assert send_request(guarded, "GET", "/v1/autopilots", other_token).json()["items"] == []
    assert send_request(guarded, "GET", path, own_token).is_success
    assert len(send_request(guarded, "GET", "/v1/autopilots", own_token).json()["items"]) == 1


def test_a_viewer_can_launch_and_change_no_autopilot_and_actions_are_audited(
    guarded: Stage,
) -> None:
    autopilot = launch_autopilot(guarded)
    viewer = make_token(guarded, "somebody", Role.VIEWER)
    path = f"/v1/autopilots/{autopilot.id}"

    body = make_autopilot_request()
    launch = send_request(guarded, "POST", "/v1/autopilots", viewer, json=body)
    actions = [
        send_request(guarded, "POST", f"{path}:{action}", viewer, json={"budget": {"hours": 1}})
        for action in ACTIONS
    ]
    autopilot.act("stop")

    assert [response.status_code for response in (launch, *actions)] == [403] * 5
    assert send_request(guarded, "GET", path, viewer).is_success
    audited = {item["path"] for item in guarded.http.get("/v1/audit").json()["items"]}
    assert {"/v1/autopilots", f"{path}:stop"} <= audited
