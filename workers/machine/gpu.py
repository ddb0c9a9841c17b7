"""One GPU: is it usable? Each is examined by a process of its own.

So a GPU that hangs, or whose context is lost, cannot take the others' examination with it; and each
MIG slice is examined, of which CUDA shows a process no more than one.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import torch
from pydantic import Field

from configs.spec.base import Contract
from workers.process.logs import silence_libraries

_TIMEOUT_S = 90.0
"""Starting Python, torch and CUDA takes about 10 s."""

_END_WITHIN_S = 5.0


class GpuReport(Contract):
    """What the examination of one GPU found."""

    selector: str = ""
    """What CUDA_VISIBLE_DEVICES names it by: an index, or a UUID."""

    name: str = ""
    capability: str = ""
    """The compute capability, as "9.0"."""

    memory_bytes: int = 0
    differences: dict[str, float] = Field(default_factory=dict)
    """Of each operator's results from the reference, relative."""

    error: str = ""
    """Why the GPU cannot be used; empty: it can."""

    @property
    def is_usable(self) -> bool:
        """Whether every operator computed the right thing."""
        return not self.error


def examine_gpu(device: torch.device) -> GpuReport:
    """Try the operators on a GPU; what goes wrong is in the report."""
    report = GpuReport()
    try:
        torch.cuda.init()
        properties = torch.cuda.get_device_properties(device)
        report = GpuReport(
            name=properties.name,
            capability=f"{properties.major}.{properties.minor}",
            memory_bytes=properties.total_memory,
        )
        # Imported here: without a GPU the report is there at once, and broken mmcv is reported.
        from workers.machine.operators import check_operators  # noqa: PLC0415

        return report.model_copy(update={"differences": check_operators(device)})
    except Exception as error:
        return report.model_copy(update={"error": _first_line(error)})


def _first_line(error: Exception) -> str:
    """CUDA's errors go on with hints at debugging that help nobody here."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def examine_gpus(selectors: Sequence[str], *, is_from_environment: bool) -> list[GpuReport]:
    """A report for each GPU, all examined at once.

    `is_from_environment` says that CUDA_VISIBLE_DEVICES names them, in the order that CUDA is
    configured for; else they are numbered as by `nvidia-smi`, which is by PCI address.
    """
    order = {} if is_from_environment else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    examine = partial(examine_in_process, environment=order)
    with ThreadPoolExecutor(max_workers=max(len(selectors), 1)) as pool:
        return list(pool.map(examine, selectors))


def examine_in_process(
    selector: str,
    *,
    environment: dict[str, str],
    command: Sequence[str] = (sys.executable, "-m", __name__),
    timeout_s: float = _TIMEOUT_S,
) -> GpuReport:
    """The report of a process that sees this GPU alone; an unanswered question is an error."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment, "CUDA_VISIBLE_DEVICES": selector},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _abandon(process)
        return GpuReport(selector=selector, error=f"no answer within {timeout_s:g} s")
    return _report_from(selector, output, errors, exit_code=process.returncode)


def _abandon(process: subprocess.Popen[str]) -> None:
    """End a process, or go on without it: while it waits for a GPU in the kernel it cannot end."""
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_WITHIN_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _report_from(selector: str, output: str, errors: str, *, exit_code: int) -> GpuReport:
    lines = output.strip().splitlines()
    try:
        report = GpuReport.model_validate_json(lines[-1])
    except (IndexError, ValueError):
        words = (errors.strip() or output.strip()).splitlines()
        reason = words[-1] if words else "no output"
        return GpuReport(selector=selector, error=f"exit code {exit_code}: {reason}")
    return report.model_copy(update={"selector": selector})


if __name__ == "__main__":
    silence_libraries()
    print(examine_gpu(torch.device("cuda", 0)).model_dump_json())  # noqa: T201
