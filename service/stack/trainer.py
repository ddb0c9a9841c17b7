"""What the trainer says of this machine, and whether its GPUs may be offered to runs."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.protocol.names import GPUS_FINDING
from service.stack.components import StackConfig

_TIMEOUT_S = 180.0
_RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class CheckResult:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def run_worker_doctor(
    command: Path, *, run: _RunCommand = subprocess.run
) -> tuple[CheckResult, ...]:
    """What the trainer finds: torch, CUDA, compiled ops, versions."""
    try:
        answer = run(
            [str(command), "doctor", "--json"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (_worker_broken(str(error)),)
    try:
        return tuple(CheckResult(**item) for item in json.loads(answer.stdout))
    except (ValueError, TypeError):
        lines = (answer.stderr or answer.stdout).strip().splitlines()
        return (_worker_broken(lines[-1] if lines else f"ended with {answer.returncode}"),)


def check_gpus(
    config: StackConfig, *, root: Path = Path("/"), run: _RunCommand = subprocess.run
) -> CheckResult | None:
    """Why this machine's GPUs must not be offered to runs; none: they may, or there are none.

    Ray counts GPUs by NVML, whether torch can use them or not. The trainer is asked, which takes
    about 10 s, only where `/dev` below `root` shows a GPU that CUDA_VISIBLE_DEVICES does not hide.
    """
    if config.hides_gpus or not _shows_gpu(root):
        return None
    findings = run_worker_doctor(config.bin / "tandem-worker", run=run)
    answer = {finding.name: finding for finding in findings}.get(GPUS_FINDING)
    if answer is None:
        return next(finding for finding in findings if not finding.ok)
    return None if answer.ok else answer


def _shows_gpu(root: Path) -> bool:
    """Files of Linux's driver, or of the one that Windows lends to WSL."""
    return (root / "dev" / "dxg").exists() or any(root.glob("dev/nvidia[0-9]*"))


def _worker_broken(detail: str) -> CheckResult:
    return CheckResult(
        "trainer",
        ok=False,
        detail=f"`tandem-worker doctor` did not answer: {detail}",
        advice="Make the environment again: `make setup`.",
    )
