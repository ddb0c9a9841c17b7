"""This process's CUDA context: its memory, whether it still works, and how to exit without it.

None of these calls creates a context in a process that has none.
"""

import gc
import logging
from typing import Any, NoReturn, Protocol

import torch

from configs.protocol.names import ExitCode
from workers import distributed
from workers.process.children import kill_process_tree

_OWN_OVERHEAD_BYTES = 1 << 30
"""Upper bound of what a context, its kernels, cuBLAS and cuDNN occupy outside of torch's allocator.
NCCL's buffers occupy as much again."""

log = logging.getLogger(__name__)


class GpuContext(Protocol):
    """What is needed of the GPU after a failure."""

    def is_usable(self) -> bool:
        """Whether the context still works; waits for pending kernels, where failures show."""

    def release_memory(self) -> None:
        """Free unreferenced memory; never raises."""

    def foreign_bytes(self) -> int:
        """Memory that other processes occupy; 0 if it may be our own overhead."""

    def exit_process(self, code: ExitCode) -> NoReturn:
        """End this process at once, without any further call of CUDA."""


class CudaContext:
    """Implements `GpuContext` for the current device."""

    def __init__(self, cuda: Any = torch.cuda) -> None:
        """`cuda` provides the functions of `torch.cuda`."""
        self._cuda = cuda

    def is_usable(self) -> bool:
        if not self._cuda.is_initialized():
            return True
        try:
            self._cuda.synchronize()
        except RuntimeError:
            log.exception("The CUDA context is unusable.")
            return False
        return True

    def release_memory(self) -> None:
        gc.collect()  # a student and its hooks refer to each other
        if not self._cuda.is_initialized():
            return
        try:
            self._cuda.empty_cache()
        except RuntimeError:
            log.exception("The GPU's memory could not be released.")

    def foreign_bytes(self) -> int:
        """What the driver counts as used, less what torch and its libraries occupy."""
        if not self._cuda.is_initialized():
            return 0
        try:
            free, total = self._cuda.mem_get_info()
        except RuntimeError:
            log.exception("The GPU's free memory cannot be read.")
            return 0
        foreign: int = total - free - self._cuda.memory_reserved()
        overhead = _OWN_OVERHEAD_BYTES * (1 if distributed.get_world_size() == 1 else 2)
        return foreign if foreign > overhead else 0

    def exit_process(self, code: ExitCode) -> NoReturn:
        """Python's own exit would free tensors, which may call CUDA and then abort or hang."""
        kill_process_tree(code)
