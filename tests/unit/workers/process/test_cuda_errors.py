"""Causes of errors of CUDA, cuDNN, cuBLAS, NCCL and the driver, by code and message."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import distributed

from configs.protocol.failure import FailureReason
from workers.attempt.failures import classify_error, describe_error, is_peer_failure, is_sticky
from workers.process.cuda_errors import classify_cuda_error

OOM, LOST, BUG = (
    FailureReason.CUDA_OUT_OF_MEMORY,
    FailureReason.NODE_LOST,
    FailureReason.BUG,
)
STICKY, USABLE = True, False

CODES = {
    1: (BUG, USABLE),
    2: (OOM, USABLE),
    3: (LOST, STICKY),
    9: (BUG, USABLE),
    34: (LOST, STICKY),
    35: (LOST, STICKY),
    36: (LOST, STICKY),
    46: (LOST, STICKY),
    49: (LOST, STICKY),
    98: (LOST, USABLE),
    100: (LOST, STICKY),
    101: (LOST, STICKY),
    102: (LOST, STICKY),
    103: (LOST, STICKY),
    127: (LOST, STICKY),
    200: (LOST, USABLE),
    201: (BUG, STICKY),
    209: (LOST, USABLE),
    214: (LOST, STICKY),
    218: (LOST, USABLE),
    220: (LOST, STICKY),
    221: (LOST, USABLE),
    222: (LOST, USABLE),
    223: (LOST, USABLE),
    226: (LOST, STICKY),
    302: (LOST, STICKY),
    303: (LOST, STICKY),
    304: (LOST, STICKY),
    400: (BUG, USABLE),
    700: (BUG, STICKY),
    701: (BUG, USABLE),
    702: (LOST, STICKY),
    709: (LOST, STICKY),
    710: (BUG, STICKY),
    714: (LOST, STICKY),
    715: (LOST, STICKY),
    716: (BUG, STICKY),
    717: (BUG, STICKY),
    718: (LOST, STICKY),
    719: (LOST, STICKY),
    720: (BUG, USABLE),
    721: (BUG, STICKY),
    800: (BUG, USABLE),
    801: (LOST, USABLE),
    802: (LOST, STICKY),
    803: (LOST, STICKY),
    804: (LOST, STICKY),
    805: (LOST, STICKY),
    806: (LOST, STICKY),
    807: (LOST, STICKY),
    808: (LOST, STICKY),
    809: (LOST, STICKY),
    810: (LOST, STICKY),
    911: (LOST, STICKY),
    999: (LOST, STICKY),
}
MESSAGES = [
    ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of", OOM, USABLE),
    ("cudaErrorMemoryAllocation", OOM, USABLE),
    ("cuMemMap failed CUDA driver error: out of memory", OOM, USABLE),
    ("expandable_segments: memory mapping failed with OOM on device 0", OOM, USABLE),
    ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OOM, USABLE),
    ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`", OOM, USABLE),
    ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", OOM, USABLE),
    ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", OOM, USABLE),
    ("FIND was unable to find an engine to execute this computation", OOM, USABLE),
    ("GET was unable to find an engine to execute this computation", OOM, USABLE),
    ("Unable to find a valid cuDNN algorithm to run convolution", OOM, USABLE),
    (
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        FailureReason.HOST_OUT_OF_MEMORY,
        USABLE,
    ),
    ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", LOST, USABLE),
    ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART", LOST, USABLE),
    ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", LOST, USABLE),
    ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH", LOST, USABLE),
    ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER", LOST, STICKY),
    ("cuDNN error: CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED", LOST, STICKY),
    ("cuDNN error: CUDNN_STATUS_BAD_PARAM", BUG, USABLE),
    ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", LOST, USABLE),
    ("CUDA error: CUBLAS_STATUS_ARCH_MISMATCH", LOST, USABLE),
    ("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`", BUG, USABLE),
    ("No CUDA GPUs are available", LOST, STICKY),
    ("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet", LOST, STICKY),
    ("CUDA unknown error - this may be due to an incorrectly set up environment", LOST, STICKY),
    ("Found no NVIDIA driver on your system.", LOST, STICKY),
    ("The NVIDIA driver on your system is too old (found version 12040).", LOST, STICKY),
    ("CUDA error: all CUDA-capable devices are busy or unavailable", LOST, STICKY),
    ("CUDA driver error: unknown error", LOST, STICKY),
    ("CUDA error: an NVLink error", LOST, STICKY),
    ("CUDA error: GPU is lost", LOST, STICKY),
    ("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", LOST, STICKY),
    ("nms is not compiled with GPU support", LOST, USABLE),
    ("nms_impl: implementation for device cuda:0 not found.", LOST, USABLE),
    ("Torch not compiled with CUDA enabled", LOST, USABLE),
    ("NCCL error in: a.cpp:1, unhandled cuda error (run with NCCL_DEBUG=INFO)", LOST, STICKY),
    (
        "NCCL error in: a.cpp:1, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        OOM,
        USABLE,
    ),
    (
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\n"
        "Cuda failure 'an illegal memory access was encountered'",
        BUG,
        STICKY,
    ),
    ("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)", LOST, USABLE),
    ("NCCL WARN unhandled system error", LOST, USABLE),
    ("CUDA error: device not ready", BUG, USABLE),
    ("Cannot re-initialize CUDA in forked subprocess.", BUG, USABLE),
]


@pytest.fixture(scope="module")
def description() -> Callable[[int], str]:
    """Gets the installed CUDA runtime's message for a code, which needs no GPU."""
    packages = Path(torch.__file__).parents[1]
    (library,) = packages.glob("nvidia/*/lib/libcudart.so.*")
    describe = ctypes.CDLL(str(library)).cudaGetErrorString
    describe.restype = ctypes.c_char_p
    return lambda code: describe(code).decode()


