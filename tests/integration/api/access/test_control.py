"""Access control: tokens, roles, projects, workers, the audit log, rate limits."""

from pathlib import Path
from typing import Any

import pytest

from service.api.permissions import ENDPOINT_ACCESS
from service.domain.vocabulary import Role
from service.main import create_app
from service.settings import Settings
from tests.support.factories import make_bckd_spec, make_spec, write_dataset
from tests.support.service.access import make_token, send_request, submit_run_with_token
from tests.support.service.stage import Stage, open_stage

ADMIN = Role.ADMIN


class TestTokens:
    """A valid token is required."""

    @pytest.mark.parametrize(
        "token",
        [
            None,
            "",
            "nonsense",
            "tdm_0123456789_" + "x" * 43,
            "tdw_r1.1." + "x" * 43,
        ],
    )
    def test_every_invalid_token_gets_the_same_refusal(
        self, guarded: Stage, token: str | None
    ) -> None:
        response = send_request(guarded, "GET", "/v1/runs", token)

        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["code"] == "unauthenticated"
        assert response.text == send_request(guarded, "GET", "/v1/runs", "tdm_other").text

    def test_a_forged_secret_is_refused(self, guarded: Stage) -> None:
        token = make_token(guarded, "eve", Role.VIEWER)
        forged = token[:-4] + ("aaaa" if not token.endswith("aaaa") else "bbbb")

        assert send_request(guarded, "GET", "/v1/runs", token).status_code == 200
        assert send_request(guarded, "GET", "/v1/runs", forged).status_code == 401

    def test_static_tokens_have_the_permissions_of_their_role(self, tmp_path: Path) -> None:
        admin, viewer = (f"tdm_{digit * 10}_{digit * 43}" for digit in "ab")
        with open_stage(
            tmp_path, auth="tokens", admin_token=admin, viewer_token=viewer
        ) as containers:
            responses = {
                name: [
                    send_request(containers, "GET", "/metrics", token).status_code,
                    send_request(containers, "GET", "/v1/audit", token).status_code,
                ]
                for name, token in {
                    "admin": admin,
                    "viewer": viewer,
                    "forged": admin[:-1] + "b",
                }.items()
            }
            tokens = containers.http.get(
                "/v1/tokens", headers={"Authorization": f"Bearer {admin}"}
            ).json()

        assert responses == {"admin": [200, 200], "viewer": [200, 403], "forged": [401, 401]}
        assert tokens["items"] == []

    def test_a_removed_static_token_is_refused(self, tmp_path: Path) -> None:
        token = "tdm_" + "a" * 10 + "_" + "a" * 43
        with open_stage(tmp_path, auth="tokens", admin_token=token) as before:
            assert send_request(before, "GET", "/v1/runs", token).status_code == 200

        with open_stage(tmp_path, auth="tokens") as after:
            assert send_request(after, "GET", "/v1/runs", token).status_code == 401

    def test_expired_and_revoked_tokens_are_refused(self, guarded: Stage) -> None:
        short, revoked_token = (
            make_token(guarded, name, Role.VIEWER, days=1) for name in ("a", "b")
        )
        assert send_request(guarded, "GET", "/v1/runs", short).status_code == 200
        revoked = guarded.http.delete(f"/v1/tokens/{revoked_token.split('_')[1]}")
        assert revoked.status_code == 200

        guarded.clock.advance(25 * 3600)

        assert send_request(guarded, "GET", "/v1/runs", short).status_code == 401
        assert send_request(guarded, "GET", "/v1/runs", revoked_token).status_code == 401

    def test_its_text_is_returned_once_and_stored_nowhere(
        self, guarded: Stage, capfd: pytest.CaptureFixture[str]
    ) -> None:
        created = guarded.http.post("/v1/tokens", json={"name": "ci", "role": "runner"})
        text = created.json()["text"]
        assert send_request(guarded, "GET", "/v1/runs", text).status_code == 200

        outputs = [
            guarded.http.get("/v1/tokens").text,
            guarded.http.get("/v1/audit").text,
            capfd.readouterr().out,
            *(
                file.read_bytes().decode("latin-1")
                for file in guarded.home.rglob("*")
                if file.is_file()
            ),
        ]

        assert created.status_code == 201
        assert not any(text.split("_", 2)[2] in output for output in outputs)

    def test_a_token_in_a_url_is_refused(self, guarded: Stage) -> None:
        response = guarded.http.get("/v1/runs?access_token=x")

        assert response.status_code == 400
        assert response.json()["code"] == "secret_in_address"

    def test_the_last_use_is_recorded(self, guarded: Stage) -> None:
        guarded.http.get("/v1/runs")

        (token,) = guarded.http.get("/v1/tokens").json()["items"]

        assert token["last_used_at"] is not None
        assert "digest" not in token


