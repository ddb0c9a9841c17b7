"""Exceptions, the failure reasons that they map to, their exit codes and advice."""

import errno
import os

import pytest
import torch
from torch import distributed
from torch.utils.data import DataLoader

from configs.protocol.failure import FailureReason, advice
from configs.protocol.names import ExitCode
from workers.attempt.failures import classify_error, describe_error, exit_code_for
from workers.errors import NanLoss
from workers.training.step import check_finite

R = FailureReason
KILLED = RuntimeError(
    "DataLoader worker (pid 7) is killed by signal: Killed. Details are lost due to "
    "multiprocessing. Rerunning with num_workers=0 may give better error trace."
)
BUS_ERROR = RuntimeError(
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
    "workers are out of shared memory. Please try to raise your shared memory limit."
)
LOADER_ERROR = OSError(
    "Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    "OSError: [Errno 116] Stale file handle: '/data/a.png'\n"
)

CAUSES = [
    (torch.OutOfMemoryError("CUDA out of memory."), R.CUDA_OUT_OF_MEMORY),
    (RuntimeError("CUDA error: out of memory"), R.CUDA_OUT_OF_MEMORY),
    (RuntimeError("cudaErrorMemoryAllocation"), R.CUDA_OUT_OF_MEMORY),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), R.CUDA_OUT_OF_MEMORY),
    (RuntimeError("[..] DefaultCPUAllocator: can't allocate memory"), R.HOST_OUT_OF_MEMORY),
    (MemoryError(), R.HOST_OUT_OF_MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), R.HOST_OUT_OF_MEMORY),
    (BUS_ERROR, R.HOST_OUT_OF_MEMORY),
    (
        RuntimeError("unable to write to file </torch_9_1_0>: No space left on device (28)"),
        R.HOST_OUT_OF_MEMORY,
    ),
    (OSError(errno.ENOSPC, "No space left on device"), R.DISK_FULL),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), R.DISK_FULL),
    (RuntimeError("PytorchStreamWriter failed writing file data/3: file write"), R.DISK_FULL),
    (OSError(errno.EIO, "Input/output error"), R.NODE_LOST),
    (OSError(errno.ESTALE, "Stale file handle"), R.NODE_LOST),
    (LOADER_ERROR, R.NODE_LOST),
    (KILLED, R.NODE_LOST),
    (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), R.NODE_LOST),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), R.NODE_LOST),
    (RuntimeError("CUDA error: unspecified launch failure"), R.NODE_LOST),
    (RuntimeError("NVRM: Xid (PCI:0000:3b:00): 79"), R.NODE_LOST),
    (RuntimeError("NCCL error in: x.cpp:1, unhandled system error"), R.NODE_LOST),
    (RuntimeError("ncclSystemError: System call failed"), R.NODE_LOST),
    (RuntimeError("[/x/gloo/transport/tcp/pair.cc:545] Read error"), R.NODE_LOST),
    (RuntimeError("Connection closed by peer [10.0.0.7]:4711"), R.NODE_LOST),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), R.NODE_LOST),
    (distributed.DistBackendError("the watchdog of the group"), R.NODE_LOST),
    (
        ValueError("Expected more than 1 value per channel when training, got input size [1, 1]"),
        R.INVALID_SPEC,
    ),
    (RuntimeError("CUDA error: device-side assert triggered"), R.BUG),
    (RuntimeError("NCCL error: ncclInvalidUsage"), R.BUG),
    (NanLoss("At step 3"), R.NAN_LOSS),
    (FileNotFoundError(errno.ENOENT, "No such file"), R.BUG),
    (RuntimeError("shapes do not match"), R.BUG),
]


@pytest.mark.parametrize(("error", "reason"), CAUSES, ids=[f"{error!r:.50}" for error, _ in CAUSES])
def test_a_cause_is_found(error: Exception, reason: FailureReason) -> None:
    assert classify_error(error) is reason


def test_the_cause_of_a_consequential_error_is_found() -> None:
    cause = OSError(errno.ENOSPC, "No space left on device")
    error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
    error.__context__ = cause

    assert classify_error(error) is FailureReason.DISK_FULL


def test_an_oom_kill_of_a_loader_is_distinguished_from_another_kill() -> None:
    assert classify_error(KILLED, oom_kills=1) is FailureReason.HOST_OUT_OF_MEMORY
    assert classify_error(RuntimeError("shapes do not match"), oom_kills=1) is FailureReason.BUG


def test_torchs_message_for_no_memory_is_classified() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(10**15)

    assert classify_error(failed.value) is FailureReason.HOST_OUT_OF_MEMORY


class Deadly:
    """A dataset that kills the loader's process."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), 9)
        return index


class Stale(Deadly):
    """A dataset on a disk with a stale file handle."""

    def __getitem__(self, index: int) -> int:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


@pytest.mark.parametrize("dataset", [Deadly(), Stale()], ids=["killed", "stale"])
def test_torchs_message_for_a_failed_loader_is_classified(dataset: Deadly) -> None:
    loader: DataLoader[int] = DataLoader(dataset, num_workers=1)  # type: ignore[arg-type]

    with pytest.raises((RuntimeError, OSError)) as failed:
        next(iter(loader))

    assert classify_error(failed.value) is FailureReason.NODE_LOST


def test_too_little_shared_memory_comes_with_advice() -> None:
    assert "--shm-size" in describe_error(BUS_ERROR)
    assert "--shm-size" not in describe_error(KILLED)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (R.DISK_FULL, ExitCode.DISK_FULL),
        (R.HOST_OUT_OF_MEMORY, ExitCode.OUT_OF_MEMORY),
        (R.STALLED, ExitCode.INTERRUPTED),
        (R.NODE_LOST, ExitCode.INTERRUPTED),
        (R.CUDA_OUT_OF_MEMORY, ExitCode.REFUSED),
        (R.BUG, ExitCode.REFUSED),
    ],
)
def test_the_exit_code_tells_whether_and_why_to_try_again(
    reason: FailureReason, code: ExitCode
) -> None:
    assert exit_code_for(reason) is code


@pytest.mark.parametrize(
    "reason", [FailureReason.CUDA_OUT_OF_MEMORY, FailureReason.HOST_OUT_OF_MEMORY]
)
def test_out_of_memory_names_batch_size_and_resolution(reason: FailureReason) -> None:
    assert "data.batch_size" in advice(reason)
    assert "data.image_size" in advice(reason)


def test_a_loss_that_overflows_in_fp16_names_the_precisions_that_do_not() -> None:
    with pytest.raises(NanLoss) as in_fp16:
        check_finite({"loss_cls": float("inf")}, step=7, is_fp16=True)
    with pytest.raises(NanLoss) as in_fp32:
        check_finite({"loss_cls": float("inf")}, step=7, is_fp16=False)

    assert "compute.precision bf16 or tf32" in describe_error(in_fp16.value)
    assert "compute.precision" not in describe_error(in_fp32.value)
    assert "compute.precision bf16" in advice(FailureReason.NAN_LOSS)


def test_a_batch_of_a_single_pixel_is_answered_with_advice() -> None:
    with pytest.raises(ValueError, match="per channel") as exc_info:
        torch.nn.BatchNorm2d(4)(torch.zeros(1, 4, 1, 1))

    assert classify_error(exc_info.value) is R.INVALID_SPEC
    assert "data.batch_size" in describe_error(exc_info.value)
