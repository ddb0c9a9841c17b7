"""A shell whose settings point to a stack of its own, on free ports."""

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
from service.stack.ports import choose_free_port
from service.stack.processes import find_marked_processes
from tests.support.stack.quick_preset import TINY

TANDEM = Path(sys.executable).parent / "tandem"
PATIENCE_S = 180


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
        self, *words: str, patience_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command and returns what it said."""
        return subprocess.run(
            [str(TANDEM), *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )

    def does(self, *words: str, patience_s: float = PATIENCE_S) -> str:
        """Runs a command that has to succeed."""
        answer = self.tandem(*words, patience_s=patience_s)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def parts(self) -> dict[str, dict[str, Any]]:
        """The parts as `tandem status --json` tells."""
        answer = self.tandem("status", "--json")
        return {item["name"]: item for item in json.loads(answer.stdout)["components"]}

    def survivors(self) -> list[psutil.Process]:
        """Every process that a part of this stack has started and that still runs."""
        return [
            found
            for part in ComponentName
            for found in find_marked_processes(f"{self.home}:{part}")
        ]


@contextmanager
def stack_with_tiny_digits(folder: Path) -> Iterator[Shell]:
    """A shell whose stack is up, with MLflow's metrics, and that has the data of quick/instant."""
    mlflow_metrics = folder / "mlflow-metrics"
    mlflow_metrics.mkdir()
    with own_shell(folder) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPOSE_PROMETHEUS", str(mlflow_metrics))
        made.does("up")
        made.does("data", "digits", "--name", "digits-tiny", *TINY)
        yield made


@contextmanager
def own_shell(folder: Path) -> Iterator[Shell]:
    """A shell that takes its stack down at the end."""
    made = Shell(home=folder / "home", ports={part: choose_free_port() for part in ComponentName})
    yield made
    made.tandem("down")
    shutil.rmtree(ray_temp_dir(made.home), ignore_errors=True)