class TestRoles:
    """Permissions of each role."""

    def test_every_endpoint_has_an_access_level(self, tmp_path: Path) -> None:
        app = create_app(Settings(home=tmp_path), with_loops=False)
        paths = app.openapi()["paths"]
        endpoints = {
            (method.upper(), path) for path, methods in paths.items() for method in methods
        }

        assert endpoints <= set(ENDPOINT_ACCESS)
        documented = {path for _, path in endpoints}
        hidden = {path for _, path in ENDPOINT_ACCESS} - documented
        assert hidden == {
            "/",
            "/docs",
            "/docs/{name}",
            "/openapi.json",
            "/metrics",
            "/v1/runs/{run_id}/attempts/{number}/deliveries",
            "/v1/runs/{run_id}/attempts/{number}/log",
            "/v1/attempts:over",
            "/v1/sweeps/{sweep_id}/log",
            "/v1/sweeps/{sweep_id}/standings",
        }

    @pytest.mark.parametrize(
        ("role", "method", "path", "status"),
        [
            (Role.VIEWER, "GET", "/v1/runs", 200),
            (Role.VIEWER, "POST", "/v1/runs", 403),
            (Role.VIEWER, "POST", "/v1/runs:plan", 200),
            (Role.RUNNER, "POST", "/v1/runs", 422),
            (Role.RUNNER, "PUT", "/v1/projects/p", 403),
            (Role.RUNNER, "GET", "/v1/tokens", 403),
            (Role.ADMIN, "GET", "/v1/audit", 200),
            (Role.VIEWER, "GET", "/v1/nothing", 404),
            (Role.VIEWER, "GET", "/metrics", 200),
        ],
    )
    def test_a_role_has_its_permissions(
        self, guarded: Stage, role: Role, method: str, path: str, status: int
    ) -> None:
        body = None if method == "GET" else {"preset": "quick/instant"}

        response = send_request(guarded, method, path, make_token(guarded, "x", role), json=body)

        assert response.status_code == status, response.text
        if status == 403:
            assert response.json()["code"] == "insufficient_role"

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
    def test_health_needs_no_token(self, guarded: Stage, path: str) -> None:
        assert send_request(guarded, "GET", path, None).status_code == 200

    def test_an_unknown_path_needs_a_token_too(self, guarded: Stage) -> None:
        assert send_request(guarded, "GET", "/v1/nothing", None).status_code == 401


