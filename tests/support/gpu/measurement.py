"""A device set up for a test, and what a GPU tells about work done on it: bytes, host waits."""

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
def computing_on(kind: DeviceKind) -> Iterator[torch.device]:
    """The device, prepared as an attempt prepares it with deterministic kernels in fp32."""
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
    """Give the GPU's memory back, for processes that a test starts; none without a GPU."""
    if torch.cuda.is_initialized():
        gc.collect()  # runners refer to themselves
        torch.cuda.empty_cache()


def peak_bytes_of(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes of tensors at a time on a GPU while `work` runs; 0 on a CPU."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def host_waits_of(work: Callable[[], object]) -> Counter[str]:
    """How often the host waits for the GPU while `work` runs, by `file:line`; needs a GPU.

    Counted are reads of values and sizes, and copies from memory that is not pinned; not counted
    are `torch.cuda.synchronize` and what torch.distributed does.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return waits_among(caught)


def waits_among(caught: list[warnings.WarningMessage]) -> Counter[str]:
    """Places of the warnings that say that the host waited, most frequent first."""
    waits = (entry for entry in caught if _SYNCHRONIZATION in str(entry.message))
    return Counter(f"{_short(entry.filename)}:{entry.lineno}" for entry in waits)


def _short(filename: str) -> str:
    """The path below site-packages or the project."""
    return re.sub(r"^.*/(site-packages|(?=workers/|tests/))/?", "", filename)


RecordFigure = Callable[[str, float | int | str, str], None]
"""Puts a measured figure (name, value, unit) into the table of `make gpu-check`."""
