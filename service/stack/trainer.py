"""Checks that the worker environment runs: torch, CUDA, GPUs."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.protocol.names import GPUS_FINDING
from service.stack.components import StackConfig

_TIMEOUT_S = 180.0
_RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class CheckResult:
    """Result of one check of `tandem doctor`."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    skipped: bool = False
    """Whether there was nothing to check yet; `advice` says what comes first."""


def run_worker_doctor(
    command: Path,
    *,
    options: Sequence[str] = ("--reuse-proof",),
    env: Mapping[str, str] | None = None,
    run: _RunCommand = subprocess.run,
) -> tuple[CheckResult, ...]:
    """Run `tandem-worker doctor`: torch, CUDA, compiled ops, versions.

    `env`: the environment of runs; None for that of this process.
    """
    try:
        process = run(
            [str(command), "doctor", "--json", *options],
            env=env,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (_worker_failed(str(error)),)
    try:
        return tuple(CheckResult(**item) for item in json.loads(process.stdout))
    except (ValueError, TypeError):
        lines = (process.stderr or process.stdout).strip().splitlines()
        return (_worker_failed(lines[-1] if lines else f"ended with {process.returncode}"),)


def check_gpus(
    config: StackConfig, *, root: Path = Path("/"), run: _RunCommand = subprocess.run
) -> CheckResult | None:
    """Return the failed check of this machine's GPUs; None if they work or there are none.

    Ray counts GPUs by NVML, whether torch can use them or not. `tandem-worker doctor` takes
    some seconds, so it only runs if `root`/dev has a GPU that CUDA_VISIBLE_DEVICES does not hide.
    """
    if config.hides_gpus or not _has_gpu(root):
        return None
    results = run_worker_doctor(config.bin / "tandem-worker", run=run)
    gpus_result = {result.name: result for result in results}.get(GPUS_FINDING)
    if gpus_result is None:
        return next(result for result in results if not result.ok)
    return None if gpus_result.ok else gpus_result


def _has_gpu(root: Path) -> bool:
    """Check the device files of Linux's driver and of WSL."""
    return (root / "dev" / "dxg").exists() or any(root.glob("dev/nvidia[0-9]*"))


def _worker_failed(detail: str) -> CheckResult:
    return CheckResult(
        "trainer",
        ok=False,
        detail=f"`tandem-worker doctor` did not answer: {detail}",
        advice="Make the environment again: `make setup`.",
    )
