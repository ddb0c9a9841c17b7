"""Commands of tokens, projects, the audit and fsck."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from service.stack.ports import choose_free_port
from tests.support.service.service_process import a_service
from tests.support.stack.shell import TANDEM


def tandem(
    *words: str, home: Path, port: int = 1, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "TANDEM_HOME": str(home),
        "TANDEM_PORT": str(port),
        "TANDEM_RAY_URL": "http://127.0.0.1:1",
        "TANDEM_MLFLOW_URL": "http://127.0.0.1:1",
        "TANDEM_TOKEN_FILE": str(home / "no-token"),
        "COLUMNS": "200",
    }
    if token is not None:
        env["TANDEM_TOKEN"] = token
    return subprocess.run(
        [str(TANDEM), *words], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_first_token_needs_no_service_and_opens_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tandem("tokens", "create", "ada", "--role", "admin", "--expires", "30d", home=tmp_path)
    token, port = made.stdout.strip(), choose_free_port()
    monkeypatch.setenv("TANDEM_AUTH", "tokens")
    service = a_service(tmp_path, port)
    try:
        without = tandem("runs", home=tmp_path, port=port)
        with_it = tandem("runs", home=tmp_path, port=port, token=token)
        limited = tandem(
            *("projects", "set", "vision", "--max-runs", "4", "--weight", "2"),
            home=tmp_path,
            port=port,
            token=token,
        )
        shown = tandem("projects", "list", home=tmp_path, port=port, token=token)
        audit = tandem("audit", home=tmp_path, port=port, token=token)
        revoked = tandem("tokens", "revoke", token.split("_")[1], home=tmp_path)
        after = tandem("runs", home=tmp_path, port=port, token=token)
    finally:
        service.terminate()
        service.wait()

    assert made.returncode == 0, made.stderr
    assert "It is not shown again" in made.stderr
    assert re.fullmatch(r"tdm_[0-9a-f]{10}_[A-Za-z0-9_-]{43}", token)
    assert (without.returncode, "token" in without.stderr) == (1, True)
    assert with_it.returncode == 0, with_it.stderr
    assert "weight 2, at most 4 runs, any number of GPUs" in limited.stdout
    assert "vision" in shown.stdout
    assert "PUT /v1/projects/vision" in audit.stdout
    assert "is revoked" in revoked.stdout
    assert after.returncode == 1
    for said in (without, with_it, limited, shown, audit, revoked, after):
        assert "Traceback" not in said.stderr
        assert token.split("_", 2)[2] not in said.stdout + said.stderr
    listed = tandem("tokens", "list", home=tmp_path).stdout
    assert "ada" in listed
    assert "revoked" in listed


def test_a_period_that_is_none_is_refused(tmp_path: Path) -> None:
    refused = tandem("tokens", "create", "x", "--expires", "soon", home=tmp_path)

    assert refused.returncode == 1
    assert "30d" in refused.stderr


def test_fsck_tells_what_does_not_answer(tmp_path: Path) -> None:
    checked = tandem("fsck", home=tmp_path)

    assert checked.returncode == 1
    assert "✘ Ray does not answer" in checked.stdout
    assert "Traceback" not in checked.stderr