class TestProjects:
    """A token of a project gives access to its runs only."""

    def test_runs_of_others_do_not_exist(self, guarded: Stage) -> None:
        guarded.add_dataset()
        other_run_id = guarded.launch(spec=make_spec(), project="theirs")["id"]
        own_token = make_token(guarded, "us", Role.RUNNER, project="ours")

        responses = [
            send_request(guarded, "GET", f"/v1/runs/{other_run_id}", own_token),
            send_request(guarded, "GET", f"/v1/runs/{other_run_id}/logs", own_token),
            send_request(guarded, "GET", f"/v1/runs/{other_run_id}/events", own_token),
            send_request(guarded, "POST", f"/v1/runs/{other_run_id}:cancel", own_token),
        ]

        assert {response.status_code for response in responses} == {404}
        assert {response.json()["code"] for response in responses} == {"run_not_found"}
        assert send_request(guarded, "GET", "/v1/runs", own_token).json()["items"] == []
        assert send_request(guarded, "GET", "/v1/events", own_token).json()["items"] == []
        assert guarded.run(other_run_id)["desired"] == "run"

    def test_its_runs_are_launched_in_its_project(self, guarded: Stage) -> None:
        guarded.add_dataset()
        own_token = make_token(guarded, "us", Role.RUNNER, project="ours")

        created = send_request(guarded, "POST", "/v1/runs", own_token, json={"spec": make_spec()})
        elsewhere = send_request(
            guarded, "POST", "/v1/runs", own_token, json={"spec": make_spec(), "project": "theirs"}
        )

        assert created.json()["project"] == "ours"
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "project_forbidden")
        events = guarded.http.get(f"/v1/runs/{created.json()['id']}/events").json()["items"]
        assert events[0]["actor"] == "us"

    def test_a_teacher_that_others_train_is_not_found(self, guarded: Stage) -> None:
        guarded.add_dataset()
        other_run_id = guarded.launch(spec=make_spec(), project="theirs")["id"]
        own_token = make_token(guarded, "us", Role.RUNNER, project="ours")

        response = send_request(
            guarded,
            "POST",
            "/v1/runs",
            own_token,
            json={"spec": make_bckd_spec(teacher={"run": other_run_id})},
        )

        assert response.status_code == 422
        assert response.json()["errors"][0]["code"] == "run_not_found"

    def test_the_limits_of_a_project_are_set_and_shown(self, guarded: Stage) -> None:
        limits = {"weight": 2.0, "max_runs": 3, "max_gpus": None, "max_priority": 5}

        guarded.http.put("/v1/projects/ours", json=limits)

        assert guarded.http.get("/v1/projects").json() == [{"name": "ours", **limits}]
        assert guarded.http.get("/v1/projects/other").json()["max_runs"] is None


