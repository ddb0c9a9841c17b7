"""Running `tandem` with settings for a temporary stack on free ports."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.stack.components import ComponentName, ray_temp_dir
from service.stack.ports import choose_free_port, is_port_free
from service.stack.processes import find_marked_processes

TANDEM = Path(sys.executable).parent / "tandem"
TIMEOUT_S = 180


@dataclass(frozen=True)
class Shell:
    """Runs `tandem` for a stack in `home`."""

    home: Path
    ports: dict[ComponentName, int]

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "TANDEM_HOME": str(self.home),
            "TANDEM_PORT": str(self.ports[ComponentName.SERVICE]),
            "TANDEM_RAY_URL": f"http://127.0.0.1:{self.ports[ComponentName.RAY]}",
            "TANDEM_MLFLOW_URL": self.mlflow_url,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[ComponentName.SERVICE]}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[ComponentName.MLFLOW]}"

    def tandem(
        self, *arguments: str, timeout_s: float = TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and return its result."""
        return subprocess.run(
            [str(TANDEM), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> str:
        """Run a command that must succeed; returns its output."""
        result = self.tandem(*arguments, timeout_s=timeout_s)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def components(self) -> dict[str, dict[str, Any]]:
        """Get the components by name from `tandem status --json`."""
        result = self.tandem("status", "--json")
        return {item["name"]: item for item in json.loads(result.stdout)["components"]}

    def survivors(self) -> list[psutil.Process]:
        """List the running processes that the components of this stack have started."""
        return [
            process
            for component in ComponentName
            for process in find_marked_processes(f"{self.home}:{component}")
        ]


@contextmanager
def start_stack_with_digits(folder: Path) -> Iterator[Shell]:
    """Start a stack with MLflow's metrics; `tandem up` makes the dataset of quick/instant.

    At exit `tandem down` must leave no process behind and no port taken.
    """
    mlflow_metrics = folder / "mlflow-metrics"
    mlflow_metrics.mkdir()
    with open_shell(folder) as shell, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPOSE_PROMETHEUS", str(mlflow_metrics))
        shell.run("up")
        yield shell
        shell.run("down")
        assert shell.survivors() == []
        assert all(is_port_free(port) for port in shell.ports.values())
        assert {part["state"] for part in shell.components().values()} == {"down"}


@contextmanager
def open_shell(folder: Path) -> Iterator[Shell]:
    """Create a shell for an empty folder; stops its stack at exit."""
    shell = Shell(
        home=folder / "home", ports={component: choose_free_port() for component in ComponentName}
    )
    try:
        yield shell
    finally:
        shell.tandem("down")
        shutil.rmtree(ray_temp_dir(shell.home).parent, ignore_errors=True)
