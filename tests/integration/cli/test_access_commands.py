"""Commands of tokens, projects, the audit and fsck."""

import re
import subprocess
from pathlib import Path

import pytest

from service.stack.ports import choose_free_port
from tests.support.cli.in_process import call_tandem
from tests.support.service.service_process import start_service


def tandem(
    *arguments: str, home: Path, port: int = 1, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    variables = {
        "TANDEM_HOME": str(home),
        "TANDEM_PORT": str(port),
        "TANDEM_RAY_URL": "http://127.0.0.1:1",
        "TANDEM_MLFLOW_URL": "http://127.0.0.1:1",
        "TANDEM_TOKEN_FILE": str(home / "no-token"),
        "COLUMNS": "200",
    }
    if token is not None:
        variables["TANDEM_TOKEN"] = token
    return call_tandem(*arguments, variables=variables)


def test_the_first_token_needs_no_service_and_opens_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = tandem(
        "tokens", "create", "ada", "--role", "admin", "--expires", "30d", home=tmp_path
    )
    token, port = created.stdout.strip(), choose_free_port()
    monkeypatch.setenv("TANDEM_AUTH", "tokens")
    service = start_service(tmp_path, port)
    try:
        without_token = tandem("runs", home=tmp_path, port=port)
        with_token = tandem("runs", home=tmp_path, port=port, token=token)
        limited = tandem(
            *("projects", "set", "vision", "--max-runs", "4", "--weight", "2"),
            home=tmp_path,
            port=port,
            token=token,
        )
        projects = tandem("projects", "list", home=tmp_path, port=port, token=token)
        audit = tandem("audit", home=tmp_path, port=port, token=token)
        revoked = tandem("tokens", "revoke", token.split("_")[1], home=tmp_path)
        after = tandem("runs", home=tmp_path, port=port, token=token)
    finally:
        service.terminate()
        service.wait()

    assert created.returncode == 0, created.stderr
    assert "It is not shown again" in created.stderr
    assert re.fullmatch(r"tdm_[0-9a-f]{10}_[A-Za-z0-9_-]{43}", token)
    assert (without_token.returncode, "token" in without_token.stderr) == (1, True)
    assert with_token.returncode == 0, with_token.stderr
    assert "weight 2, at most 4 runs, any number of GPUs" in limited.stdout
    assert "vision" in projects.stdout
    assert "PUT /v1/projects/vision" in audit.stdout
    assert "is revoked" in revoked.stdout
    assert after.returncode == 1
    for result in (without_token, with_token, limited, projects, audit, revoked, after):
        assert "Traceback" not in result.stderr
        assert token.split("_", 2)[2] not in result.stdout + result.stderr
    tokens = tandem("tokens", "list", home=tmp_path).stdout
    assert "ada" in tokens
    assert "revoked" in tokens


def test_a_period_that_is_none_is_refused(tmp_path: Path) -> None:
    result = tandem("tokens", "create", "x", "--expires", "soon", home=tmp_path)

    assert result.returncode == 1
    assert "30d" in result.stderr


def test_fsck_tells_what_does_not_answer(tmp_path: Path) -> None:
    checked = tandem("fsck", home=tmp_path)

    assert checked.returncode == 1
    assert "✘ Ray does not answer" in checked.stdout
    assert "Traceback" not in checked.stderr
