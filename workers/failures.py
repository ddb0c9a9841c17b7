"""From an exception to what the service and people are told about it."""

import errno

import torch

from configs.spec import ExitCode, FailureReason, is_retryable
from workers.errors import WorkerError


def reason_of(error: BaseException) -> FailureReason:
    """The cause of a failed attempt; `bug` is what nobody foresaw."""
    if isinstance(error, WorkerError):
        return error.reason
    if isinstance(error, torch.OutOfMemoryError):
        return FailureReason.CUDA_OUT_OF_MEMORY
    if isinstance(error, MemoryError):
        return FailureReason.HOST_OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return FailureReason.DISK_FULL
    return FailureReason.BUG


def exit_code_of(reason: FailureReason) -> ExitCode:
    """How the process ends after a failure."""
    return ExitCode.INTERRUPTED if is_retryable(reason) else ExitCode.REFUSED
