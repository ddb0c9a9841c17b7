"""Access to sweeps: users by role and project, drivers by a token of their own."""

import stat
from pathlib import Path

from service.domain.vocabulary import Role
from tests.support.service.access import make_token, send_request
from tests.support.service.simulated_sweep import (
    CLS,
    LOC,
    SimulatedSweep,
    make_sweep_request,
    start_search,
)
from tests.support.service.stage import Stage

ENTRY = {"kind": "suggested", "number": 0, "values": {CLS: 1.0, LOC: 1}}


def token_file(sweep: SimulatedSweep) -> Path:
    return sweep.stage.home / "sweeps" / sweep.id / "report.token"


def start_search_with_entry(stage: Stage) -> tuple[SimulatedSweep, str]:
    """Start a sweep whose driver has appended an entry; returns the driver's token too."""
    sweep = start_search(stage)
    token = token_file(sweep).read_text()
    body = {"first": 0, "entries": [ENTRY]}
    assert send_request(stage, "POST", f"/v1/sweeps/{sweep.id}/log", token, json=body).is_success
    return sweep, token


def test_the_driver_gets_the_path_of_its_private_token(guarded: Stage) -> None:
    sweep = start_search(guarded)

    command = guarded.cluster.job_requests[f"{sweep.id}-d1"].command

    assert command[-2:] == ("--token-file", str(token_file(sweep)))
    assert stat.S_IMODE(token_file(sweep).stat().st_mode) == 0o600


def test_the_token_gives_access_to_the_endpoints_of_its_driver_only(guarded: Stage) -> None:
    sweep, other = start_search(guarded), start_search(guarded)
    driver_token, url = token_file(sweep).read_text(), f"/v1/sweeps/{sweep.id}"
    body = {"first": 0, "entries": [ENTRY]}

    assert send_request(guarded, "GET", f"{url}/log", driver_token).is_success
    assert send_request(guarded, "POST", f"{url}/log", driver_token, json=body).json()["next"] == 1
    assert send_request(guarded, "GET", f"{url}/standings", driver_token).is_success

    run_id = guarded.http.get("/v1/runs").json()["items"][0]["id"]
    deliveries = f"/v1/runs/{run_id}/attempts/1/deliveries"
    for method, path in (
        ("GET", f"/v1/sweeps/{other.id}/log"),
        ("GET", url),
        ("POST", f"{url}:stop"),
        ("GET", "/v1/runs"),
        ("POST", deliveries),
        ("POST", "/v1/attempts:over"),
    ):
        assert send_request(guarded, method, path, driver_token, json=None).status_code == 401, path


def test_people_and_workers_cannot_act_as_drivers(guarded: Stage) -> None:
    sweep, driver_token = start_search_with_entry(guarded)
    guarded.run_loops()
    run_id = guarded.http.get("/v1/runs").json()["items"][0]["id"]
    worker_token = (guarded.home / "runs" / run_id / "report.token").read_text()

    for wrong_token in (
        make_token(guarded, "somebody", Role.ADMIN),
        worker_token,
        driver_token[:-3] + "xxx",
    ):
        response = send_request(guarded, "GET", f"/v1/sweeps/{sweep.id}/log", wrong_token)
        assert response.status_code == 401


def test_a_driver_that_was_replaced_is_refused_and_writes_nothing(guarded: Stage) -> None:
    sweep = start_search(guarded)
    old, path = token_file(sweep).read_text(), f"/v1/sweeps/{sweep.id}/log"
    guarded.cluster.set_job_state(f"{sweep.id}-d1", "failed", exit_code=1)
    guarded.run_loops()
    guarded.clock.advance(5)
    guarded.run_loops()
    new = token_file(sweep).read_text()

    late = send_request(guarded, "POST", path, old, json={"first": 0, "entries": [ENTRY]})

    assert (late.status_code, late.json()["code"]) == (409, "driver_superseded")
    assert send_request(guarded, "GET", path, old).status_code == 409
    assert send_request(guarded, "GET", path, new).json()["entries"] == []


def test_sweeps_of_others_do_not_exist(guarded: Stage) -> None:
    sweep = start_search(guarded, project="vision")
    own_token, other_token = (
        make_token(guarded, "somebody", Role.RUNNER, project=project)
        for project in ("vision", "sound")
    )
    path = f"/v1/sweeps/{sweep.id}"

    for method, endpoint in (
        ("GET", path),
        ("GET", f"{path}/trials"),
        ("GET", f"{path}/report"),
        ("POST", f"{path}:stop"),
        ("POST", f"{path}:extend"),
        ("POST", f"{path}:promote"),
        ("GET", f"/v1/sweeps?cursor={sweep.id}"),
    ):
        response = send_request(guarded, method, endpoint, other_token, json={})
        assert response.json()["code"] == "sweep_not_found", endpoint
    assert send_request(guarded, "GET", "/v1/sweeps", other_token).json()["items"] == []
    runs = send_request(guarded, "GET", "/v1/runs", other_token, params={"sweep": sweep.id})
    assert runs.json()["items"] == []
    assert send_request(guarded, "GET", path, own_token).is_success
    assert len(send_request(guarded, "GET", "/v1/sweeps", own_token).json()["items"]) == 1


def test_a_project_has_sweeps_and_idempotency_keys_of_its_own(guarded: Stage) -> None:
    guarded.add_dataset()
    guarded.add_teacher()
    sweeps = []
    for project in ("vision", "sound"):
        token = make_token(guarded, "somebody", Role.RUNNER, project=project)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "the same"}
        sweeps.append(
            guarded.http.post("/v1/sweeps", json=make_sweep_request(), headers=headers).json()
        )

    guarded.run_loops()

    assert [sweep["project"] for sweep in sweeps] == ["vision", "sound"]
    assert sweeps[0]["id"] != sweeps[1]["id"]
    probes = guarded.http.get("/v1/runs", params={"project": "sound"}).json()["items"]
    assert [run["sweep_id"] for run in probes] == [sweeps[1]["id"]]


def test_a_viewer_can_launch_and_change_nothing(guarded: Stage) -> None:
    sweep = start_search(guarded)
    viewer = make_token(guarded, "somebody", Role.VIEWER)

    launch, plan = (
        send_request(guarded, "POST", path, viewer, json=make_sweep_request())
        for path in ("/v1/sweeps", "/v1/sweeps:plan")
    )
    assert (launch.status_code, plan.status_code) == (403, 200)
    for action in ("stop", "extend", "promote"):
        response = send_request(guarded, "POST", f"/v1/sweeps/{sweep.id}:{action}", viewer, json={})
        assert response.status_code == 403
    assert send_request(guarded, "GET", f"/v1/sweeps/{sweep.id}", viewer).is_success


def test_actions_of_people_are_audited_and_appends_of_drivers_are_not(guarded: Stage) -> None:
    sweep, _ = start_search_with_entry(guarded)
    guarded.http.post(f"/v1/sweeps/{sweep.id}:stop")

    paths = [entry["path"] for entry in guarded.http.get("/v1/audit").json()["items"]]

    assert f"/v1/sweeps/{sweep.id}:stop" in paths
    assert "/v1/sweeps" in paths
    assert not any(path.endswith("/log") for path in paths)
