"""The service as a separate process, and a run in its database."""

import os
import subprocess
import time
from pathlib import Path

import httpx

from service.domain.states import RunState
from service.stack.ports import choose_free_port
from service.store.database import Database
from tests.support.factories import make_run
from tests.support.stack.shell import TANDEM


def start_service(home: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the service as a process that cannot reach Ray or MLflow."""
    unused_url = f"http://127.0.0.1:{choose_free_port()}"
    env = {
        **os.environ,
        "TANDEM_HOME": str(home),
        "TANDEM_PORT": str(port),
        "TANDEM_RAY_URL": unused_url,
        "TANDEM_MLFLOW_URL": unused_url,
    }
    discard = subprocess.DEVNULL
    process = subprocess.Popen([str(TANDEM), "serve"], env=env, stdout=discard, stderr=discard)
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process
    raise TimeoutError("the service does not answer")


def insert_running_run(home: Path) -> str:
    database = Database(f"sqlite:///{home / 'tandem.db'}")
    with database.transaction() as uow:
        uow.runs.add(make_run(state=RunState.RUNNING, attempt=1))
    database.close()
    return make_run().id
