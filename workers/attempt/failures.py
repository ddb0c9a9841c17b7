"""Classifies exceptions: the failure reason for the service, the message for people."""

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
"""In the text of a plain RuntimeError when a peer has ended or does not answer."""

_SHARED_MEMORY = re.compile(
    r"killed by signal: Bus error|</torch_\w+>|shared memory object|shared memory limit"
)
"""In torch's errors when /dev/shm has no space for the batches of data loaders."""

_SHARED_MEMORY_ADVICE = (
    "The data loaders ran out of shared memory: give the container more (--shm-size=2g), or set "
    "data.num_workers to 0."
)

_SINGLE_VALUE = re.compile(r"Expected more than 1 value per channel when training")
"""In torch's error for batch normalization of one image with one pixel."""

_SINGLE_VALUE_ADVICE = (
    "Batch normalization needs more than one value of each channel, and one image this small has a "
    "single one at stride 32: load at least two images at once (data.batch_size, "
    "divided by resources.processes and compute.grad_accumulation_steps), or larger ones "
    "(data.image_size)."
)

_LOADER_KILLED = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)")

_REASON_BY_ERRNO: Final = {
    errno.ENOSPC: FailureReason.DISK_FULL,
    errno.EDQUOT: FailureReason.DISK_FULL,
    errno.ENOMEM: FailureReason.HOST_OUT_OF_MEMORY,
    errno.EIO: FailureReason.NODE_LOST,
    errno.ESTALE: FailureReason.NODE_LOST,
}

_REASON_BY_TEXT: Final = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
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
        (_SINGLE_VALUE.pattern, FailureReason.INVALID_SPEC),
        (r"Pin memory thread exited unexpectedly", FailureReason.NODE_LOST),
        (
            rf"{_GLOO}|[Cc]onnection (closed|reset) by peer|Dist(Backend|Network|Store)Error",
            FailureReason.NODE_LOST,
        ),
    )
)
"""Patterns in the text of errors without a type of their own; the first match counts. An OSError
that comes out of a data loader has lost its errno."""


def classify_error(error: BaseException, *, oom_kills: int = 0) -> FailureReason:
    """The first failure reason in an exception's chain of causes; `bug` if there is none.

    The chain matters: torch, which writes a file to a full disk, raises an error about its own
    incomplete file while it handles the real one. `oom_kills`: processes that the kernel has
    killed for lack of memory since the attempt started.
    """
    reasons = (_classify_link(link, oom_kills=oom_kills) for link in _chain(error))
    return next((reason for reason in reasons if reason), FailureReason.BUG)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _find_cuda_failure(error: BaseException) -> CudaFailure | None:
    """The CUDA failure that determines the reason; None if something else does."""
    for link in _chain(error):
        if isinstance(link, WorkerError):
            return None
        if (failure := classify_cuda_error(link)) is not None:
            return failure
    return None


def _classify_link(error: BaseException, *, oom_kills: int) -> FailureReason | None:
    if isinstance(error, WorkerError):
        return error.reason
    if (failure := classify_cuda_error(error)) is not None:
        return failure.reason
    if isinstance(error, MemoryError):
        return FailureReason.HOST_OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in _REASON_BY_ERRNO:
        return _REASON_BY_ERRNO[error.errno]
    return _classify_text(error, oom_kills=oom_kills)


def _classify_text(error: BaseException, *, oom_kills: int) -> FailureReason | None:
    text = str(error)
    for pattern, reason in _REASON_BY_TEXT:
        if pattern.search(text):
            return reason
    if _LOADER_KILLED.search(text):
        return FailureReason.HOST_OUT_OF_MEMORY if oom_kills else FailureReason.NODE_LOST
    if isinstance(error, distributed.DistError | ConnectionError):
        return FailureReason.NODE_LOST
    return None


def describe_error(error: BaseException) -> str:
    """A message for people, with advice where it depends on the error."""
    message = f"{type(error).__name__}: {error}"
    if _SHARED_MEMORY.search(message):
        return f"{message} {_SHARED_MEMORY_ADVICE}"
    if _SINGLE_VALUE.search(message):
        return f"{message}. {_SINGLE_VALUE_ADVICE}"
    failure = _find_cuda_failure(error)
    return f"{message} {failure.advice}" if failure is not None and failure.advice else message


def is_sticky(error: BaseException) -> bool:
    """Whether `error` leaves this process without a usable CUDA context, as far as it tells."""
    return any(
        failure is not None and failure.is_sticky
        for failure in (classify_cuda_error(link) for link in _chain(error))
    )


@dataclass(frozen=True)
class FailureCause:
    """The reason of a failure for the service, and its message for people."""

    reason: FailureReason
    message: str


def diagnose_failure(
    error: BaseException, *, oom_kills: int = 0, foreign_bytes: Callable[[], int] = lambda: 0
) -> FailureCause:
    """Reason and message of an attempt that had its GPU to itself.

    `oom_kills`: see `classify_error`. `foreign_bytes` returns how much of the GPU's memory other
    processes hold. It is called only if that memory was exhausted: if they hold any, the node is
    at fault and not the run.
    """
    cause = FailureCause(classify_error(error, oom_kills=oom_kills), describe_error(error))
    if cause.reason is not FailureReason.CUDA_OUT_OF_MEMORY:
        return cause
    foreign = foreign_bytes()
    if foreign == 0:
        return cause
    prefix = f"{foreign / 2**30:.1f} GiB of the GPU are held by another process."
    return FailureCause(FailureReason.NODE_LOST, f"{prefix} {cause.message}")


def exit_code_for(reason: FailureReason) -> ExitCode:
    """The exit code tells the service about a failure whose outcome is not delivered."""
    if reason is FailureReason.DISK_FULL:
        return ExitCode.DISK_FULL
    if reason is FailureReason.HOST_OUT_OF_MEMORY:
        return ExitCode.OUT_OF_MEMORY
    return ExitCode.INTERRUPTED if is_retryable(reason) else ExitCode.REFUSED


def is_peer_failure(error: BaseException) -> bool:
    """Whether a process fails only because it cannot reach another one, which has the cause.

    An NCCL error that names a failure of the process's own GPU is not a peer's.
    """
    if classify_cuda_error(error) is not None:
        return False
    return isinstance(error, distributed.DistError) or _GLOO in str(error)
