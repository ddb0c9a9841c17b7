"""Who comes in to a sweep: people by role and project, its driver by a seal of its own."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.access import Role
from service.usecases.access import create_token
from tests.support.service.simulated_sweep import CLS, LOC, SimulatedSweep, a_sweep, searching_sweep
from tests.support.service.stage import Stage, open_stage

ENTRY = {"kind": "suggested", "number": 0, "values": {CLS: 1.0, LOC: 1}}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Stage]:
    """A service with access control, and an admin who speaks to it."""
    with open_stage(tmp_path, auth="tokens") as stage:
        stage.http.headers["Authorization"] = f"Bearer {a_token(stage, Role.ADMIN)}"
        yield stage


def a_token(stage: Stage, role: Role, *, project: str | None = None) -> str:
    _, text = create_token("somebody", role=role, project=project, expires_at=None, ctx=stage.ctx)
    return text


def ask(stage: Stage, method: str, path: str, token: str, **more: Any) -> httpx.Response:
    return stage.http.request(method, path, headers={"Authorization": f"Bearer {token}"}, **more)


def seal_file(sweep: SimulatedSweep) -> Path:
    return sweep.stage.home / "sweeps" / sweep.id / "report.token"


def test_the_driver_is_told_where_its_seal_is_and_nobody_else_reads_it(guarded: Stage) -> None:
    sweep = searching_sweep(guarded)

    command = guarded.cluster.job_requests[f"{sweep.id}-d1"].command

    assert command[-2:] == ("--token-file", str(seal_file(sweep)))
    assert stat.S_IMODE(seal_file(sweep).stat().st_mode) == 0o600


def test_the_seal_opens_the_drivers_door_and_nothing_else(guarded: Stage) -> None:
    sweep, other = searching_sweep(guarded), searching_sweep(guarded)
    seal, door = seal_file(sweep).read_text(), f"/v1/sweeps/{sweep.id}"
    body = {"first": 0, "entries": [ENTRY]}

    assert ask(guarded, "GET", f"{door}/log", seal).is_success
    assert ask(guarded, "POST", f"{door}/log", seal, json=body).json()["next"] == 1
    assert ask(guarded, "GET", f"{door}/standings", seal).is_success

    run_id = guarded.http.get("/v1/runs").json()["items"][0]["id"]
    deliveries = f"/v1/runs/{run_id}/attempts/1/deliveries"
    for method, path in (
        ("GET", f"/v1/sweeps/{other.id}/log"),
        ("GET", door),
        ("POST", f"{door}:stop"),
        ("GET", "/v1/runs"),
        ("POST", deliveries),
        ("POST", "/v1/attempts:over"),
    ):
        assert ask(guarded, method, path, seal, json=None).status_code == 401, path


def test_people_and_workers_do_not_speak_for_drivers(guarded: Stage) -> None:
    sweep = searching_sweep(guarded)
    seal = seal_file(sweep).read_text()
    ask(guarded, "POST", f"/v1/sweeps/{sweep.id}/log", seal, json={"first": 0, "entries": [ENTRY]})
    guarded.turn()
    run_id = guarded.http.get("/v1/runs").json()["items"][0]["id"]
    workers = (guarded.home / "runs" / run_id / "report.token").read_text()

    for shown in (a_token(guarded, Role.ADMIN), workers, seal[:-3] + "xxx"):
        assert ask(guarded, "GET", f"/v1/sweeps/{sweep.id}/log", shown).status_code == 401


def test_a_driver_that_was_replaced_is_refused_and_writes_nothing(guarded: Stage) -> None:
    sweep = searching_sweep(guarded)
    old, path = seal_file(sweep).read_text(), f"/v1/sweeps/{sweep.id}/log"
    guarded.cluster.set_job_state(f"{sweep.id}-d1", "failed", exit_code=1)
    guarded.turn()
    guarded.clock.advance(5)
    guarded.turn()
    new = seal_file(sweep).read_text()

    late = ask(guarded, "POST", path, old, json={"first": 0, "entries": [ENTRY]})

    assert (late.status_code, late.json()["code"]) == (409, "driver_superseded")
    assert ask(guarded, "GET", path, old).status_code == 409
    assert ask(guarded, "GET", path, new).json()["entries"] == []


def test_sweeps_of_others_do_not_exist(guarded: Stage) -> None:
    sweep = searching_sweep(guarded, project="vision")
    ours, theirs = (
        a_token(guarded, Role.RUNNER, project=project) for project in ("vision", "sound")
    )
    path = f"/v1/sweeps/{sweep.id}"

    for method, about in (
        ("GET", path),
        ("GET", f"{path}/trials"),
        ("GET", f"{path}/report"),
        ("POST", f"{path}:stop"),
        ("POST", f"{path}:extend"),
        ("POST", f"{path}:promote"),
        ("GET", f"/v1/sweeps?cursor={sweep.id}"),
    ):
        refused = ask(guarded, method, about, theirs, json={})
        assert refused.json()["code"] == "sweep_not_found", about
    assert ask(guarded, "GET", "/v1/sweeps", theirs).json()["items"] == []
    assert ask(guarded, "GET", "/v1/runs", theirs, params={"sweep": sweep.id}).json()["items"] == []
    assert ask(guarded, "GET", path, ours).is_success
    assert len(ask(guarded, "GET", "/v1/sweeps", ours).json()["items"]) == 1


def test_a_sweep_of_a_project_has_its_runs_there_and_keys_of_its_own(guarded: Stage) -> None:
    guarded.add_dataset()
    guarded.add_teacher()
    made = []
    for project in ("vision", "sound"):
        headers = {
            "Authorization": f"Bearer {a_token(guarded, Role.RUNNER, project=project)}",
            "Idempotency-Key": "the same",
        }
        made.append(guarded.http.post("/v1/sweeps", json=a_sweep(), headers=headers).json())

    guarded.turn()

    assert [sweep["project"] for sweep in made] == ["vision", "sound"]
    assert made[0]["id"] != made[1]["id"]
    probes = guarded.http.get("/v1/runs", params={"project": "sound"}).json()["items"]
    assert [run["sweep_id"] for run in probes] == [made[1]["id"]]


def test_who_may_only_look_launches_and_changes_nothing(guarded: Stage) -> None:
    sweep = searching_sweep(guarded)
    viewer = a_token(guarded, Role.VIEWER)

    assert ask(guarded, "POST", "/v1/sweeps", viewer, json=a_sweep()).status_code == 403
    assert ask(guarded, "POST", "/v1/sweeps:plan", viewer, json=a_sweep()).status_code == 200
    for wish in ("stop", "extend", "promote"):
        refused = ask(guarded, "POST", f"/v1/sweeps/{sweep.id}:{wish}", viewer, json={})
        assert refused.status_code == 403
    assert ask(guarded, "GET", f"/v1/sweeps/{sweep.id}", viewer).is_success


def test_what_people_do_is_in_the_audit_and_what_drivers_write_is_not(guarded: Stage) -> None:
    sweep = searching_sweep(guarded)
    seal = seal_file(sweep).read_text()
    ask(guarded, "POST", f"/v1/sweeps/{sweep.id}/log", seal, json={"first": 0, "entries": [ENTRY]})
    guarded.http.post(f"/v1/sweeps/{sweep.id}:stop")

    told = [entry["path"] for entry in guarded.http.get("/v1/audit").json()["items"]]

    assert f"/v1/sweeps/{sweep.id}:stop" in told
    assert "/v1/sweeps" in told
    assert not any(path.endswith("/log") for path in told)
