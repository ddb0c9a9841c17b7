"""Whether MLflow answers is asked without mlflow, which takes a second to import."""

import json
import subprocess
import sys

import pytest

from tests.support.http_servers import run_answering_server
from workers.telemetry.mlflow_connection import request_experiments
from workers.telemetry.shipper import SinkUnavailable

_PROGRAM = """
import json, sys
from workers.cli.connections import check_connections
(finding,) = check_connections(service_url=None, mlflow_url=sys.argv[1])
print(json.dumps([finding.ok, [*sys.modules]]))
"""


def test_the_doctor_does_not_import_mlflow() -> None:
    with run_answering_server() as server:
        command = [sys.executable, "-c", _PROGRAM, server.url]
        printed = subprocess.check_output(command, text=True, timeout=120)

    is_ok, modules = json.loads(printed)
    assert is_ok
    assert server.requested == ["/api/2.0/mlflow/experiments/search"]
    assert not {"mlflow", "requests", "torch"} & set(modules)


def test_a_plugin_logs_in_by_mlflows_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "plugin-that-is-not-installed")

    with (
        run_answering_server() as server,
        pytest.warns(UserWarning, match="plugin-that-is-not-installed"),
    ):
        request_experiments(server.url)


def test_another_server_is_not_mlflow() -> None:
    with run_answering_server() as server, pytest.raises(SinkUnavailable, match="404"):
        request_experiments(f"{server.url}/missing")
