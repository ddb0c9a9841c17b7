"""The service as a separate process, and a run in its database."""

import os
import subprocess
import time
from pathlib import Path

import httpx

from service.domain.states import RunState
from service.stack.ports import choose_free_port
from service.store.database import Database
from tests.support.factories import a_run
from tests.support.stack.shell import TANDEM


def a_service(home: Path, port: int) -> subprocess.Popen[bytes]:
    """The service as a process of its own; its Ray and MLflow are away."""
    nowhere = f"http://127.0.0.1:{choose_free_port()}"
    env = {
        **os.environ,
        "TANDEM_HOME": str(home),
        "TANDEM_PORT": str(port),
        "TANDEM_RAY_URL": nowhere,
        "TANDEM_MLFLOW_URL": nowhere,
    }
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([str(TANDEM), "serve"], env=env, stdout=quiet, stderr=quiet)
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process
    raise TimeoutError("the service does not answer")


def a_run_that_trains(home: Path) -> str:
    database = Database(f"sqlite:///{home / 'tandem.db'}")
    with database.transaction() as unit:
        unit.runs.add(a_run(state=RunState.RUNNING, attempt=1))
    database.close()
    return a_run().id
