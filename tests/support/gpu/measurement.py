"""Setting up a device for a test, and measuring peak memory and host waits on a GPU."""

import contextlib
import gc
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

import cv2
import torch

from configs.spec.compute import Compute, Resources
from workers.process.device import prepare_device

DeviceKind = Literal["cpu", "cuda"]

_SYNCHRONIZATION = "called a synchronizing CUDA operation"
"""The text of torch's warning in the mode "warn" of `set_sync_debug_mode`."""


@contextlib.contextmanager
def use_device(kind: DeviceKind) -> Iterator[torch.device]:
    """Prepare a device like an attempt, with deterministic kernels in fp32; restore settings."""
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = (cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark)
    try:
        yield prepare_device(Resources(num_gpus=int(kind == "cuda")), Compute())
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv2_threads)
        torch.use_deterministic_algorithms(is_deterministic)
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = flags
        release_memory()


def release_memory() -> None:
    """Free cached GPU memory for processes that a test starts; does nothing without a GPU."""
    if torch.cuda.is_initialized():
        gc.collect()  # runners refer to themselves
        torch.cuda.empty_cache()


def measure_peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Measure the peak bytes of tensors on a GPU while `function` runs; 0 on a CPU."""
    if device.type != "cuda":
        function()
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def count_host_waits(function: Callable[[], object]) -> Counter[str]:
    """Count the host's waits for the GPU while `function` runs, by `file:line`; needs a GPU.

    Reads of values and sizes and copies from memory that is not pinned count;
    `torch.cuda.synchronize` and the calls of torch.distributed do not.
    """
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return count_waits(recorded)


def count_waits(recorded: list[warnings.WarningMessage]) -> Counter[str]:
    """Count torch's synchronization warnings by `file:line`."""
    waits = (entry for entry in recorded if _SYNCHRONIZATION in str(entry.message))
    return Counter(f"{_shorten_path(entry.filename)}:{entry.lineno}" for entry in waits)


def _shorten_path(filename: str) -> str:
    """Make a path relative to site-packages or the project."""
    return re.sub(r"^.*/(site-packages|(?=workers/|tests/))/?", "", filename)


RecordFigure = Callable[[str, float | int | str, str], None]
"""Puts a measured figure (name, value, unit) into the table of `make gpu-check`."""
