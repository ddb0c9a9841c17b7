"""Seconds to a run's first training step: of the trainer in a shell, and after a request."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from service.api.schemas.runs import RunRequest
from service.client import TandemClient
from tests.bench.table import Comparison, measure_alternately, measure_s
from tests.support.stack.shell import Shell, start_stack_with_digits
from tests.support.training.digits import write_digits
from tests.support.training.runs import make_spec, read_records
from tests.support.waiting import wait_until

MAX_SHELL_RATIO = 0.6
MAX_LAUNCH_OVERHEAD_S = 1.5
_TIMEOUT_S = 300.0
_MAX_ROUNDS = 5
_MAIN = "from workers.cli import main; main()"
_UNUSED_LIBRARIES = (
    "import matplotlib.pyplot, mlflow, scipy.optimize, sklearn.mixture, torch._dynamo, "
    "torch.utils.cpp_extension, torchvision"
)
"""What a trainer would import without DECISIONS 83."""


@dataclass(frozen=True)
class Trainer:
    """Starts a trainer in a shell until its first training step."""

    program: str
    """Python, which ends with a call of `tandem-worker`."""

    spec: Path
    new_run_dirs: Iterator[Path]

    def start(self) -> float:
        """Train one step, and end the process; returns the CPU seconds that it has used."""
        run_dir = next(self.new_run_dirs)
        arguments = ("train", "--spec", str(self.spec), "--run-dir", str(run_dir))
        process = subprocess.Popen(
            [sys.executable, "-c", self.program, *arguments],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_first_step(run_dir)
        finally:
            process.kill()
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = -signal.SIGKILL
        return usage.ru_utime + usage.ru_stime


def measure_startup(*, rounds: int, folder: Path) -> list[Comparison]:
    """Both ways to a first step, in at most `_MAX_ROUNDS` rounds; starts a stack."""
    rounds = min(_MAX_ROUNDS, rounds)
    return [*measure_shell(rounds=rounds, folder=folder), measure_launch(rounds, folder)]


def measure_shell(*, rounds: int, folder: Path) -> list[Comparison]:
    """The trainer in a shell, compared with one that imports all that mmdet names."""
    digits = write_digits(folder / "digits", train=96, val=16)
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(make_spec(digits)))
    run_dirs = (folder / f"shell-{number}" for number in count())
    cpu_s: dict[str, list[float]] = {}

    def start(program: str) -> Callable[[], None]:
        trainer = Trainer(program, spec, run_dirs)
        return lambda: cpu_s.setdefault(program, []).append(trainer.start())

    loaded = f"{_UNUSED_LIBRARIES}; {_MAIN}"
    tandem, reference = measure_alternately(start(_MAIN), start(loaded), rounds=rounds)
    name = "tandem-worker train to first training step"
    return [
        Comparison(name, tandem, reference, target=MAX_SHELL_RATIO),
        Comparison(
            f"{name}, CPU seconds",
            cpu_s[_MAIN][-rounds:],
            cpu_s[loaded][-rounds:],
            target=MAX_SHELL_RATIO,
        ),
    ]


def measure_launch(rounds: int, folder: Path) -> Comparison:
    """POST /v1/runs to the first step, compared with the trainer in a shell plus 1.5 s."""
    seconds: list[tuple[float, float]] = []
    with start_stack(folder / "stack") as shell, TandemClient(shell.url) as client:
        for number in range(rounds + 1):
            seconds.append(_measure_launch_round(shell, client, number, folder))
    measured = seconds[1:]  # the first job of a cluster takes longer
    return Comparison(
        f"POST /v1/runs to first training step; reference: shell plus {MAX_LAUNCH_OVERHEAD_S} s",
        [launch_s for launch_s, _ in measured],
        [shell_s + MAX_LAUNCH_OVERHEAD_S for _, shell_s in measured],
        target=1.0,
    )


def _measure_launch_round(
    shell: Shell, client: TandemClient, number: int, folder: Path
) -> tuple[float, float]:
    """Seconds of a launch, and then those of its spec in a shell."""
    launched: list[Path] = []
    changes: dict[str, Any] = {"seed": 1000 + number, "schedule.epochs": 1}

    def launch() -> None:
        run = client.launch(RunRequest(preset="quick/instant", changes=changes))
        launched.append(shell.home / "runs" / run.id)
        wait_for_first_step(launched[0])

    launch_s = measure_s(launch)
    client.wait(launched[0].name, timeout_s=_TIMEOUT_S)
    trainer = Trainer(_MAIN, launched[0] / "spec.json", iter([folder / f"beside-{number}"]))
    return launch_s, measure_s(trainer.start)


@contextmanager
def start_stack(folder: Path) -> Iterator[Shell]:
    """A stack in a new folder."""
    folder.mkdir()
    with start_stack_with_digits(folder) as shell:
        yield shell


def wait_for_first_step(run_dir: Path) -> None:
    wait_until(lambda: _has_step(read_records(run_dir)), timeout_s=_TIMEOUT_S, interval_s=0.005)


def _has_step(records: Sequence[dict[str, Any]]) -> bool:
    return any(r["kind"] == "progress" and r["phase"] == "training" for r in records)
