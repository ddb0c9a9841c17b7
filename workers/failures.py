"""From an exception to what the service and people are told about it."""

import errno
import re
from collections.abc import Iterator
from typing import Final

import torch
from torch import distributed

from configs.spec import ExitCode, FailureReason, is_retryable
from workers.errors import WorkerError

_GLOO = "gloo/transport"
"""Where a plain RuntimeError comes from when another process is gone, or silent for too long."""

_SHARED_MEMORY = re.compile(
    r"killed by signal: Bus error|</torch_\w+>|shared memory object|shared memory limit"
)
"""What torch says when batches find no room on their way from the loaders (/dev/shm)."""

_SHARED_MEMORY_ADVICE = (
    "Its loaders ran out of shared memory: give the container more (--shm-size=2g), or set "
    "data.loader_workers to 0."
)

_LOADER_WAS_KILLED = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)")

_REASON_BY_ERRNO: Final = {
    errno.ENOSPC: FailureReason.DISK_FULL,
    errno.EDQUOT: FailureReason.DISK_FULL,
    errno.ENOMEM: FailureReason.HOST_OUT_OF_MEMORY,
    errno.EIO: FailureReason.NODE_LOST,
    errno.ESTALE: FailureReason.NODE_LOST,
}

_REASON_BY_WORDS: Final = tuple(
    (re.compile(words), reason)
    for words, reason in (
        (_SHARED_MEMORY.pattern, FailureReason.HOST_OUT_OF_MEMORY),
        (r"device-side assert|ncclInvalid(Argument|Usage)", FailureReason.BUG),
        (
            r"CUDA(?: error:)? out of memory|cudaErrorMemoryAllocation|_STATUS_ALLOC_FAILED",
            FailureReason.CUDA_OUT_OF_MEMORY,
        ),
        (r"DefaultCPUAllocator|Cannot allocate memory", FailureReason.HOST_OUT_OF_MEMORY),
        (r"No space left on device|Disk quota exceeded", FailureReason.DISK_FULL),
        (r"PytorchStreamWriter failed writing", FailureReason.DISK_FULL),
        (r"Input/output error|Stale file handle", FailureReason.NODE_LOST),
        (
            r"uncorrectable|\bECC\b|unspecified launch failure|\bXid\b|NCCL error|nccl\w*Error",
            FailureReason.NODE_LOST,
        ),
        (
            rf"{_GLOO}|[Cc]onnection (closed|reset) by peer|Dist(Backend|Network|Store)Error",
            FailureReason.NODE_LOST,
        ),
    )
)
"""What libraries say in a plain RuntimeError, or in one that came out of a loader: the first row
whose words are found. A loader's own error has lost its number on the way."""


def reason_of(error: BaseException, *, oom_kills: int = 0) -> FailureReason:
    """The cause of a failed attempt; `bug` is what nobody foresaw.

    What says nothing by itself may have come while another was handled: torch, which writes a file
    to a full disk, at last complains of its own half file. `oom_kills`: processes that the kernel
    has killed for lack of memory since the attempt began.
    """
    found = (_own_reason_of(link, oom_kills=oom_kills) for link in _chain(error))
    return next((reason for reason in found if reason), FailureReason.BUG)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _own_reason_of(error: BaseException, *, oom_kills: int) -> FailureReason | None:
    if isinstance(error, WorkerError):
        return error.reason
    if isinstance(error, torch.OutOfMemoryError):
        return FailureReason.CUDA_OUT_OF_MEMORY
    if isinstance(error, MemoryError):
        return FailureReason.HOST_OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in _REASON_BY_ERRNO:
        return _REASON_BY_ERRNO[error.errno]
    return _reason_by_words(error, oom_kills=oom_kills)


def _reason_by_words(error: BaseException, *, oom_kills: int) -> FailureReason | None:
    words = str(error)
    for pattern, reason in _REASON_BY_WORDS:
        if pattern.search(words):
            return reason
    if _LOADER_WAS_KILLED.search(words):
        return FailureReason.HOST_OUT_OF_MEMORY if oom_kills else FailureReason.NODE_LOST
    if isinstance(error, distributed.DistError | ConnectionError):
        return FailureReason.NODE_LOST
    return None


def message_of(error: BaseException) -> str:
    """What happened, in one line for people."""
    said = f"{type(error).__name__}: {error}"
    return f"{said} {_SHARED_MEMORY_ADVICE}" if _SHARED_MEMORY.search(said) else said


def exit_code_of(reason: FailureReason) -> ExitCode:
    """How the process ends after a failure; where no last word arrives, it has to do alone."""
    if reason is FailureReason.DISK_FULL:
        return ExitCode.DISK_FULL
    if reason is FailureReason.HOST_OUT_OF_MEMORY:
        return ExitCode.OUT_OF_MEMORY
    return ExitCode.INTERRUPTED if is_retryable(reason) else ExitCode.REFUSED


def is_others_end(error: BaseException) -> bool:
    """Whether a process fails only because it cannot reach another one: the cause is over there."""
    return isinstance(error, distributed.DistError) or _GLOO in str(error)
