"""From an exception to what the service and people are told about it."""

import errno

import torch

from configs.spec import ExitCode, FailureReason, is_retryable
from workers.errors import WorkerError

_CPU_ALLOCATOR = "DefaultCPUAllocator"
"""How torch says in a plain RuntimeError that the machine has no more memory."""


def reason_of(error: BaseException) -> FailureReason:
    """The cause of a failed attempt; `bug` is what nobody foresaw."""
    if isinstance(error, WorkerError):
        return error.reason
    if isinstance(error, torch.OutOfMemoryError):
        return FailureReason.CUDA_OUT_OF_MEMORY
    if isinstance(error, MemoryError) or _CPU_ALLOCATOR in str(error):
        return FailureReason.HOST_OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return FailureReason.DISK_FULL
    return FailureReason.BUG


def message_of(error: BaseException) -> str:
    """What happened, in one line for people."""
    return f"{type(error).__name__}: {error}"


def exit_code_of(reason: FailureReason) -> ExitCode:
    """How the process ends after a failure."""
    return ExitCode.INTERRUPTED if is_retryable(reason) else ExitCode.REFUSED
