"""Starts the programs that train a step on request, ours and that of the published code."""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).parents[3]


class StepProgram(AbstractContextManager["StepProgram"]):
    """A program with one model in memory, which trains it by a step for each request.

    `steps` are the answers to all requests for a step so far.
    """

    def __init__(self, command: list[str], *, python_path: Path = _ROOT) -> None:
        self.steps: list[dict[str, Any]] = []
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(_ROOT), str(python_path))),
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=_ROOT,
            env=environment,
        )

    @classmethod
    def start_tandem(cls, case: Path, *options: str) -> Self:
        """Tandem's step; `options` are those of `tests.bench.step.tandem_step`."""
        command = [sys.executable, "-m", "tests.bench.step.tandem_step", str(case), *options]
        return cls(command)

    @classmethod
    def start_published(cls, case: Path, *, checkout: Path) -> Self:
        """The step of the published code in `checkout`."""
        command = [sys.executable, "-m", "tests.bench.step.published", str(case)]
        return cls(command, python_path=checkout)

    def step(self) -> None:
        """Train one step, and keep its measurements in `steps`."""
        self.steps.append(self._ask("step"))

    def count(self) -> dict[str, int]:
        """Train one step, and return its `operators` and `host_reads`."""
        return self._ask("count")

    def _ask(self, request: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}.")
        document: dict[str, Any] = json.loads(answer)
        return document

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