def make_error(code: int, message: str = "CUDA error: words that are not known") -> RuntimeError:
    error = torch.AcceleratorError(message)
    vars(error)["error_code"] = code  # as torch does
    return error


@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_a_code_has_a_cause_whatever_the_message(
    code: int, expected: tuple[FailureReason, bool]
) -> None:
    error = make_error(code)

    assert (classify_error(error), is_sticky(error)) == expected


@pytest.mark.parametrize("prefix", ["CUDA error: ", "CUDA driver error: ", "Cuda failure 7 '"])
@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_the_runtimes_description_of_a_code_means_the_same(
    code: int,
    expected: tuple[FailureReason, bool],
    prefix: str,
    description: Callable[[int], str],
) -> None:
    error = RuntimeError(f"{prefix}{description(code)}\nCUDA kernel errors might be asynchronous")

    assert (classify_error(error), is_sticky(error)) == expected


@pytest.mark.parametrize(
    ("message", "reason", "sticky"), MESSAGES, ids=[row[0][:50] for row in MESSAGES]
)
def test_messages_without_a_code_have_a_cause(
    message: str, reason: FailureReason, sticky: bool
) -> None:
    error = RuntimeError(message)

    assert (classify_error(error), is_sticky(error)) == (reason, sticky)


def test_a_code_takes_precedence_over_the_message() -> None:
    error = make_error(2, "CUDA error: device-side assert triggered")

    assert classify_error(error) is OOM
    assert not is_sticky(error)


def test_an_error_of_something_else_is_not_of_cuda() -> None:
    assert classify_cuda_error(RuntimeError("out of memory: the host's")) is None
    assert classify_cuda_error(OSError("Input/output error")) is None
    assert classify_cuda_error(make_error(1)) is None


def test_a_sticky_cause_makes_a_consequential_error_sticky() -> None:
    error = KeyError("loss")
    error.__context__ = make_error(700)

    assert is_sticky(error)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (make_error(209), "CUDA_ARCHITECTURES"),
        (
            RuntimeError("nms_impl: implementation for device cuda:0 not found."),
            "CUDA_ARCHITECTURES",
        ),
        (make_error(803), "tandem-worker doctor"),
        (make_error(801), "expandable_segments:False"),
        (make_error(710), "CUDA_LAUNCH_BLOCKING"),
    ],
)
def test_a_message_says_what_to_do_where_it_depends_on_the_error(
    error: Exception, advice: str
) -> None:
    assert advice in describe_error(error)


def test_a_process_whose_own_gpu_fails_inside_of_nccl_does_not_blame_another() -> None:
    own = distributed.DistBackendError("NCCL error, Last error: Cuda failure 2 'out of memory'")
    peers = distributed.DistBackendError("NCCL error: remote process exited or network error")

    assert not is_peer_failure(own)
    assert is_peer_failure(peers)
