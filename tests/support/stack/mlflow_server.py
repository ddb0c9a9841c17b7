"""A temporary MLflow server behind a port that tests can close and open."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from service.stack.ports import choose_free_port
from tests.support.stack.port_gate import PortGate

_TIMEOUT_S = 180


class MlflowServer:
    """An MLflow server that tests can stop and start, or only disconnect.

    A closed port is what a stopped server is to its clients, and opening it takes no time.
    """

    def __init__(self, folder: Path) -> None:
        port, self._server_port = choose_free_port(), choose_free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._gate = PortGate(port=port, upstream_port=self._server_port)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1"]
        command += ["--port", str(self._server_port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not self._responds():
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
        self.connect()

    def stop(self) -> None:
        self.disconnect()
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def connect(self) -> None:
        self._gate.open()

    def disconnect(self) -> None:
        """End all connections and refuse new ones; the server goes on."""
        self._gate.close()

    def _responds(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self._server_port}/health"
            return httpx.get(url, trust_env=False).is_success
        except httpx.HTTPError:
            return False
