"""Attempts to bypass access control: runs of other projects, higher roles, leaks of secrets."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from configs.protocol.names import RunFile
from service.api.permissions import ENDPOINT_ACCESS
from service.domain.errors.requests import TokenRefused
from service.domain.vocabulary import Role
from service.main import create_app
from service.settings import Settings
from tests.support.factories import make_spec
from tests.support.service.access import make_token, send_request, submit_run_with_token
from tests.support.service.stage import Stage, open_stage

SECRET = "tdm_0123456789_" + "S" * 43


@pytest.fixture
def own_token(guarded: Stage) -> str:
    return make_token(guarded, "us", Role.RUNNER, project="ours")


@pytest.fixture
def other_token(guarded: Stage) -> str:
    return make_token(guarded, "them", Role.RUNNER, project="theirs")


class TestOtherProjects:
    """Other projects are invisible."""

    def test_each_has_idempotency_keys_of_its_own(
        self, guarded: Stage, own_token: str, other_token: str
    ) -> None:
        guarded.add_dataset()

        def launch(token: str, **options: Any) -> Any:
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k" * 200}
            body = {"spec": make_spec(), **options}
            return guarded.http.post("/v1/runs", headers=headers, json=body)

        first, other, repeated = launch(other_token), launch(own_token), launch(own_token)

        assert [response.status_code for response in (first, other, repeated)] == [201, 201, 200]
        assert first.json()["id"] != other.json()["id"] == repeated.json()["id"]
        assert other.json()["project"] == "ours"
        assert launch(own_token, project="theirs").json()["code"] == "project_forbidden"
        reused = launch(own_token, name="other").json()
        assert (reused["code"], "k" * 200 in reused["detail"]) == ("idempotency_key_reused", True)

    @pytest.mark.parametrize("kind", ["runs", "evaluations", "exports"])
    def test_a_list_does_not_go_on_from_a_run_of_others(
        self, guarded: Stage, own_token: str, kind: str
    ) -> None:
        guarded.add_dataset()
        run_id = guarded.launch(spec=make_spec(), project="theirs")["id"]

        responses = [
            send_request(guarded, "GET", f"/v1/{kind}?cursor={cursor}", own_token)
            for cursor in (run_id, "r" + "0" * 12)
        ]

        assert [response.status_code for response in responses] == [404, 404]
        assert {response.json()["code"] for response in responses} == {"run_not_found"}
        assert guarded.http.get(f"/v1/{kind}?cursor={run_id}").status_code == 200

    def test_other_projects_and_their_metrics_are_hidden(
        self, guarded: Stage, own_token: str
    ) -> None:
        guarded.add_dataset()
        guarded.launch(spec=make_spec(), project="theirs")
        for name in ("ours", "theirs"):
            guarded.http.put(f"/v1/projects/{name}", json={"max_runs": 2})

        projects = send_request(guarded, "GET", "/v1/projects", own_token).json()
        response = send_request(guarded, "GET", "/v1/projects/theirs", own_token)
        readiness = send_request(guarded, "GET", "/readyz", own_token).json()

        assert [project["name"] for project in projects] == ["ours"]
        assert (response.status_code, response.json()["code"]) == (403, "project_forbidden")
        assert send_request(guarded, "GET", "/v1/projects/ours", own_token).json()["max_runs"] == 2
        assert readiness["runs_by_state"]["queued"] == 0
        assert guarded.http.get("/readyz").json()["runs_by_state"]["queued"] == 1
        assert send_request(guarded, "GET", "/metrics", own_token).status_code == 403


class TestMoreThanARole:
    """No token can raise its own privileges."""

    def test_an_admin_cannot_be_limited_to_a_project(self, guarded: Stage) -> None:
        body = {"name": "x", "role": "admin", "project": "ours"}

        response = guarded.http.post("/v1/tokens", json=body)

        assert (response.status_code, response.json()["code"]) == (422, "token_refused")
        assert response.json()["errors"][0]["field"] == "project"
        with pytest.raises(TokenRefused):
            make_token(guarded, "x", Role.ADMIN, project="ours")

    def test_a_token_that_is_over_before_it_begins_is_refused(self, guarded: Stage) -> None:
        body = {"name": "x", "expires_at": guarded.clock.now().isoformat()}

        response = guarded.http.post("/v1/tokens", json=body)

        assert response.json()["errors"][0]["field"] == "expires_at"

    def test_use_of_a_token_does_not_undo_its_revocation(
        self, guarded: Stage, own_token: str
    ) -> None:
        token_id = own_token.split("_")[1]
        guarded.http.delete(f"/v1/tokens/{token_id}")

        with guarded.ctx.store.transaction() as uow:
            uow.tokens.record_use(token_id, at=guarded.clock.now())
            token = uow.tokens.get(token_id)

        assert token is not None
        assert token.revoked_at is not None
        assert token.last_used_at == guarded.clock.now()

    def test_what_is_not_allowed_is_counted_too(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", rate_limit="3/minute") as stage:
            stage.http.headers["Authorization"] = f"Bearer {make_token(stage, 'a', Role.ADMIN)}"
            own_token = make_token(stage, "us", Role.VIEWER, project="ours")

            responses = [
                send_request(stage, "POST", "/v1/runs", own_token, json={}).status_code,
                send_request(stage, "GET", "/v1/runs/r1", own_token).status_code,
                send_request(stage, "GET", "/v1/tokens", own_token).status_code,
                send_request(stage, "GET", "/v1/tokens", own_token).status_code,
            ]

        assert responses == [403, 404, 403, 429]

    def test_every_route_has_an_access_level(self, tmp_path: Path) -> None:
        app = create_app(Settings(home=tmp_path), with_loops=False)

        routes = {
            (method, route.path)
            for route in iter_route_contexts(app.routes)
            for method in set(route.methods or ()) - {"HEAD"}
        }

        assert routes == set(ENDPOINT_ACCESS)

    def test_apps_share_their_routes(self, tmp_path: Path) -> None:
        """FastAPI builds the models of an endpoint when it is decorated, and again when its router
        is included."""
        first, second = (
            create_app(Settings(home=tmp_path), with_loops=False).routes for _ in range(2)
        )

        own = [route for route in first if not any(route is other for other in second)]
        assert [route.path for route in iter_route_contexts(own)] == ["/openapi.json"]

    @pytest.mark.parametrize("name", ["x" * 64, "A", "a b", "a%00b", "%2e%2e"])
    def test_a_project_is_called_as_projects_of_runs_are(self, guarded: Stage, name: str) -> None:
        assert guarded.http.put(f"/v1/projects/{name}", json={}).status_code == 422


class TestStrangers:
    """Responses to callers without a token."""

    def test_readiness_is_the_status_alone(self, guarded: Stage) -> None:
        assert send_request(guarded, "GET", "/readyz", None).json() == {"status": "ready"}
        guarded.tracker.is_reachable = False
        guarded.app.state.health._checked_at_s = float("-inf")
        assert send_request(guarded, "GET", "/readyz", None).json() == {"status": "degraded"}
        assert guarded.http.get("/readyz").json()["mlflow"] is False

    def test_a_bad_token_is_refused_where_none_is_needed(self, guarded: Stage) -> None:
        assert send_request(guarded, "GET", "/readyz", SECRET).status_code == 401
        assert send_request(guarded, "GET", "/healthz", SECRET).status_code == 200


class TestSecrets:
    """No token is written anywhere, wherever a caller puts it by mistake."""

    def test_none_is_in_logs_audit_problems_or_files(
        self, guarded: Stage, capfd: pytest.CaptureFixture[str]
    ) -> None:
        _, attempt_token_file = submit_run_with_token(guarded)
        attempt_token = attempt_token_file.read_text()
        runner_token = make_token(guarded, "ci", Role.RUNNER)
        responses = [
            guarded.http.request(method, path.format(secret=secret), **options)
            for secret in (runner_token, SECRET, attempt_token)
            for method, path, options in (
                ("DELETE", "/v1/tokens/{secret}", {}),
                ("PUT", "/v1/projects/{secret}", {"json": {}}),
                ("GET", "/v1/runs/{secret}", {}),
                ("GET", "/v1/datasets/{secret}", {}),
                ("POST", "/v1/{secret}", {"json": {secret: secret}}),
                ("POST", "/v1/runs", {"json": {secret: secret}}),
                ("POST", "/v1/runs", {"json": {"preset": secret}}),
                ("POST", "/v1/runs:plan", {"json": {"spec": {secret: secret}}}),
                ("GET", "/v1/runs?token={secret}", {}),
                ("GET", "/v1/runs?cursor={secret}", {}),
                ("GET", "/v1/runs", {"headers": {"Authorization": f"Bearer {secret}"}}),
                ("GET", "/v1/runs", {"headers": {"Authorization": f"Basic {secret}"}}),
                ("POST", "/v1/runs", {"headers": {"X-Request-ID": secret}}),
            )
        ]

        texts = {
            "log": "".join(capfd.readouterr()),
            "audit": guarded.http.get("/v1/audit?limit=1000").text,
            "figures": guarded.http.get("/metrics").text,
            **{
                f"{response.request.method} {number}": response.text + str(response.headers)
                for number, response in enumerate(responses)
                if not response.is_success
            },
            **{
                str(file): file.read_bytes().decode("latin-1")
                for file in guarded.home.rglob("*")
                if file.is_file() and file.name != RunFile.TOKEN
            },
        }

        assert "/v1/tokens/td*_..." in texts["log"]
        assert "/v1/tokens/td*_..." in texts["audit"]
        secret_parts = {
            attempt_token.rpartition(".")[2],
            runner_token.split("_", 2)[2],
            SECRET.split("_", 2)[2],
        }
        assert [
            name for name, text in texts.items() if any(part in text for part in secret_parts)
        ] == []

    def test_a_refused_worker_does_not_learn_which_attempts_exist(self, guarded: Stage) -> None:
        run_id, _ = submit_run_with_token(guarded)
        path = "/v1/runs/{}/attempts/1/deliveries"

        existing, unknown = (
            send_request(
                guarded,
                "POST",
                path.format(target_run_id),
                SECRET,
                json={"first": 0, "records": []},
            )
            for target_run_id in (run_id, "r" + "0" * 12)
        )

        assert (existing.status_code, existing.text) == (unknown.status_code, unknown.text)


class TestAudit:
    """An audit entry for every write request."""

    def test_a_project_may_be_called_as_workers_endpoints_are(self, guarded: Stage) -> None:
        for name in ("log", "deliveries"):
            guarded.http.put(f"/v1/projects/{name}", json={})

        entries = guarded.http.get("/v1/audit").json()["items"]

        assert [entry["path"] for entry in entries[:2]] == [
            "/v1/projects/deliveries",
            "/v1/projects/log",
        ]

    def test_it_says_which_run_and_which_token(self, guarded: Stage) -> None:
        guarded.add_dataset()
        tokens = [make_token(guarded, "ci", Role.RUNNER) for _ in range(2)]
        launched_id = send_request(
            guarded, "POST", "/v1/runs", tokens[0], json={"spec": make_spec()}
        ).json()["id"]
        send_request(guarded, "POST", f"/v1/runs/{launched_id}:cancel", tokens[1])
        send_request(guarded, "POST", "/v1/runs/nonsense:cancel", tokens[1])

        entries = reversed(guarded.http.get("/v1/audit?limit=3").json()["items"])

        ids = [token.split("_")[1] for token in tokens]
        assert [(entry["run_id"], entry["token_id"]) for entry in entries] == [
            (launched_id, ids[0]),
            (launched_id, ids[1]),
            (None, ids[1]),
        ]

    def test_rate_limited_requests_leave_no_entry(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", refusal_limit="2/minute") as stage:
            for _ in range(5):
                send_request(stage, "POST", "/v1/runs", SECRET, json={})
            admin = make_token(stage, "root", Role.ADMIN)
            entries = send_request(stage, "GET", "/v1/audit", admin).json()["items"]

        assert [entry["status"] for entry in entries] == [401, 401]

    def test_letters_that_no_database_takes_are_replaced(self, guarded: Stage) -> None:
        guarded.http.post("/v1/runs/a%00b%0Ac:cancel")

        assert guarded.http.get("/v1/audit").json()["items"][0]["path"] == "/v1/runs/a?b?c:cancel"


def test_an_internal_error_has_all_headers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(stage.app.state.health, "checks", fail)

    response = stage.http.get("/readyz")

    assert response.json()["code"] == "internal_error"
    assert "1234" not in response.text
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch("[0-9a-f]{16}", response.headers["X-Request-ID"])
