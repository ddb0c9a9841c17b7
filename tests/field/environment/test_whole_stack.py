"""A stack in an odd home, on IPv6, in a shell with dead proxies and foreign variables."""

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.stack.components import ComponentName, ray_temp_dir
from service.stack.ports import choose_free_port
from tests.support.stack.shell import Shell

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,  # the parts are tested one by one in the other modules
]

ODD_NAME = 'it\'s {{ fileDirname }} 100%25 a#b? "q" \\ ü'
DEAD_PROXY = "http://127.0.0.1:9"
FOREIGN = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), DEAD_PROXY),
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "NO_PROXY": "[::1]",
    "no_proxy": "",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://bucket/x",
    "MLFLOW_TRACKING_TOKEN": "t",
    "RAY_AUTH_TOKEN": "abc",
    "RAY_ADDRESS": "ray://elsewhere:1",
    "RAY_TMPDIR": "/nowhere",
    "PYTHONIOENCODING": "ascii",
    "LANG": "C",
    "GUNICORN_CMD_ARGS": "--nope",
}


class IPv6Shell(Shell):
    """A shell whose components listen on ::1."""

    @property
    def env(self) -> dict[str, str]:
        return super().env | {
            "TANDEM_HOST": "::1",
            "TANDEM_RAY_URL": f"http://[::1]:{self.ports[ComponentName.RAY]}",
            "TANDEM_MLFLOW_URL": f"http://[::1]:{self.ports[ComponentName.MLFLOW]}",
        }


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell whose processes may have 256 open files; its stack does not run yet."""
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    shell = IPv6Shell(tmp_path / ODD_NAME, {name: choose_free_port() for name in ComponentName})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    yield shell
    shell.tandem("down")
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    shutil.rmtree(ray_temp_dir(shell.home).parent, ignore_errors=True)


def test_a_run_succeeds_and_all_checks_pass(shell: Shell, tmp_path: Path) -> None:
    shell.run("up", timeout_s=400)

    assert "succeeded" in shell.run("run", "quick/instant", "--watch", timeout_s=400)
    assert "All checks passed" in shell.run("doctor")
    assert "agrees with Ray, MLflow and the files" in shell.run("fsck")
    shell.run("backup", str(shell.home / "b.zip"))
    shell.run("down")
    assert shell.survivors() == []
    assert [path.name for path in tmp_path.iterdir()] == [ODD_NAME]
    assert list((shell.home / "mlflow" / "artifacts").rglob("best.pth"))
