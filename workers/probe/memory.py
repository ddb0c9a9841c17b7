"""Memory in bytes: peak of a step, size of a student, and what is available to a pack."""

import gc
import re
from pathlib import Path

import psutil
import torch

from workers.training.runner import Runner

_RESERVED_FRACTION = 0.1
_PROCESS_STATUS = Path("/proc/self/status")
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Memory limit of a container in cgroup v2 and v1."""


def reset_peak(device: torch.device) -> None:
    """Reset the peak of a GPU; the peak of a process on the CPU cannot be reset."""
    if device.type == "cuda":
        # Runners have reference cycles, so discarded ones are only freed by the collector.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Peak memory reserved by torch's allocator on a GPU, or resident in this process on the CPU.

    Reserved memory includes fragments between the tensors that the allocator cannot use.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    match = re.search(
        r"^VmHWM:\s+(\d+) kB", _PROCESS_STATUS.read_text(encoding="ascii"), re.MULTILINE
    )
    assert match is not None, "Linux reports VmHWM for every process"
    return int(match[1]) * 1024


def student_bytes(runner: Runner) -> int:
    """Size of weights, buffers, EMA and optimizer state, which stay allocated between steps."""
    tensors = [*runner.model.parameters(), *runner.model.buffers()]
    state = [
        value
        for parameter_state in runner.optimizer.state.values()
        for value in parameter_state.values()
        if isinstance(value, torch.Tensor)
    ]
    average_bytes = 0 if runner.ema is None else runner.ema.num_bytes
    return average_bytes + sum(
        tensor.numel() * tensor.element_size() for tensor in (*tensors, *state)
    )


def available_bytes(device: torch.device) -> int:
    """90 % of the memory that is free or already held by this process."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        total = free + torch.cuda.memory_reserved(device)
    else:
        own = psutil.Process().memory_info().rss
        total = min([psutil.virtual_memory().available + own, *_cgroup_limits()])
    return int(total * (1.0 - _RESERVED_FRACTION))


def _cgroup_limits() -> list[int]:
    texts = [path.read_text(encoding="ascii").strip() for path in _CGROUP_LIMITS if path.is_file()]
    return [int(text) for text in texts if text.isdigit()]
