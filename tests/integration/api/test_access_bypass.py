"""What a clever caller tries: other projects' runs, more than a role, places where secrets leak."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from configs.protocol.names import RunFile
from service.api.middleware.audit import AuditMiddleware
from service.api.permissions import ENDPOINT_ACCESS
from service.domain.access import Role
from service.domain.errors import TokenRefused
from service.main import create_app
from service.settings import Settings
from tests.support.factories import a_spec
from tests.support.service.access import a_started_run, a_token, ask
from tests.support.service.stage import Stage, open_stage

SECRET = "tdm_0123456789_" + "S" * 43


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Stage]:
    """A service with access control, a dataset, and an admin who speaks to it."""
    with open_stage(tmp_path, auth="tokens") as stage:
        stage.http.headers["Authorization"] = f"Bearer {a_token(stage, 'root', Role.ADMIN)}"
        stage.add_dataset()
        yield stage


@pytest.fixture
def ours(guarded: Stage) -> str:
    return a_token(guarded, "us", Role.RUNNER, project="ours")


@pytest.fixture
def theirs(guarded: Stage) -> str:
    return a_token(guarded, "them", Role.RUNNER, project="theirs")


class TestOtherProjects:
    """Nobody learns what is going on in another project."""

    def test_each_has_idempotency_keys_of_its_own(
        self, guarded: Stage, ours: str, theirs: str
    ) -> None:
        def launched(token: str, **more: Any) -> Any:
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k" * 200}
            body = {"spec": a_spec(), **more}
            return guarded.http.post("/v1/runs", headers=headers, json=body)

        first, other, again = launched(theirs), launched(ours), launched(ours)

        assert [answer.status_code for answer in (first, other, again)] == [201, 201, 200]
        assert first.json()["id"] != other.json()["id"] == again.json()["id"]
        assert other.json()["project"] == "ours"
        assert launched(ours, project="theirs").json()["code"] == "project_forbidden"
        reused = launched(ours, name="other").json()
        assert (reused["code"], "k" * 200 in reused["detail"]) == ("idempotency_key_reused", True)

    @pytest.mark.parametrize("kind", ["runs", "evaluations", "exports"])
    def test_a_list_does_not_go_on_from_a_run_of_others(
        self, guarded: Stage, ours: str, kind: str
    ) -> None:
        run_id = guarded.launch(spec=a_spec(), project="theirs")["id"]

        answers = [
            ask(guarded, "GET", f"/v1/{kind}?cursor={cursor}", ours)
            for cursor in (run_id, "r" + "0" * 12)
        ]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert {answer.json()["code"] for answer in answers} == {"run_not_found"}
        assert guarded.http.get(f"/v1/{kind}?cursor={run_id}").status_code == 200

    def test_projects_and_figures_of_others_are_not_shown(self, guarded: Stage, ours: str) -> None:
        guarded.launch(spec=a_spec(), project="theirs")
        for name in ("ours", "theirs"):
            guarded.http.put(f"/v1/projects/{name}", json={"max_runs": 2})

        listed = ask(guarded, "GET", "/v1/projects", ours).json()
        shown = ask(guarded, "GET", "/v1/projects/theirs", ours)
        ready = ask(guarded, "GET", "/readyz", ours).json()

        assert [project["name"] for project in listed] == ["ours"]
        assert (shown.status_code, shown.json()["code"]) == (403, "project_forbidden")
        assert ask(guarded, "GET", "/v1/projects/ours", ours).json()["max_runs"] == 2
        assert ready["runs_by_state"]["queued"] == 0
        assert guarded.http.get("/readyz").json()["runs_by_state"]["queued"] == 1
        assert ask(guarded, "GET", "/metrics", ours).status_code == 403


class TestMoreThanARole:
    """Nobody gives himself more than he has."""

    def test_there_is_no_admin_of_one_project(self, guarded: Stage) -> None:
        body = {"name": "x", "role": "admin", "project": "ours"}

        response = guarded.http.post("/v1/tokens", json=body)

        assert (response.status_code, response.json()["code"]) == (422, "token_refused")
        assert response.json()["errors"][0]["field"] == "project"
        with pytest.raises(TokenRefused):
            a_token(guarded, "x", Role.ADMIN, project="ours")

    def test_a_token_that_is_over_before_it_begins_is_refused(self, guarded: Stage) -> None:
        body = {"name": "x", "expires_at": guarded.clock.now().isoformat()}

        response = guarded.http.post("/v1/tokens", json=body)

        assert response.json()["errors"][0]["field"] == "expires_at"

    def test_that_a_token_is_used_does_not_take_its_revocation_back(
        self, guarded: Stage, ours: str
    ) -> None:
        token_id = ours.split("_")[1]
        guarded.http.delete(f"/v1/tokens/{token_id}")

        with guarded.ctx.store.transaction() as uow:
            uow.tokens.record_use(token_id, at=guarded.clock.now())
            token = uow.tokens.get(token_id)

        assert token is not None
        assert token.revoked_at is not None
        assert token.last_used_at == guarded.clock.now()

    def test_what_is_not_allowed_is_counted_too(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", rate_limit="3/minute") as stage:
            stage.http.headers["Authorization"] = f"Bearer {a_token(stage, 'a', Role.ADMIN)}"
            ours = a_token(stage, "us", Role.VIEWER, project="ours")

            answers = [
                ask(stage, "POST", "/v1/runs", ours, json={}).status_code,
                ask(stage, "GET", "/v1/runs/r1", ours).status_code,
                ask(stage, "GET", "/v1/tokens", ours).status_code,
                ask(stage, "GET", "/v1/tokens", ours).status_code,
            ]

        assert answers == [403, 404, 403, 429]

    def test_every_route_there_is_has_a_least_role(self, tmp_path: Path) -> None:
        app = create_app(Settings(home=tmp_path), with_loops=False)

        routes = {
            (method, found.path)
            for found in iter_route_contexts(app.routes)
            for method in set(found.methods or ()) - {"HEAD"}
        }

        assert routes == set(ENDPOINT_ACCESS)

    @pytest.mark.parametrize("name", ["x" * 64, "A", "a b", "a%00b", "%2e%2e"])
    def test_a_project_is_called_as_projects_of_runs_are(self, guarded: Stage, name: str) -> None:
        assert guarded.http.put(f"/v1/projects/{name}", json={}).status_code == 422


class TestStrangers:
    """What is said to who shows no token."""

    def test_readiness_is_one_word(self, guarded: Stage) -> None:
        assert ask(guarded, "GET", "/readyz", None).json() == {"status": "ready"}
        guarded.tracker.is_reachable = False
        guarded.app.state.health._asked_at_s = float("-inf")
        assert ask(guarded, "GET", "/readyz", None).json() == {"status": "degraded"}
        assert guarded.http.get("/readyz").json()["mlflow"] is False

    def test_a_bad_token_is_refused_where_none_is_needed(self, guarded: Stage) -> None:
        assert ask(guarded, "GET", "/readyz", SECRET).status_code == 401
        assert ask(guarded, "GET", "/healthz", SECRET).status_code == 200


class TestSecrets:
    """No text of a token is written down, wherever it was put by mistake."""

    def test_none_is_in_logs_audit_problems_or_files(
        self, guarded: Stage, capfd: pytest.CaptureFixture[str]
    ) -> None:
        _, seal_file = a_started_run(guarded)
        seal = seal_file.read_text()
        real = a_token(guarded, "ci", Role.RUNNER)
        asked = [
            guarded.http.request(method, path.format(secret=secret), **more)
            for secret in (real, SECRET, seal)
            for method, path, more in (
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

        places = {
            "log": "".join(capfd.readouterr()),
            "audit": guarded.http.get("/v1/audit?limit=1000").text,
            "figures": guarded.http.get("/metrics").text,
            **{
                f"{answer.request.method} {number}": answer.text + str(answer.headers)
                for number, answer in enumerate(asked)
                if not answer.is_success
            },
            **{
                str(file): file.read_bytes().decode("latin-1")
                for file in guarded.home.rglob("*")
                if file.is_file() and file.name != RunFile.TOKEN
            },
        }

        assert "/v1/tokens/td*_..." in places["log"]
        assert "/v1/tokens/td*_..." in places["audit"]
        held = {seal.rpartition(".")[2], real.split("_", 2)[2], SECRET.split("_", 2)[2]}
        assert [name for name, text in places.items() if any(one in text for one in held)] == []

    def test_a_worker_that_is_not_let_in_is_not_told_whose_attempt_it_is(
        self, guarded: Stage
    ) -> None:
        run_id, _ = a_started_run(guarded)
        path = "/v1/runs/{}/attempts/1/deliveries"

        known, unknown = (
            ask(guarded, "POST", path.format(of), SECRET, json={"first": 0, "records": []})
            for of in (run_id, "r" + "0" * 12)
        )

        assert (known.status_code, known.text) == (unknown.status_code, unknown.text)


class TestAudit:
    """A line for each change, whatever it is called and whatever happens."""

    def test_a_project_may_be_called_as_workers_endpoints_are(self, guarded: Stage) -> None:
        for name in ("log", "deliveries"):
            guarded.http.put(f"/v1/projects/{name}", json={})

        lines = guarded.http.get("/v1/audit").json()["items"]

        assert [line["path"] for line in lines[:2]] == [
            "/v1/projects/deliveries",
            "/v1/projects/log",
        ]

    def test_it_says_which_run_and_which_token(self, guarded: Stage) -> None:
        tokens = [a_token(guarded, "ci", Role.RUNNER) for _ in range(2)]
        made = ask(guarded, "POST", "/v1/runs", tokens[0], json={"spec": a_spec()}).json()["id"]
        ask(guarded, "POST", f"/v1/runs/{made}:cancel", tokens[1])
        ask(guarded, "POST", "/v1/runs/nonsense:cancel", tokens[1])

        lines = reversed(guarded.http.get("/v1/audit?limit=3").json()["items"])

        ids = [token.split("_")[1] for token in tokens]
        assert [(line["run_id"], line["token_id"]) for line in lines] == [
            (made, ids[0]),
            (made, ids[1]),
            (None, ids[1]),
        ]

    def test_what_comes_too_often_leaves_none(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", refusal_limit="2/minute") as stage:
            for _ in range(5):
                ask(stage, "POST", "/v1/runs", SECRET, json={})
            admin = a_token(stage, "root", Role.ADMIN)
            lines = ask(stage, "GET", "/v1/audit", admin).json()["items"]

        assert [line["status"] for line in lines] == [401, 401]

    def test_letters_that_no_database_takes_are_replaced(self, guarded: Stage) -> None:
        guarded.http.post("/v1/runs/a%00b%0Ac:cancel")

        assert guarded.http.get("/v1/audit").json()["items"][0]["path"] == "/v1/runs/a?b?c:cancel"

    def test_one_that_cannot_be_kept_leaves_the_answer_as_it_is(
        self, guarded: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("the disk is full")

        monkeypatch.setattr(f"{AuditMiddleware.__module__}.write_audit", fail)

        response = guarded.http.put("/v1/projects/ours", json={})

        assert response.status_code == 200
        said = capfd.readouterr().out
        assert "audit.lost" in said
        assert "the disk is full" in said


def test_a_fault_is_answered_with_all_headers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(stage.app.state.health, "checks", fail)

    response = stage.http.get("/readyz")

    assert response.json()["code"] == "internal_error"
    assert "1234" not in response.text
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch("[0-9a-f]{16}", response.headers["X-Request-ID"])
