"""Output of tokens, projects and the audit log."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import service.context
import service.usecases.access as usecase
from service.api.schemas.access import AuditPage, AuditView, ProjectView
from service.cli import access
from service.domain.access import Token
from service.domain.vocabulary import Role
from tests.support.cli.outputs import CommandLine
from tests.support.service.run_views import NOW

TOKENS = [
    Token(
        id="00f067aa0b",
        name="ada",
        role=Role.ADMIN,
        project=None,
        digest="",
        created_at=NOW - timedelta(days=3),
        last_used_at=NOW,
    ),
    Token(
        id="4bf92f3577",
        name="continuous-integration of the detectors",
        role=Role.RUNNER,
        project="microscopy-of-blood-cells",
        digest="",
        created_at=NOW - timedelta(days=60),
        expires_at=NOW - timedelta(days=30),
    ),
    Token(
        id="a3ce929d0e",
        name="dashboard",
        role=Role.VIEWER,
        project=None,
        digest="",
        created_at=NOW,
        expires_at=NOW + timedelta(days=30),
        revoked_at=NOW,
    ),
]
PROJECTS = [
    ProjectView(name="default", weight=1.0, max_runs=None, max_gpus=None, max_priority=0),
    ProjectView(
        name="microscopy-of-blood-cells", weight=2.5, max_runs=4, max_gpus=2, max_priority=10
    ),
]
CONTEXT = SimpleNamespace(clock=SimpleNamespace(now=lambda: NOW))
ENTRIES = [
    AuditView(
        id=2,
        at=NOW,
        actor="ada",
        method="POST",
        path="/v1/runs/r0123456789ab:prioritize",
        status=200,
        request_id="4bf92f3577b34da6a3ce929d0e0e4736",
        address="192.168.100.200",
        run_id="r0123456789ab",
        token_id="00f067aa0b",
    ),
    AuditView(
        id=1,
        at=NOW - timedelta(minutes=3),
        actor="user",
        method="PUT",
        path="/v1/projects/microscopy-of-blood-cells",
        status=403,
        request_id="00f067aa0ba902b74bf92f3577b34da6",
        address="127.0.0.1",
        run_id=None,
        token_id=None,
    ),
]


def test_tokens(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "read_tokens", lambda: (TOKENS, NOW))

    command_line.check("tokens_list", "tokens", "list")

    documents = command_line.read_json("tokens", "list")
    assert [(token["id"], token["state"]) for token in documents] == [
        ("00f067aa0b", "valid"),
        ("4bf92f3577", "expired"),
        ("a3ce929d0e", "revoked"),
    ]
    assert "digest" not in documents[0]


def test_a_token_is_shown_once_and_revoked(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = replace(TOKENS[1], expires_at=NOW + timedelta(days=30))
    monkeypatch.setattr(service.context, "open_context", lambda _settings: nullcontext(CONTEXT))
    monkeypatch.setattr(
        usecase, "create_token", lambda *_, **_options: (token, f"tdm_{token.id}_{'s' * 43}")
    )
    monkeypatch.setattr(usecase, "revoke_token", lambda _id, **_options: token)
    options = ("--project", str(token.project), "--expires", "30d")

    outputs = command_line.check("tokens_create", "tokens", "create", token.name, *options)
    command_line.check("tokens_revoke", "tokens", "revoke", token.id)

    for output in outputs.values():
        assert output.text.splitlines()[0] == f"tdm_{token.id}_{'s' * 43}"


def test_a_token_is_created_listed_and_revoked_by_its_id(
    command_line: CommandLine, tmp_path: Path
) -> None:
    text = command_line.run("tokens", "create", "ada", home=tmp_path).text.split()[0]
    listed = command_line.run("tokens", "list", width=80, home=tmp_path).text

    token_id = listed.splitlines()[2].split()[0]

    assert token_id == text.split("_")[1]
    assert command_line.run("tokens", "revoke", token_id, home=tmp_path).exit_code == 0


def test_projects(command_line: CommandLine) -> None:
    api = {"GET /v1/projects": PROJECTS}

    command_line.check("projects_list", "projects", "list", api=api)

    assert command_line.read_json("projects", "list", api=api)[1]["max_gpus"] == 2


def test_a_project_is_set(command_line: CommandLine) -> None:
    name = PROJECTS[1].name
    api = {f"GET /v1/projects/{name}": PROJECTS[1], f"PUT /v1/projects/{name}": PROJECTS[1]}

    command_line.check("projects_set", "projects", "set", name, "--max-gpus", "2", api=api)

    assert command_line.read_json("projects", "set", name, api=api)["weight"] == 2.5


def test_audit(command_line: CommandLine) -> None:
    api = {"GET /v1/audit": AuditPage(items=ENTRIES, next_cursor=None)}

    command_line.check("audit", "audit", api=api)

    assert command_line.read_json("audit", api=api)[0]["token_id"] == "00f067aa0b"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "name: must not be empty"),
        ("ada\nrole: admin", "name: needs a text without control characters"),
        ("a" * 65, "name: needs at most 64 characters"),
    ],
    ids=["empty", "two lines", "long"],
)
def test_the_name_of_a_token_follows_the_rule_of_the_api(
    command_line: CommandLine, tmp_path: Path, name: str, problem: str
) -> None:
    output = command_line.run("tokens", "create", name, home=tmp_path)

    assert output.exit_code == 1
    assert problem in output.text
    assert "tdm_" not in output.text
