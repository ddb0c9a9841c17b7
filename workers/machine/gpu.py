"""Examines each GPU in a process of its own.

A GPU that hangs or loses its context then does not affect the examination of the others, and every
MIG slice can be examined, of which CUDA shows a process only one.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from configs.spec.base import Contract
from workers.errors import summarize_error
from workers.process.logs import silence_libraries

if TYPE_CHECKING:
    import torch

_TIMEOUT_S = 90.0
"""Starting Python, torch and CUDA takes about 10 s."""

_KILL_TIMEOUT_S = 5.0


class GpuReport(Contract):
    """The result of examining one GPU."""

    selector: str = ""
    """Its entry in CUDA_VISIBLE_DEVICES: an index, or a UUID."""

    name: str = ""
    capability: str = ""
    """The compute capability, as "9.0"."""

    memory_bytes: int = 0
    differences: dict[str, float] = Field(default_factory=dict)
    """Relative differences of results from the reference, by operator."""

    error: str = ""
    """Why the GPU cannot be used; empty if it can."""

    @property
    def is_usable(self) -> bool:
        """Whether every operator computed correct results."""
        return not self.error


def examine_gpu(device: "torch.device | str") -> GpuReport:
    """Check the operators on a GPU; never raises, errors are in the report."""
    # Imported here, so that the service's doctor can reuse results without waiting for torch.
    import torch  # noqa: PLC0415

    report = GpuReport()
    try:
        torch.cuda.init()
        properties = torch.cuda.get_device_properties(device)
        report = GpuReport(
            name=properties.name,
            capability=f"{properties.major}.{properties.minor}",
            memory_bytes=properties.total_memory,
        )
        # Imported here, so that it is not needed without a GPU, and a broken mmcv is reported.
        from workers.machine.operators import check_operators  # noqa: PLC0415

        return report.model_copy(update={"differences": check_operators(torch.device(device))})
    except Exception as error:
        return report.model_copy(update={"error": summarize_error(error)})


def examine_gpus(selectors: Sequence[str], *, is_from_environment: bool) -> list[GpuReport]:
    """Examine all GPUs concurrently.

    `is_from_environment`: the selectors come from CUDA_VISIBLE_DEVICES, in the order that CUDA is
    configured for. Otherwise they are indices as in `nvidia-smi`, which orders by PCI address.
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
    """Run the examination in a process that sees only this GPU; a timeout is an error."""
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
    return _parse_report(selector, output, errors, exit_code=process.returncode)


def _abandon(process: subprocess.Popen[str]) -> None:
    """Kill a process without waiting for its end: it may hang in the kernel."""
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_TIMEOUT_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _parse_report(selector: str, output: str, errors: str, *, exit_code: int) -> GpuReport:
    lines = output.strip().splitlines()
    try:
        report = GpuReport.model_validate_json(lines[-1])
    except (IndexError, ValueError):
        lines = (errors.strip() or output.strip()).splitlines()
        reason = lines[-1] if lines else "no output"
        return GpuReport(selector=selector, error=f"exit code {exit_code}: {reason}")
    return report.model_copy(update={"selector": selector})


if __name__ == "__main__":
    silence_libraries()
    print(examine_gpu("cuda:0").model_dump_json())  # noqa: T201
