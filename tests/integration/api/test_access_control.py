"""Who comes in, what they may do, what they see, and what is kept of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.api.permissions import ENDPOINT_ACCESS
from service.domain.access import Role
from service.main import create_app
from service.settings import Settings
from tests.support.factories import a_bckd_spec, a_spec, write_dataset
from tests.support.service.access import a_started_run, a_token, ask
from tests.support.service.stage import Stage, open_stage

ADMIN = Role.ADMIN


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Stage]:
    """A service with access control, and an admin who speaks to it."""
    with open_stage(tmp_path, auth="tokens") as stage:
        stage.http.headers["Authorization"] = f"Bearer {a_token(stage, 'root', ADMIN)}"
        yield stage


class TestTokens:
    """One is needed, and a good one."""

    @pytest.mark.parametrize(
        "shown",
        [
            None,
            "",
            "nonsense",
            "tdm_0123456789_" + "x" * 43,
            "tdw_r1.1." + "x" * 43,
        ],
    )
    def test_without_a_good_one_nobody_comes_in_and_all_hear_the_same(
        self, guarded: Stage, shown: str | None
    ) -> None:
        response = ask(guarded, "GET", "/v1/runs", shown)

        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["code"] == "unauthenticated"
        assert response.text == ask(guarded, "GET", "/v1/runs", "tdm_other").text

    def test_one_with_another_secret_opens_nothing(self, guarded: Stage) -> None:
        token = a_token(guarded, "eve", Role.VIEWER)
        forged = token[:-4] + ("aaaa" if not token.endswith("aaaa") else "bbbb")

        assert ask(guarded, "GET", "/v1/runs", token).status_code == 200
        assert ask(guarded, "GET", "/v1/runs", forged).status_code == 401

    def test_those_that_the_environment_gives_open_what_their_role_does(
        self, tmp_path: Path
    ) -> None:
        admin, viewer = (f"tdm_{digit * 10}_{digit * 43}" for digit in "ab")
        with open_stage(
            tmp_path, auth="tokens", admin_token=admin, viewer_token=viewer
        ) as containers:
            answers = {
                name: [
                    ask(containers, "GET", "/metrics", token).status_code,
                    ask(containers, "GET", "/v1/audit", token).status_code,
                ]
                for name, token in {
                    "admin": admin,
                    "viewer": viewer,
                    "forged": admin[:-1] + "b",
                }.items()
            }
            shown = containers.http.get(
                "/v1/tokens", headers={"Authorization": f"Bearer {admin}"}
            ).json()

        assert answers == {"admin": [200, 200], "viewer": [200, 403], "forged": [401, 401]}
        assert shown == []

    def test_one_that_the_environment_gives_no_more_opens_nothing(self, tmp_path: Path) -> None:
        token = "tdm_" + "a" * 10 + "_" + "a" * 43
        with open_stage(tmp_path, auth="tokens", admin_token=token) as before:
            assert ask(before, "GET", "/v1/runs", token).status_code == 200

        with open_stage(tmp_path, auth="tokens") as after:
            assert ask(after, "GET", "/v1/runs", token).status_code == 401

    def test_one_that_is_over_or_taken_back_opens_nothing(self, guarded: Stage) -> None:
        short, gone = (a_token(guarded, name, Role.VIEWER, days=1) for name in ("a", "b"))
        assert ask(guarded, "GET", "/v1/runs", short).status_code == 200
        revoked = guarded.http.delete(f"/v1/tokens/{gone.split('_')[1]}")
        assert revoked.status_code == 200

        guarded.clock.advance(25 * 3600)

        assert ask(guarded, "GET", "/v1/runs", short).status_code == 401
        assert ask(guarded, "GET", "/v1/runs", gone).status_code == 401

    def test_its_text_is_shown_once_and_kept_nowhere(
        self, guarded: Stage, capfd: pytest.CaptureFixture[str]
    ) -> None:
        made = guarded.http.post("/v1/tokens", json={"name": "ci", "role": "runner"})
        text = made.json()["text"]
        assert ask(guarded, "GET", "/v1/runs", text).status_code == 200

        everywhere = [
            guarded.http.get("/v1/tokens").text,
            guarded.http.get("/v1/audit").text,
            capfd.readouterr().out,
            *(
                file.read_bytes().decode("latin-1")
                for file in guarded.home.rglob("*")
                if file.is_file()
            ),
        ]

        assert made.status_code == 201
        assert not any(text.split("_", 2)[2] in place for place in everywhere)

    def test_one_in_an_address_is_refused(self, guarded: Stage) -> None:
        response = guarded.http.get("/v1/runs?access_token=x")

        assert response.status_code == 400
        assert response.json()["code"] == "secret_in_address"

    def test_when_one_was_used_is_seen(self, guarded: Stage) -> None:
        guarded.http.get("/v1/runs")

        (token,) = guarded.http.get("/v1/tokens").json()

        assert token["last_used_at"] is not None
        assert "digest" not in token


class TestRoles:
    """What each may do."""

    def test_every_endpoint_has_a_least_role(self, tmp_path: Path) -> None:
        app = create_app(Settings(home=tmp_path), with_loops=False)
        paths = app.openapi()["paths"]
        endpoints = {
            (method.upper(), path) for path, methods in paths.items() for method in methods
        }

        assert endpoints <= set(ENDPOINT_ACCESS)
        shown = {path for _, path in endpoints}
        hidden = {path for _, path in ENDPOINT_ACCESS} - shown
        assert hidden == {
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
    def test_a_role_opens_what_it_should(
        self, guarded: Stage, role: Role, method: str, path: str, status: int
    ) -> None:
        body = None if method == "GET" else {"preset": "quick/instant"}

        response = ask(guarded, method, path, a_token(guarded, "x", role), json=body)

        assert response.status_code == status, response.text
        if status == 403:
            assert response.json()["code"] == "insufficient_role"

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
    def test_health_needs_no_token(self, guarded: Stage, path: str) -> None:
        assert ask(guarded, "GET", path, None).status_code == 200

    def test_an_unknown_address_tells_strangers_nothing(self, guarded: Stage) -> None:
        assert ask(guarded, "GET", "/v1/nothing", None).status_code == 401


class TestProjects:
    """A token of a project sees and changes its runs only."""

    def test_runs_of_others_do_not_exist(self, guarded: Stage) -> None:
        guarded.add_dataset()
        theirs = guarded.launch(spec=a_spec(), project="theirs")["id"]
        ours = a_token(guarded, "us", Role.RUNNER, project="ours")

        answers = [
            ask(guarded, "GET", f"/v1/runs/{theirs}", ours),
            ask(guarded, "GET", f"/v1/runs/{theirs}/logs", ours),
            ask(guarded, "GET", f"/v1/runs/{theirs}/events", ours),
            ask(guarded, "POST", f"/v1/runs/{theirs}:cancel", ours),
        ]

        assert {answer.status_code for answer in answers} == {404}
        assert {answer.json()["code"] for answer in answers} == {"run_not_found"}
        assert ask(guarded, "GET", "/v1/runs", ours).json()["items"] == []
        assert ask(guarded, "GET", "/v1/events", ours).json() == []
        assert guarded.run(theirs)["desired"] == "run"

    def test_its_runs_are_launched_in_its_project(self, guarded: Stage) -> None:
        guarded.add_dataset()
        ours = a_token(guarded, "us", Role.RUNNER, project="ours")

        made = ask(guarded, "POST", "/v1/runs", ours, json={"spec": a_spec()})
        elsewhere = ask(
            guarded, "POST", "/v1/runs", ours, json={"spec": a_spec(), "project": "theirs"}
        )

        assert made.json()["project"] == "ours"
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "project_forbidden")
        events = guarded.http.get(f"/v1/runs/{made.json()['id']}/events").json()
        assert events[0]["actor"] == "us"

    def test_a_teacher_that_others_train_is_not_found(self, guarded: Stage) -> None:
        guarded.add_dataset()
        theirs = guarded.launch(spec=a_spec(), project="theirs")["id"]
        ours = a_token(guarded, "us", Role.RUNNER, project="ours")

        response = ask(
            guarded, "POST", "/v1/runs", ours, json={"spec": a_bckd_spec(teacher={"run": theirs})}
        )

        assert response.status_code == 422
        assert response.json()["errors"][0]["code"] == "run_not_found"

    def test_what_a_project_may_take_is_set_and_shown(self, guarded: Stage) -> None:
        wanted = {"weight": 2.0, "max_runs": 3, "max_gpus": None}

        guarded.http.put("/v1/projects/ours", json=wanted)

        assert guarded.http.get("/v1/projects").json() == [{"name": "ours", **wanted}]
        assert guarded.http.get("/v1/projects/other").json()["max_runs"] is None


class TestWorkers:
    """A worker's token is good for its own attempt only."""

    def test_it_lies_in_the_run_folder_for_its_owner_only(self, guarded: Stage) -> None:
        _, file = a_started_run(guarded)

        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().startswith("tdw_")

    def test_it_opens_deliveries_and_the_log_of_its_attempt(self, guarded: Stage) -> None:
        run_id, file = a_started_run(guarded)
        other, _ = a_started_run(guarded)
        seal, empty = file.read_text(), {"first": 0, "records": []}

        def answer(path: str, **more: Any) -> int:
            return ask(guarded, "POST", path, seal, **more).status_code

        own = f"/v1/runs/{run_id}/attempts"
        assert answer(f"{own}/1/deliveries", json=empty) == 200
        assert answer(f"{own}/1/log", content=b"x") == 200
        assert answer("/v1/attempts:over", json={"attempts": []}) == 200
        assert answer(f"{own}/2/deliveries", json=empty) == 401
        assert answer(f"/v1/runs/{other}/attempts/1/deliveries", json=empty) == 401
        assert answer(f"/v1/runs/{run_id}:cancel") == 401
        assert ask(guarded, "GET", "/v1/runs", seal).status_code == 401

    def test_people_do_not_speak_for_workers(self, guarded: Stage) -> None:
        run_id, _ = a_started_run(guarded)

        response = guarded.http.post(
            f"/v1/runs/{run_id}/attempts/1/deliveries", json={"first": 0, "records": []}
        )

        assert response.status_code == 401

    def test_the_key_outlives_the_service(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens") as first:
            key = first.ctx.signing_key
        with open_stage(tmp_path, auth="tokens") as second:
            assert second.ctx.signing_key == key
        assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


class TestAudit:
    """Who wanted to change what."""

    def test_every_change_leaves_a_line_refused_ones_too(self, guarded: Stage) -> None:
        viewer = a_token(guarded, "vera", Role.VIEWER)
        root = write_dataset(guarded.home / "datasets" / "pets")
        guarded.http.post("/v1/datasets", json={"root": str(root)})
        ask(guarded, "POST", "/v1/runs", viewer, json={"spec": a_spec()})
        ask(guarded, "POST", "/v1/runs", None, json={"spec": a_spec()})
        guarded.http.post("/v1/runs:plan", json={"spec": a_spec()})
        guarded.http.get("/v1/runs")

        lines = guarded.http.get("/v1/audit").json()["items"]

        assert [(line["actor"], line["path"], line["status"]) for line in lines] == [
            ("nobody", "/v1/runs", 401),
            ("vera", "/v1/runs", 403),
            ("root", "/v1/datasets", 201),
        ]
        assert all(line["request_id"] for line in lines)

    def test_it_is_read_in_pages(self, guarded: Stage) -> None:
        for number in range(5):
            guarded.http.put(f"/v1/projects/p{number}", json={})

        first = guarded.http.get("/v1/audit?limit=3").json()
        rest = guarded.http.get(f"/v1/audit?limit=3&before={first['next_cursor']}").json()

        paths = [line["path"][-2:] for line in first["items"] + rest["items"]]
        assert paths == ["p4", "p3", "p2", "p1", "p0"]
        assert rest["next_cursor"] is None

    def test_what_workers_bring_is_no_line(self, stage: Stage) -> None:
        run_id, _ = a_started_run(stage)
        before = len(stage.http.get("/v1/audit").json()["items"])

        stage.http.post(
            f"/v1/runs/{run_id}/attempts/1/deliveries", json={"first": 0, "records": []}
        )

        assert len(stage.http.get("/v1/audit").json()["items"]) == before


class TestLimits:
    """How often, how large, and from where."""

    def test_too_many_requests_are_told_when_to_come_again(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, rate_limit="3/minute") as stage:
            answers = [stage.http.get("/v1/runs") for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        assert answers[-1].json()["code"] == "too_many_requests"

    def test_each_token_has_a_limit_of_its_own(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", rate_limit="2/minute") as stage:
            one, other = (a_token(stage, name, Role.VIEWER) for name in "ab")
            answers = [ask(stage, "GET", "/v1/runs", one).status_code for _ in range(3)]
            assert answers == [200, 200, 429]
            assert ask(stage, "GET", "/v1/runs", other).status_code == 200

    def test_who_guesses_is_slowed_down(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens", refusal_limit="2/minute") as stage:
            answers = [ask(stage, "GET", "/v1/runs", "guess").status_code for _ in range(4)]

        assert answers == [401, 401, 429, 429]

    def test_browsers_of_other_pages_get_no_leave(self, stage: Stage) -> None:
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

    @pytest.mark.parametrize(("came", "kept"), [("abc-1", True), ("a b", False), ("x" * 65, False)])
    def test_a_request_keeps_the_id_that_it_came_with(
        self, stage: Stage, came: str, kept: bool
    ) -> None:
        answered = stage.http.get("/healthz", headers={"X-Request-ID": came}).headers

        assert (answered["X-Request-ID"] == came) is kept
