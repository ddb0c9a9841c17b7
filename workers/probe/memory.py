"""Bytes: what a step takes at its peak, what a student keeps, what a pack may have."""

import gc
import re
from pathlib import Path

import psutil
import torch

from workers.training.runner import Runner

_LEFT_FOR_OTHERS = 0.1
_STATUS = Path("/proc/self/status")
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""What a container may have, in either version of the kernel's groups."""


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far; a CPU's process has one for life."""
    if device.type == "cuda":
        # Runners refer to themselves, so those that are done with wait for the collector.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """The most that was taken: of a GPU by torch's allocator, of a host by this whole process.

    What tensors use of a GPU is less: the allocator keeps pieces between them that are too small.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, "Linux says so of every process"
    return int(found[1]) * 1024


def student_bytes(runner: Runner) -> int:
    """Weights, buffers and the optimizer's state: what stays between two steps."""
    tensors = [*runner.model.parameters(), *runner.model.buffers()]
    state = [
        value
        for of_parameter in runner.optimizer.state.values()
        for value in of_parameter.values()
        if isinstance(value, torch.Tensor)
    ]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*tensors, *state))


def available_bytes(device: torch.device) -> int:
    """What is free or ours already, but for a tenth."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        whole = free + torch.cuda.memory_reserved(device)
    else:
        own = psutil.Process().memory_info().rss
        whole = min([psutil.virtual_memory().available + own, *_limits()])
    return int(whole * (1.0 - _LEFT_FOR_OTHERS))


def _limits() -> list[int]:
    texts = [path.read_text(encoding="ascii").strip() for path in _LIMITS if path.is_file()]
    return [int(text) for text in texts if text.isdigit()]
