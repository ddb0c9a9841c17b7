"""From exceptions to causes, and from causes to what a person can do."""

import errno

import pytest
import torch

from configs.spec import FailureReason, advice
from workers.errors import NanLoss
from workers.failures import reason_of

ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 1000000000000 bytes."
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), FailureReason.CUDA_OUT_OF_MEMORY),
        (ALLOCATOR, FailureReason.HOST_OUT_OF_MEMORY),
        (MemoryError(), FailureReason.HOST_OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), FailureReason.DISK_FULL),
        (NanLoss("At step 3"), FailureReason.NAN_LOSS),
        (RuntimeError("shapes do not match"), FailureReason.BUG),
    ],
)
def test_a_cause_is_found(error: Exception, reason: FailureReason) -> None:
    assert reason_of(error) is reason


def test_torchs_own_words_for_no_memory_are_known() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(10**15)

    assert reason_of(failed.value) is FailureReason.HOST_OUT_OF_MEMORY


@pytest.mark.parametrize(
    "reason", [FailureReason.CUDA_OUT_OF_MEMORY, FailureReason.HOST_OUT_OF_MEMORY]
)
def test_out_of_memory_names_batch_size_and_resolution(reason: FailureReason) -> None:
    assert "data.batch_size" in advice(reason)
    assert "data.image_size" in advice(reason)
