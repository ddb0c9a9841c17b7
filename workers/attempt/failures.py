"""From an exception to what the service and people are told about it."""

import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from torch import distributed

from configs.protocol.failure import FailureReason, is_retryable
from configs.protocol.names import ExitCode
from workers.errors import WorkerError
from workers.process.cuda_errors import CudaFailure, classify_cuda_error

_GLOO = "gloo/transport"
"""Where a plain RuntimeError comes from when another process is gone, or silent for too long."""

_SHARED_MEMORY = re.compile(
    r"killed by signal: Bus error|</torch_\w+>|shared memory object|shared memory limit"
)
"""What torch says when batches find no room on their way from the loaders (/dev/shm)."""

_SHARED_MEMORY_ADVICE = (
    "Its loaders ran out of shared memory: give the container more (--shm-size=2g), or set "
    "data.num_workers to 0."
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
        (r"ncclInvalid(Argument|Usage)", FailureReason.BUG),
        (r"DefaultCPUAllocator|Cannot allocate memory", FailureReason.HOST_OUT_OF_MEMORY),
        (r"No space left on device|Disk quota exceeded", FailureReason.DISK_FULL),
        (r"PytorchStreamWriter failed writing", FailureReason.DISK_FULL),
        (r"Input/output error|Stale file handle", FailureReason.NODE_LOST),
        (
            r"NCCL error|NCCL WARN|nccl\w*Error|Watchdog caught collective operation timeout",
            FailureReason.NODE_LOST,
        ),
        (r"Pin memory thread exited unexpectedly", FailureReason.NODE_LOST),
        (
            rf"{_GLOO}|[Cc]onnection (closed|reset) by peer|Dist(Backend|Network|Store)Error",
            FailureReason.NODE_LOST,
        ),
    )
)
"""What libraries say in a plain RuntimeError, or in one that came out of a loader: the first row
whose words are found. A loader's own error has lost its number on the way."""


def classify_error(error: BaseException, *, oom_kills: int = 0) -> FailureReason:
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


def _cuda_failure_behind(error: BaseException) -> CudaFailure | None:
    """What gave an error its reason, if that was CUDA."""
    for link in _chain(error):
        if isinstance(link, WorkerError):
            return None
        if (failure := classify_cuda_error(link)) is not None:
            return failure
    return None


def _own_reason_of(error: BaseException, *, oom_kills: int) -> FailureReason | None:
    if isinstance(error, WorkerError):
        return error.reason
    if (failure := classify_cuda_error(error)) is not None:
        return failure.reason
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


def describe_error(error: BaseException) -> str:
    """What happened, for people, with what to do about it where that depends on the error."""
    said = f"{type(error).__name__}: {error}"
    if _SHARED_MEMORY.search(said):
        return f"{said} {_SHARED_MEMORY_ADVICE}"
    failure = _cuda_failure_behind(error)
    return f"{said} {failure.advice}" if failure is not None and failure.advice else said


def is_sticky(error: BaseException) -> bool:
    """Whether this process cannot use its GPU any more after `error`, as far as its words tell."""
    return any(
        failure is not None and failure.is_sticky
        for failure in (classify_cuda_error(link) for link in _chain(error))
    )


@dataclass(frozen=True)
class FailureCause:
    """Why an attempt failed."""

    reason: FailureReason
    message: str


def diagnose_failure(
    error: BaseException, *, oom_kills: int = 0, foreign_bytes: Callable[[], int] = lambda: 0
) -> FailureCause:
    """Reason and message of a failed attempt that had its GPU to itself.

    `oom_kills`: see `classify_error`. `foreign_bytes` is asked only if the GPU's memory did not do, and
    answers how much of it other processes hold: then the node is at fault, and not the run.
    """
    cause = FailureCause(classify_error(error, oom_kills=oom_kills), describe_error(error))
    if cause.reason is not FailureReason.CUDA_OUT_OF_MEMORY:
        return cause
    foreign = foreign_bytes()
    if foreign == 0:
        return cause
    held = f"{foreign / 2**30:.1f} GiB of the GPU are held by another process."
    return FailureCause(FailureReason.NODE_LOST, f"{held} {cause.message}")


def exit_code_for(reason: FailureReason) -> ExitCode:
    """How the process ends after a failure; where no last word arrives, it has to do alone."""
    if reason is FailureReason.DISK_FULL:
        return ExitCode.DISK_FULL
    if reason is FailureReason.HOST_OUT_OF_MEMORY:
        return ExitCode.OUT_OF_MEMORY
    return ExitCode.INTERRUPTED if is_retryable(reason) else ExitCode.REFUSED


def is_peer_failure(error: BaseException) -> bool:
    """Whether a process fails only because it cannot reach another one: the cause is over there.

    NCCL also reports what happened to the process's own GPU.
    """
    if classify_cuda_error(error) is not None:
        return False
    return isinstance(error, distributed.DistError) or _GLOO in str(error)
