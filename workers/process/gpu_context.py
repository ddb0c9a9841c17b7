"""This process's CUDA context: its memory, whether it still works, and the way out if it does not.

A process that does not use a GPU makes no context by asking.
"""

import gc
import logging
from typing import Any, NoReturn, Protocol

import torch

from configs.protocol.names import ExitCode
from workers import distributed
from workers.process.children import kill_process_tree

_OWN_OVERHEAD_BYTES = 1 << 30
"""What a context, its kernels, cuBLAS and cuDNN take at most beside torch's allocator; NCCL's
buffers take as much again."""

log = logging.getLogger(__name__)


class GpuContext(Protocol):
    """What an attempt asks of its GPU when something has failed."""

    def is_usable(self) -> bool:
        """Whether work can still be done on it."""

    def release_memory(self) -> None:
        """Give back what nobody refers to any more; raises nothing."""

    def foreign_bytes(self) -> int:
        """Memory of the GPU that other processes hold; 0 if it is too little to be sure."""

    def exit_process(self, code: ExitCode) -> NoReturn:
        """End this process at once, without another call to CUDA."""


class CudaContext:
    """Implements `GpuContext` for the current device."""

    def __init__(self, cuda: Any = torch.cuda) -> None:
        """`cuda` has torch.cuda's functions."""
        self._cuda = cuda

    def is_usable(self) -> bool:
        """Waits for the work that was given to the device, which is where a failure shows."""
        if not self._cuda.is_initialized():
            return True
        try:
            self._cuda.synchronize()
        except RuntimeError:
            log.exception("The GPU cannot be used any more.")
            return False
        return True

    def release_memory(self) -> None:
        """Collects cycles first: a student and its hooks refer to each other."""
        gc.collect()
        if not self._cuda.is_initialized():
            return
        try:
            self._cuda.empty_cache()
        except RuntimeError:
            log.exception("The GPU's memory could not be given back.")

    def foreign_bytes(self) -> int:
        """By the driver's count of what is taken, less what torch and its libraries have."""
        if not self._cuda.is_initialized():
            return 0
        try:
            free, total = self._cuda.mem_get_info()
        except RuntimeError:
            log.exception("The GPU does not say how much memory is free.")
            return 0
        foreign: int = total - free - self._cuda.memory_reserved()
        overhead = _OWN_OVERHEAD_BYTES * (1 if distributed.get_world_size() == 1 else 2)
        return foreign if foreign > overhead else 0

    def exit_process(self, code: ExitCode) -> NoReturn:
        """Python's own end would free tensors, and freeing may call CUDA, which aborts or hangs."""
        kill_process_tree(code)