class TestWorkers:
    """A worker's token is valid for its own attempt only."""

    def test_it_is_in_the_run_folder_readable_by_its_owner_only(self, guarded: Stage) -> None:
        _, file = submit_run_with_token(guarded)

        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().startswith("tdw_")

    def test_it_gives_access_to_deliveries_and_log_of_its_attempt(self, guarded: Stage) -> None:
        run_id, file = submit_run_with_token(guarded)
        other, _ = submit_run_with_token(guarded)
        token, empty = file.read_text(), {"first": 0, "records": []}

        def post_status(path: str, **options: Any) -> int:
            return send_request(guarded, "POST", path, token, **options).status_code

        own = f"/v1/runs/{run_id}/attempts"
        assert post_status(f"{own}/1/deliveries", json=empty) == 200
        assert post_status(f"{own}/1/log", content=b"x") == 200
        assert post_status("/v1/attempts:over", json={"attempts": []}) == 200
        assert post_status(f"{own}/2/deliveries", json=empty) == 401
        assert post_status(f"/v1/runs/{other}/attempts/1/deliveries", json=empty) == 401
        assert post_status(f"/v1/runs/{run_id}:cancel") == 401
        assert send_request(guarded, "GET", "/v1/runs", token).status_code == 401

    def test_people_cannot_deliver_records(self, guarded: Stage) -> None:
        run_id, _ = submit_run_with_token(guarded)

        response = guarded.http.post(
            f"/v1/runs/{run_id}/attempts/1/deliveries", json={"first": 0, "records": []}
        )

        assert response.status_code == 401

    def test_the_signing_key_survives_a_restart(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens") as first:
            key = first.ctx.signing_key
        with open_stage(tmp_path, auth="tokens") as second:
            assert second.ctx.signing_key == key
        assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


class TestAudit:
    """The audit log of write requests."""

    def test_every_write_request_has_an_entry_also_refused_ones(self, guarded: Stage) -> None:
        viewer = make_token(guarded, "vera", Role.VIEWER)
        root = write_dataset(guarded.home / "datasets" / "pets")
        guarded.http.post("/v1/datasets", json={"root": str(root)})
        send_request(guarded, "POST", "/v1/runs", viewer, json={"spec": make_spec()})
        send_request(guarded, "POST", "/v1/runs", None, json={"spec": make_spec()})
        guarded.http.post("/v1/runs:plan", json={"spec": make_spec()})
        guarded.http.get("/v1/runs")

        entries = guarded.http.get("/v1/audit").json()["items"]

        assert [(entry["actor"], entry["path"], entry["status"]) for entry in entries] == [
            ("nobody", "/v1/runs", 401),
            ("vera", "/v1/runs", 403),
            ("root", "/v1/datasets", 201),
        ]
        assert all(entry["request_id"] for entry in entries)

    def test_it_is_read_in_pages(self, guarded: Stage) -> None:
        for number in range(5):
            guarded.http.put(f"/v1/projects/p{number}", json={})

        first = guarded.http.get("/v1/audit?limit=3").json()
        second = guarded.http.get(f"/v1/audit?limit=3&cursor={first['next_cursor']}").json()

        paths = [entry["path"][-2:] for entry in first["items"] + second["items"]]
        assert paths == ["p4", "p3", "p2", "p1", "p0"]
        assert second["next_cursor"] is None

    def test_deliveries_of_workers_have_no_entry(self, stage: Stage) -> None:
        run_id, _ = submit_run_with_token(stage)
        before = len(stage.http.get("/v1/audit").json()["items"])

        stage.http.post(
            f"/v1/runs/{run_id}/attempts/1/deliveries", json={"first": 0, "records": []}
        )

        assert len(stage.http.get("/v1/audit").json()["items"]) == before


class TestLimits:
    """Rate limits, origins and headers."""

    def test_too_many_requests_are_answered_with_a_retry_time(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, rate_limit="3/minute") as stage:
            responses = [stage.http.get("/v1/runs") for _ in range(4)]

        assert [response.status_code for response in responses] == [200, 200, 200, 429]
        assert 1 <= int(responses[-1].headers["Retry-After"]) <= 60
        assert responses[-1].json()["code"] == "too_many_requests"

    def test_each_token_has_a_limit_of_its_own(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", rate_limit="2/minute") as stage:
            first, second = (make_token(stage, name, Role.VIEWER) for name in "ab")
            responses = [
                send_request(stage, "GET", "/v1/runs", first).status_code for _ in range(3)
            ]
            assert responses == [200, 200, 429]
            assert send_request(stage, "GET", "/v1/runs", second).status_code == 200

    def test_guesses_of_tokens_are_rate_limited(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", refusal_limit="2/minute") as stage:
            responses = [
                send_request(stage, "GET", "/v1/runs", "guess").status_code for _ in range(4)
            ]

        assert responses == [401, 401, 429, 429]

    def test_other_origins_are_not_allowed(self, stage: Stage) -> None:
        response = stage.http.options(
            "/v1/runs",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        )

        assert "access-control-allow-origin" not in response.headers

    @pytest.mark.parametrize("path", ["/v1/runs", "/v1/nothing", "/healthz", "/docs"])
    def test_every_answer_has_its_headers(self, stage: Stage, path: str) -> None:
        headers = stage.http.get(path).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Request-ID"]
        assert "Strict-Transport-Security" not in headers

    @pytest.mark.parametrize(
        ("request_id", "is_accepted"), [("abc-1", True), ("a b", False), ("x" * 65, False)]
    )
    def test_a_valid_request_id_is_kept(
        self, stage: Stage, request_id: str, is_accepted: bool
    ) -> None:
        headers = stage.http.get("/healthz", headers={"X-Request-ID": request_id}).headers

        assert (headers["X-Request-ID"] == request_id) is is_accepted
