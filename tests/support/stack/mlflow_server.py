"""An MLflow server of the tests' own, on a free port."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from service.stack.ports import choose_free_port

_PATIENCE_S = 180


class Server:
    """An MLflow server that can be switched off and on."""

    def __init__(self, folder: Path) -> None:
        self.port = choose_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1"]
        words += ["--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        words += ["--artifacts-destination", str(self._folder / "artifacts")]
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            words, env=env, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        deadline_s = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert time.monotonic() < deadline_s
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False
